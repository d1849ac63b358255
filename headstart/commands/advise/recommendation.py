"""From evidence to advice: which strategy, which cut, which regularization. Pure."""

from dataclasses import dataclass, field
from typing import Any, Literal

from headstart.commands.advise.evidence import Evidence, Probe

Strategy = Literal["freeze", "last_block", "all", "scratch"]

MANY_PER_CLASS = 100
"""Training images of the smallest class at and above which there are many of them."""

INFORMATIVE = 1.0
"""Nats that the ImageNet class must tell about an image for the images to resemble ImageNet's.

Source: measured by bench/advise.py: 2.1 on photos of cats and dogs, 0.8 on small gray faces, 0.2
on digits.
"""

ENOUGH = 0.99
"""Accuracy within a point of perfect, where nothing is left to gain."""

EPOCHS: dict[Strategy, int] = {"freeze": 0, "last_block": 10, "all": 20, "scratch": 60}

_FINETUNING: dict[Strategy, dict[str, Any]] = {
    "freeze": {},
    "last_block": {"learning_rate": 1e-4, "weight_decay": 0.05, "patience": 3},
    "all": {"learning_rate": 3e-4, "weight_decay": 0.05, "patience": 5},
    "scratch": {"learning_rate": 1e-3, "weight_decay": 0.05, "patience": 10},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyCost:
    """What a strategy takes on this machine.

    Attributes:
        strategy: Which.
        learning: Share of the backbone's parameters that are trained.
        multiply_adds: Of the whole run; a training step counts as three forward passes.
        minutes: Time of the whole run.
    """

    strategy: Strategy
    learning: float
    multiply_adds: float
    minutes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """The advice.

    Attributes:
        case: Which of four cases the data are: few or many images, similar to ImageNet or not.
        strategy: What to train.
        cut: Where to take the features of the head.
        l2: Penalty of the linear head.
        reasons: The reasons, one sentence each.
        changes: Values for params.yaml by dotted key.
    """

    case: str
    strategy: Strategy
    cut: str
    l2: float
    reasons: tuple[str, ...]
    changes: dict[str, Any] = field(default_factory=dict)


def recommend(evidence: Evidence) -> Recommendation:
    """Place the data in the four cases and choose a strategy.

    Source: the four cases: Karpathy, CS231n, "Transfer Learning: When and how to fine-tune?".
    """
    last = evidence.probes[0]
    best = max(evidence.probes, key=lambda probe: (probe.accuracy, -probe.log_loss))
    # Among cuts that the held-out images cannot tell apart, the last is the usual choice.
    earlier = best.interval[0] > last.accuracy
    chosen = best if earlier else last
    many = evidence.per_class >= MANY_PER_CLASS
    similar, resemblance = _resembles(evidence, best, earlier=earlier)
    amount = (
        f"{'many' if many else 'few'} images: {evidence.per_class} for training in the smallest "
        f"class ({MANY_PER_CLASS} or more are many)"
    )
    case = f"{'many' if many else 'few'} images, {'similar to' if similar else 'unlike'} ImageNet"
    strategy, why = _strategy(evidence, chosen, many=many, similar=similar)
    if strategy != "freeze":
        # Training adapts the last layers, however little they suit the data now.
        chosen = last
    return Recommendation(
        case=case,
        strategy=strategy,
        cut=chosen.cut,
        l2=chosen.l2,
        reasons=(amount, resemblance, why),
        changes=changes_for(strategy, chosen, evidence.last),
    )


def changes_for(strategy: Strategy, probe: Probe, last: str) -> dict[str, Any]:
    """Return the values of params.yaml by dotted key that follow a strategy.

    Args:
        strategy: What to train.
        probe: Where the head's features are taken, and its penalty.
        last: The last feature layer.
    """
    changes: dict[str, Any] = {
        "extract.layer": "auto" if probe.cut == last else probe.cut,
        "extract.pooling": "avg",
        "train.heads.logistic.l2": probe.l2,
        "finetune.unfreeze": "none" if strategy == "freeze" else strategy,
    }
    if strategy != "freeze":
        changes["finetune.head"] = "logistic"
        changes["finetune.epochs"] = EPOCHS[strategy]
        changes |= {f"finetune.{key}": value for key, value in _FINETUNING[strategy].items()}
    return changes


def _resembles(evidence: Evidence, best: Probe, *, earlier: bool) -> tuple[bool, str]:
    last = evidence.probes[0]
    if earlier:
        return False, (
            f"unlike ImageNet: the features at {best.cut} do better than the last "
            f"({best.accuracy:.1%} against {last.accuracy:.1%} of held-out images)"
        )
    if evidence.similarity is None:
        return True, "similar to ImageNet: no earlier features do better than the last"
    information = evidence.similarity.information
    similar = information >= INFORMATIVE
    return similar, (
        f"{'similar to' if similar else 'unlike'} ImageNet: the backbone's own class of an image "
        f"tells {information:.1f} nats about it ({INFORMATIVE:g} or more is similar)"
    )


def _strategy(
    evidence: Evidence, chosen: Probe, *, many: bool, similar: bool
) -> tuple[Strategy, str]:
    if chosen.interval[1] >= ENOUGH:
        return "freeze", (
            f"a linear head on the frozen backbone may already be within a point of perfect "
            f"({chosen.accuracy:.1%}, interval {chosen.interval[0]:.1%} to "
            f"{chosen.interval[1]:.1%}): no gain could be shown"
        )
    if not evidence.pretrained:
        return "scratch", "the weights are random: there is nothing to keep frozen"
    if not many:
        return "freeze", "with few images, a trainable backbone would memorize them"
    if similar:
        return (
            "last_block",
            "the lower layers suit the images; the last ones can be adapted to them",
        )
    return "all", "the images differ from the backbone's, and there are enough to adapt all of it"


def costs(evidence: Evidence) -> tuple[StrategyCost, ...]:
    """Return what each strategy takes: one pass of all images, then epochs over the training."""
    network, n_train = evidence.network, evidence.n_train
    once = network.multiply_adds * evidence.n_images
    seconds_once = network.forward_seconds * evidence.n_images
    start = network.blocks[0] if network.blocks else None
    top = network.multiply_adds - (start.multiply_adds_below if start else 0)
    top_share = start.parameters_above / network.parameters if start else 1.0
    steps = {
        "freeze": (0.0, 0, 0.0),
        "last_block": (top_share, top, network.last_block_seconds),
        "all": (1.0, network.multiply_adds, network.all_seconds),
        "scratch": (1.0, network.multiply_adds, network.all_seconds),
    }
    found = []
    for strategy, epochs in EPOCHS.items():
        learning, multiply_adds, seconds = steps[strategy]
        found.append(
            StrategyCost(
                strategy=strategy,
                learning=learning,
                multiply_adds=once + 3.0 * multiply_adds * n_train * epochs,
                minutes=(seconds_once + seconds * n_train * epochs) / 60,
            )
        )
    return tuple(found)
