"""What the data say about the frozen backbone: measured on training and validation images only."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from headstart.commands.advise.facts import NetworkFacts
from headstart.commands.advise.images import Images
from headstart.commands.advise.network import imagenet_probabilities, network_facts
from headstart.commands.advise.quality import Quality, gain_interval, quality
from headstart.common.vocabulary import Pooling
from headstart.extraction.bottleneck import Bottleneck
from headstart.extraction.extract import extract
from headstart.extraction.store import FeatureStore
from headstart.heads import create
from headstart.heads.data import TrainingData
from headstart.heads.options import LogisticOptions
from headstart.scoring.intervals import accuracy_interval

_SHARES = (0.95, 0.8, 0.65, 0.5, 0.35)
"""Shares of the multiply-adds at about which cuts are probed, besides the last layer."""

_ALIKE = 0.005
"""Quality by which a lower cut must do better, half of a point: of six that are equal one looks
best by luck."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A linear classifier on the features at one cut.

    Attributes:
        cut: Name of the cut.
        pooling: What is done to the map or the tokens there.
        feature_dim: Number of features.
        multiply_adds: Per image, up to the cut.
        accuracy: Of held-out images.
        interval: 95 % interval of the accuracy.
        log_loss: Of held-out images, calibrated.
        gain: In quality over the last layer, on the same held-out images; see `quality`.
        gain_interval: Its 95 % interval.
        score: The quality itself, in [0, 1].
        l2: The best penalty.
    """

    cut: str
    pooling: Pooling
    feature_dim: int
    multiply_adds: int
    accuracy: float
    interval: tuple[float, float]
    log_loss: float
    gain: float
    gain_interval: tuple[float, float]
    score: float
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

    @property
    def frozen(self) -> Probe:
        """The probe to recommend if nothing is fine-tuned.

        The highest cut that is about as good as the best: the last is the usual choice.
        """
        best = max(probe.gain for probe in self.probes)
        return next(probe for probe in self.probes if best - probe.gain < _ALIKE)

    @property
    def earlier_is_better(self) -> bool:
        """Whether a cut below the last does better, beyond what other images might say."""
        return any(probe.gain_interval[0] > 0 for probe in self.probes)


def gather(images: Images, store: FeatureStore) -> Evidence:
    """Probe several cuts of the backbone; features missing from the store take one pass.

    Args:
        images: The training and validation images.
        store: The feature store.
    """
    data, bottleneck = images.data, images.bottleneck
    network = network_facts(bottleneck, store)
    cuts = network.probed(_SHARES)
    tapped = images.tapped(cuts)
    extraction = extract(tapped, images.requests, store=store)
    below = {cut.name: cut.multiply_adds_below for cut in network.blocks}
    below[network.last] = network.multiply_adds
    probes: list[Probe] = []
    similarity = last = None
    for tap, cut in enumerate(cuts):
        features = extraction.array(tap)
        header = replace(
            images.file.header, identity=tapped.taps[tap], feature_shape=features.shape[1:]
        )
        probed = replace(data, features=features, header=header)
        own, held_out, l2 = _probed(probed, images.seed)
        last = last or own
        weights, units = data.weights(held_out), data.unit[held_out]
        low, high = accuracy_interval(own.right.astype(np.float64), units)
        gains = (own.score - last.score) * weights / weights.mean()
        probes.append(
            Probe(
                cut=cut,
                pooling=tapped.taps[tap].pooling,
                feature_dim=features.shape[1],
                multiply_adds=below[cut],
                accuracy=float(own.right.mean()),
                interval=(low, high),
                log_loss=float(own.loss.mean()),
                gain=float(gains.mean()),
                gain_interval=gain_interval(gains, units),
                score=float(own.score @ weights / weights.sum()),
                l2=l2,
            )
        )
        if cut == network.last:
            similarity = _similarity(bottleneck, features, store)
    judged = np.bincount(data.label[held_out], minlength=data.n_classes) > 0
    return Evidence(
        n_classes=data.n_classes,
        n_images=len(images.requests),
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


def _probed(data: TrainingData, seed: int) -> tuple[Quality, npt.NDArray[np.int64], float]:
    """Return how good a linear head is on the held-out images, which those are, and its penalty."""
    head = create(LogisticOptions(kind="logistic"), seed)
    report = head.fit(data)
    labels, units = data.label[report.held_out], data.unit[report.held_out]
    return quality(report.logits, labels, units), report.held_out, head.card.setting["l2"]


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
