"""From what was measured to advice: which strategy and which cut. Pure."""

from dataclasses import dataclass, field
from typing import Any, Literal

from headstart.commands.advise.evidence import Evidence, Probe
from headstart.commands.advise.search import WORTH, Found, Trial
from headstart.commands.advise.strategies import Arm, Size, finetuning_of

Strategy = Literal["freeze", "last_block", "all", "scratch"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """The advice.

    Attributes:
        case: Which of four cases the data turned out to be: few or many images, similar to
            ImageNet or not. It explains the advice and decides nothing.
        strategy: What to train.
        cut: Where to take the features of the head.
        reasons: The reasons, one sentence each.
        changes: Values for params.yaml by dotted key.
    """

    case: str
    strategy: Strategy
    cut: str
    reasons: tuple[str, ...]
    changes: dict[str, Any] = field(default_factory=dict)


def recommend(evidence: Evidence, found: Found, full: dict[Arm, Size]) -> Recommendation:
    """Fine-tune where `WORTH` is to be expected of it; else the frozen backbone is cheaper.

    Args:
        evidence: What the frozen backbone reaches.
        found: What pilots gained over it.
        full: What a whole run of each way of fine-tuning takes.
    """
    frozen, best = evidence.frozen, found.best
    wins = best is not None and best.expected_gain >= WORTH
    blind = not evidence.pretrained and not found.trials
    amount, why = _amount(evidence, found, blind=blind)
    similar, resemblance = _resembles(evidence)
    reasons = (amount, resemblance, why)
    case = f"{'many' if wins else 'few'} images, {'similar to' if similar else 'unlike'} ImageNet"
    if not found.trials:
        case = f"{'similar to' if similar else 'unlike'} ImageNet"
    if wins or blind:
        arm = best.arm if best is not None else next(iter(full))
        return Recommendation(
            case=case,
            strategy=arm.unfreeze,
            cut=arm.cut,
            reasons=reasons,
            changes=changes_for(arm, full[arm], evidence),
        )
    return Recommendation(
        case=case,
        strategy="freeze",
        cut=frozen.cut,
        reasons=reasons,
        changes=changes_frozen(frozen, evidence),
    )


def nothing_to_try(frozen: Probe, minutes: float, *, pretrained: bool) -> str | None:
    """Return why no pilot is run; None where some are wanted.

    Args:
        frozen: The best that the frozen backbone reaches.
        minutes: What pilots may take.
        pretrained: Whether the weights were trained.
    """
    if pretrained and 1 - frozen.score < WORTH:
        return f"none was run, since less than {100 * WORTH:g} point is left to gain"
    return None if minutes else "none was run, as --minutes 0 asks for"


def changes_frozen(probe: Probe, evidence: Evidence) -> dict[str, Any]:
    """Return the values of params.yaml by dotted key for a frozen backbone.

    Args:
        probe: Where the head's features are taken.
        evidence: What it is one of.
    """
    return {**_head(probe.cut, evidence), "finetune.unfreeze": "none"}


def changes_for(arm: Arm, size: Size, evidence: Evidence) -> dict[str, Any]:
    """Return the values of params.yaml by dotted key for a way of fine-tuning.

    Args:
        arm: Which.
        size: Of the whole run.
        evidence: Of the frozen backbone.
    """
    finetuning = finetuning_of(arm, size)
    return {
        **_head(arm.cut, evidence),
        **{f"finetune.{key}": value for key, value in finetuning.items()},
    }


def _head(cut: str, evidence: Evidence) -> dict[str, Any]:
    pooling = next(probe.pooling for probe in evidence.probes if probe.cut == cut)
    return {
        "extract.layer": "auto" if cut == evidence.last else cut,
        "extract.pooling": pooling,
        # A head that may choose does better than at what suited the images of one day.
        "train.heads.logistic.l2": "auto",
    }


def _resembles(evidence: Evidence) -> tuple[bool, str]:
    last, frozen = evidence.probes[0], evidence.frozen
    if evidence.earlier_is_better:
        best = max(evidence.probes, key=lambda probe: probe.gain)
        return False, (
            f"unlike ImageNet: on the same held-out images the features at {best.cut} do better "
            f"than those of the last layer, {last.cut} ({best.accuracy:.1%} against "
            f"{last.accuracy:.1%}, {points(best.gain, best.gain_interval)} points)"
        )
    if frozen.cut != last.cut:
        return True, (
            f"similar to ImageNet, as far as can be told: a tie between cuts. {frozen.cut}, "
            f"{points(frozen.gain, frozen.gain_interval)} points, cannot be told from the last "
            f"layer, {last.cut}, on these images; either will do"
        )
    return True, f"similar to ImageNet: no earlier cut does better than the last layer, {last.cut}"


def _amount(evidence: Evidence, found: Found, *, blind: bool) -> tuple[str, str]:
    """Return whether the images were enough to train on, and why that strategy."""
    frozen, best = evidence.frozen, found.best
    counted = f"{evidence.per_class} for training in the smallest class"
    if not found.trials:
        if blind:
            return counted, f"the weights are random: there is nothing to keep frozen; {found.why}"
        return counted, f"{found.why}: this goes by the linear heads on frozen features alone"
    worth = f"{100 * WORTH:g} point"
    if best is not None and best.expected_gain >= WORTH:
        low, _ = best.interval
        sure = "fine-tuning pays" if low > 0 else "not certain, but fine-tuning is the better bet"
        return (
            f"many images: {counted}, enough to train the backbone on",
            f"{_told(best)}; {100 * best.expected_gain:.1f} are to be expected on other images: "
            f"{sure}",
        )
    tried = max(found.trials, key=lambda trial: trial.expected_gain)
    low, high = tried.interval
    if high < 0:
        verdict = "it does worse"
    elif low > 0:
        verdict = f"a gain, but less than {worth} is to be expected on other images"
    else:
        verdict = "a tie: on these images the two cannot be told apart"
    return (
        f"few images: {counted}; nothing that was tried is expected to learn {worth} more from "
        "them",
        f"{_told(tried)}. {verdict[0].upper()}{verdict[1:]}, and the frozen backbone, with "
        f"{frozen.accuracy:.1%} of held-out images right, needs no training",
    )


def _told(trial: Trial) -> str:
    arm = trial.arm
    return (
        f"the best way of fine-tuning ({arm.unfreeze} up to {arm.cut}, learning rate "
        f"{arm.learning_rate:g}) came out {points(trial.gain, trial.interval)} points against the "
        f"frozen backbone on {trial.images} held-out images"
    )


def points(gain: float, interval: tuple[float, float]) -> str:
    """Return a gain in points with its 95 % interval, such as "+1.4 (-0.7 to +3.5)"."""
    low, high = interval
    return f"{100 * gain:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
