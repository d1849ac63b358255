"""What the data say about how to transfer: measured on training and validation images only."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from headstart.commands.advise.facts import NetworkFacts
from headstart.commands.advise.network import imagenet_probabilities, network_facts
from headstart.common.errors import InputError
from headstart.dataset.manifest import Manifest
from headstart.extraction.bottleneck import Bottleneck, identify
from headstart.extraction.extract import Request, extract, requests_of
from headstart.extraction.options import ExtractOptions
from headstart.extraction.store import FeatureStore
from headstart.features.file import FeatureFile
from headstart.heads import create
from headstart.heads.data import TrainingData
from headstart.heads.options import LogisticOptions, TrainOptions
from headstart.scoring import intervals
from headstart.scoring.calibration import softmax
from headstart.scoring.metrics import log_loss

_SHARES = (0.95, 0.8, 0.65, 0.5, 0.35)
"""Shares of the multiply-adds at about which cuts are probed, besides the last layer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A linear classifier on the features at one cut.

    Attributes:
        cut: Name of the cut.
        feature_dim: Number of features, averaged over the map.
        multiply_adds: Per image, up to the cut.
        accuracy: Of held-out images.
        interval: 95 % interval of the accuracy.
        log_loss: Of held-out images, calibrated.
        l2: The best penalty.
    """

    cut: str
    feature_dim: int
    multiply_adds: int
    accuracy: float
    interval: tuple[float, float]
    log_loss: float
    l2: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Similarity:
    """What the backbone's own ImageNet classifier makes of the images.

    Attributes:
        confidence: Mean probability of its likeliest class.
        entropy: Mean entropy of its probabilities, as a share of the largest possible.
        information: How much its class tells about an image, in nats: the entropy of its mean
            probabilities minus the mean entropy. A classifier that is sure of itself but says the
            same of all images tells nothing about them.
    """

    confidence: float
    entropy: float
    information: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that the advice is based on.

    Attributes:
        n_classes: Number of classes.
        n_images: Number of training and validation images.
        n_train: Number of training images.
        per_class: Training units of the smallest class: images that belong together count once.
        unjudged: Classes of which no image was held out, so that the probes say nothing of them.
        pretrained: Whether the weights were trained; random ones were not.
        last: The last feature layer.
        probes: One per cut, the last layer first, then downward.
        similarity: None where the weights come without a classifier.
        network: The backbone.
    """

    n_classes: int
    n_images: int
    n_train: int
    per_class: int
    unjudged: tuple[str, ...] = ()
    pretrained: bool
    last: str
    probes: tuple[Probe, ...]
    similarity: Similarity | None
    network: NetworkFacts


def gather(
    file: FeatureFile,
    manifest: Manifest,
    extracting: ExtractOptions,
    training: TrainOptions,
    store: FeatureStore,
) -> Evidence:
    """Probe several cuts of the backbone; features missing from the store take one pass.

    Args:
        file: The cached features, which name the engine.
        manifest: Their images.
        extracting: The section `extract`.
        training: The section `train`.
        store: The feature store.

    Raises:
        InputError: no image can be held out.
    """
    data, requests = _images(file, manifest, training)
    folds = data.folds(cheap=True)
    if not folds:
        raise InputError(
            f"{file.path}: advise compares cuts on images that are held out, and of no class can "
            "one be: expected a class with two units (images that belong together count once), "
            "received one unit of each. Add images or groups to prepare.source"
        )
    held_out = data.label[np.concatenate([fold.held_out for fold in folds])]
    bottleneck = identify(extracting, file.header.identity.engine)
    network = network_facts(bottleneck, store)
    cuts = network.probed(_SHARES)
    tapped = bottleneck.tapped([(cut, "avg") for cut in cuts])
    extraction = extract(tapped, requests, store=store)
    below = {cut.name: cut.multiply_adds_below for cut in network.blocks}
    below[network.last] = network.multiply_adds
    probes: list[Probe] = []
    similarity = None
    for tap, cut in enumerate(cuts):
        features = extraction.array(tap)
        header = replace(file.header, identity=tapped.taps[tap], feature_shape=features.shape[1:])
        probed = replace(data, features=features, header=header)
        probes.append(_probe(cut, below[cut], probed, file.group, training.seed))
        if cut == network.last:
            similarity = _similarity(bottleneck, features, store)
    judged = np.bincount(held_out, minlength=data.n_classes) > 0
    return Evidence(
        n_classes=data.n_classes,
        n_images=len(requests),
        n_train=len(data.train),
        per_class=int(data.train_units.min()),
        unjudged=tuple(
            name for name, known in zip(data.class_names, judged, strict=True) if not known
        ),
        pretrained=bottleneck.weights.kind != "random",
        last=network.last,
        probes=tuple(probes),
        similarity=similarity,
        network=network,
    )


def _images(
    file: FeatureFile, manifest: Manifest, training: TrainOptions
) -> tuple[TrainingData, list[Request]]:
    """Return training and validation images without their views, renumbered."""
    whole = TrainingData.from_file(
        file,
        class_weight=training.class_weight,
        min_validation=training.min_validation,
        folds_below=training.folds_below,
        streaming_above=training.streaming_above,
        seed=training.seed,
    )
    rows = np.sort(np.concatenate([whole.train_images, whole.validation]))
    data = replace(
        whole,
        label=whole.label[rows],
        view=whole.view[rows],
        unit=whole.unit[rows],
        sha256=whole.sha256[rows],
        train=np.searchsorted(rows, whole.train_images),
        validation=np.searchsorted(rows, whole.validation),
    )
    return data, requests_of(file, manifest, rows)


def _probe(
    cut: str, multiply_adds: int, data: TrainingData, groups: npt.NDArray[np.int64], seed: int
) -> Probe:
    head = create(LogisticOptions(kind="logistic"), seed)
    report = head.fit(data)
    labels = data.label[report.held_out]
    probabilities = softmax(report.logits, head.card.temperature)
    right = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    low, high = intervals.accuracy_interval(right, data.unit[report.held_out])
    return Probe(
        cut=cut,
        feature_dim=data.features.shape[1],
        multiply_adds=multiply_adds,
        accuracy=float(right.mean()),
        interval=(max(low, 0.0), high),
        log_loss=log_loss(labels, probabilities),
        l2=head.card.setting["l2"],
    )


def _similarity(
    bottleneck: Bottleneck, features: npt.NDArray[np.float32], store: FeatureStore
) -> Similarity | None:
    probabilities = imagenet_probabilities(bottleneck, features, store)
    if probabilities is None:
        return None
    entropy = _entropy(probabilities)
    return Similarity(
        confidence=float(probabilities.max(axis=1).mean()),
        entropy=float(entropy.mean() / np.log(probabilities.shape[1])),
        information=float(_entropy(probabilities.mean(axis=0)) - entropy.mean()),
    )


def _entropy(probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the entropy along the last axis, in nats."""
    logs = np.log(np.maximum(probabilities, np.finfo(float).tiny))
    return np.asarray(-(probabilities * logs).sum(axis=-1))
