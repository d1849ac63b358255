"""The advice as a whole: evidence, pilots within a time, recommendation and what it takes."""

from collections.abc import Callable
from dataclasses import dataclass

from headstart.commands.advise.evidence import Evidence, gather
from headstart.commands.advise.images import Images
from headstart.commands.advise.pilots import Pilots, run_seconds
from headstart.commands.advise.recommendation import (
    Recommendation,
    Strategy,
    nothing_to_try,
    recommend,
)
from headstart.commands.advise.search import Found, search
from headstart.commands.advise.strategies import Arm, Size, arms, full_size
from headstart.common.errors import InputError
from headstart.configuration.params import Params
from headstart.dataset.manifest import Manifest
from headstart.extraction.store import FeatureStore
from headstart.features.file import FeatureFile


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyCost:
    """What a whole run of a strategy takes on this machine.

    Attributes:
        strategy: Which.
        cut: Where the features are taken.
        arm: The way of fine-tuning; None for the frozen backbone.
        chosen: Whether it is recommended.
        learning: Share of the parameters up to the cut that are trained.
        epochs: How many at most.
        minutes: Time of one pass of all images, and of the epochs.
    """

    strategy: Strategy
    cut: str
    arm: Arm | None
    chosen: bool
    learning: float
    epochs: int
    minutes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What was measured and what follows.

    Attributes:
        evidence: Of the frozen backbone.
        found: What pilots came to.
        recommendation: The advice.
        costs: One per strategy, the frozen backbone first.
    """

    evidence: Evidence
    found: Found
    recommendation: Recommendation
    costs: tuple[StrategyCost, ...]


def advise(
    file: FeatureFile,
    manifest: Manifest,
    params: Params,
    *,
    minutes: float,
    store: FeatureStore | None = None,
    tell: Callable[[str], None] = lambda message: None,
) -> Advice:
    """Measure what the frozen backbone reaches and what fine-tuning gains, and choose.

    Args:
        file: The cached features.
        manifest: Their images.
        params: The sections `extract`, `train` and `finetune`.
        minutes: What pilots may take.
        store: The feature store; the user's by default.
        tell: Takes a line before each pilot.

    Raises:
        InputError: no image can be held out, or see `headstart.finetuning.finetune.finetune`.
    """
    identity = file.header.identity
    if identity.onnx is not None:
        raise InputError(
            f"{file.path}: advise weighs cuts against ways of training the backbone, and that of "
            f"an ONNX file ({identity.weights}) cannot be trained; expected features of a backbone "
            f"of the catalog. Heads on it choose their own settings (`dvc repro`); other layers: "
            f"`headstart backbones {identity.weights} --cuts`"
        )
    store = store or FeatureStore()
    images = Images.of(file, manifest, params.extract, params.train)
    evidence = gather(images, store)
    frozen, last = evidence.frozen, evidence.probes[0]
    ways = arms(
        pretrained=evidence.pretrained,
        last=(last.cut, last.l2),
        best=(frozen.cut, frozen.l2),
    )
    network = evidence.network
    if not network.blocks:
        # Of a backbone without blocks, the last one is all of it.
        ways = tuple(arm for arm in ways if arm.unfreeze != "last_block")
    pilots = Pilots(images, params.finetune, (frozen.cut, frozen.l2), network, store)
    n_train, batch_size = len(images.data.train), params.finetune.batch_size
    full = {arm: full_size(arm.unfreeze, n_train, batch_size) for arm in ways}
    found = _searched(evidence, ways, images, minutes, pilots, tell)
    recommendation = recommend(evidence, found, full)
    return Advice(
        evidence=evidence,
        found=found,
        recommendation=recommendation,
        costs=_costs(evidence, recommendation, pilots, full),
    )


def _searched(
    evidence: Evidence,
    ways: tuple[Arm, ...],
    images: Images,
    minutes: float,
    pilots: Pilots,
    tell: Callable[[str], None],
) -> Found:
    why = nothing_to_try(evidence.frozen, minutes, pretrained=evidence.pretrained)
    if why:
        return Found(minutes=minutes, trials=(), finalists=(), left_out=(), why=why)
    return search(ways, len(images.folds), minutes, pilots, tell)


def _costs(
    evidence: Evidence, recommendation: Recommendation, pilots: Pilots, full: dict[Arm, Size]
) -> tuple[StrategyCost, ...]:
    network, n_images = evidence.network, evidence.n_images
    frozen = evidence.frozen
    strategy = recommendation.strategy
    found = [
        StrategyCost(
            strategy="freeze",
            cut=frozen.cut,
            arm=None,
            chosen=strategy == "freeze",
            learning=0.0,
            epochs=0,
            minutes=network.forward_seconds * n_images / 60,
        )
    ]
    for arm, size in full.items():
        time = pilots.training_time(arm)
        changes = recommendation.changes
        found.append(
            StrategyCost(
                strategy=arm.unfreeze,
                cut=arm.cut,
                arm=arm,
                chosen=(strategy, recommendation.cut, changes.get("finetune.learning_rate"))
                == (arm.unfreeze, arm.cut, arm.learning_rate),
                learning=time.learning,
                epochs=size.epochs,
                minutes=run_seconds(time, network, size, n_images) / 60,
            )
        )
    return tuple(found)
