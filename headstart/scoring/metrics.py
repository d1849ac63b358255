"""Scores from labels and class probabilities; pure functions of arrays.

Two classes and many are treated alike: probabilities have one column per class and every row sums
to 1. A score that the data cannot define (the ROC of a class that no image has) is None.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.integer[Any]]
Floats = npt.NDArray[np.floating[Any]]

TOP_5_FROM = 10
"""Number of classes from which on top-5 accuracy says something."""

CALIBRATION_BINS = 15
"""Bins of equal width. Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017."""


WITHOUT_IMAGES = "classes_without_images"
"""Key of the classes about which a block of scores says nothing; left out where there are none."""

_NAMED = 5

# Probabilities in memory at a time; of a million images and a thousand classes all are too many.
_PART = 2**22


@dataclass(frozen=True, slots=True)
class Tally:
    """Weighted counts per class, from which the scores of hard decisions follow.

    Attributes:
        support: (n_classes,) weight of the images that are of a class.
        predicted: (n_classes,) weight of the images that were called a class.
        hits: (n_classes,) weight of the images that are of a class and were called it.
    """

    support: npt.NDArray[np.float64]
    predicted: npt.NDArray[np.float64]
    hits: npt.NDArray[np.float64]

    @classmethod
    def of(
        cls, labels: Labels, predicted: Labels, n_classes: int, weights: Floats | None = None
    ) -> "Tally":
        """Count `labels` and `predicted`, both (n_samples,), each sample by its weight."""
        weights = np.ones(len(labels)) if weights is None else weights
        right = np.where(labels == predicted, weights, 0.0)
        return cls(
            support=_sums(labels, weights, n_classes),
            predicted=_sums(predicted, weights, n_classes),
            hits=_sums(labels, right, n_classes),
        )

    @property
    def accuracy(self) -> float:
        """Share of the images called what they are."""
        return float(self.hits.sum() / self.support.sum())

    @property
    def recall(self) -> npt.NDArray[np.float64]:
        """(n_classes,) share of a class's images that were called it; 0 for an absent class."""
        return _ratio(self.hits, self.support)

    @property
    def precision(self) -> npt.NDArray[np.float64]:
        """(n_classes,) share of the images called a class that are of it; 0 where none was."""
        return _ratio(self.hits, self.predicted)

    @property
    def f1(self) -> npt.NDArray[np.float64]:
        """(n_classes,) harmonic mean of precision and recall."""
        return _ratio(2 * self.hits, self.support + self.predicted)

    @property
    def balanced_accuracy(self) -> float:
        """Mean recall of the classes that the data hold."""
        return float(self.recall[self.support > 0].mean())

    def macro(self, per_class: npt.NDArray[np.float64]) -> float:
        """Mean over the classes that the data hold."""
        return float(per_class[self.support > 0].mean())


def _sums(index: Labels, weights: Floats, length: int) -> npt.NDArray[np.float64]:
    return np.bincount(index, weights, length).astype(np.float64)


def _ratio(
    part: npt.NDArray[np.float64], whole: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def confusion_matrix(labels: Labels, predicted: Labels, n_classes: int) -> npt.NDArray[np.int64]:
    """Count (n_classes, n_classes): row = what the image is, column = what it was called."""
    cells = np.bincount(labels * n_classes + predicted, minlength=n_classes**2)
    return cells.reshape(n_classes, n_classes)


def negative_log_likelihood(labels: Labels, probabilities: Floats) -> npt.NDArray[np.float64]:
    """Return -log p(true class) per sample, (n_samples,), in nats.

    Probabilities are kept off 0 by the spacing of float64, as scikit-learn's `log_loss` does.
    """
    true = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return -np.log(np.clip(true, np.finfo(np.float64).eps, 1.0))


def log_loss(labels: Labels, probabilities: Floats) -> float:
    """Mean negative log-likelihood in nats."""
    return float(negative_log_likelihood(labels, probabilities).mean())


def brier_score(labels: Labels, probabilities: Floats) -> float:
    """Mean squared distance between probabilities and the truth.

    The sum over classes, halved for two of them: [0, 1] for two classes, [0, 2] for more.

    Source: scikit-learn's `brier_score_loss` with `scale_by_half="auto"`.
    """
    n_classes = probabilities.shape[1]
    total = 0.0
    for place in _parts(probabilities):
        distances = probabilities[place].astype(np.float64)
        distances[np.arange(len(distances)), labels[place]] -= 1
        total += float(np.vdot(distances, distances))
    return total / len(labels) / (2 if n_classes == 2 else 1)


def top_k_accuracy(labels: Labels, probabilities: Floats, k: int) -> float:
    """Share of the images whose class is among the k likeliest; a tie counts against."""
    hits = 0
    for place in _parts(probabilities):
        part = probabilities[place]
        true = part[np.arange(len(part)), labels[place]]
        hits += int(np.count_nonzero((part >= true[:, None]).sum(axis=1) <= k))
    return hits / len(labels)


def _parts(probabilities: Floats) -> list[slice]:
    step = max(1, _PART // probabilities.shape[1])
    return [slice(start, start + step) for start in range(0, len(probabilities), step)]


@dataclass(frozen=True, slots=True)
class Reliability:
    """Confidence against accuracy, bin by bin; empty bins left out.

    Attributes:
        lower: (n_bins,) lower edge of each bin of the likeliest class's probability.
        confidence: (n_bins,) mean probability in the bin.
        accuracy: (n_bins,) share of right decisions in the bin.
        count: (n_bins,) images in the bin.
    """

    lower: npt.NDArray[np.float64]
    confidence: npt.NDArray[np.float64]
    accuracy: npt.NDArray[np.float64]
    count: npt.NDArray[np.int64]

    @property
    def expected_error(self) -> float:
        """Expected calibration error: mean gap between confidence and accuracy, in [0, 1]."""
        gap = np.abs(self.confidence - self.accuracy)
        return float((gap * self.count).sum() / self.count.sum())


def reliability(
    labels: Labels, probabilities: Floats, n_bins: int = CALIBRATION_BINS
) -> Reliability:
    """Bin the images by the probability of their likeliest class.

    Bins are (lower, upper], of equal width.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    bins = np.clip(np.ceil(confidence * n_bins).astype(np.int64) - 1, 0, n_bins - 1)
    count = np.bincount(bins, minlength=n_bins)
    filled = np.flatnonzero(count)
    return Reliability(
        lower=filled / n_bins,
        confidence=np.bincount(bins, confidence, n_bins)[filled] / count[filled],
        accuracy=np.bincount(bins, right, n_bins)[filled] / count[filled],
        count=count[filled],
    )


@dataclass(frozen=True, slots=True)
class Ranking:
    """One class against the rest at every threshold, from the strictest down.

    Attributes:
        threshold: (n_thresholds,) distinct scores, falling.
        true_positives: (n_thresholds,) images of the class at or above the threshold.
        false_positives: (n_thresholds,) other images at or above it.
    """

    threshold: npt.NDArray[np.float64]
    true_positives: npt.NDArray[np.int64]
    false_positives: npt.NDArray[np.int64]

    @classmethod
    def of(cls, positive: npt.NDArray[np.bool_], scores: Floats) -> "Ranking":
        """Rank (n_samples,) `scores` of images that are `positive` or not."""
        order = np.argsort(-scores, kind="stable")
        ranked = scores[order].astype(np.float64)
        # Images with one score share one threshold.
        last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
        hits = np.cumsum(positive[order])[last]
        return cls(ranked[last], hits, last + 1 - hits)

    @property
    def roc(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """False and true positive rates, from (0, 0) to (1, 1)."""
        return (
            np.append(0, self.false_positives) / self.false_positives[-1],
            np.append(0, self.true_positives) / self.true_positives[-1],
        )

    @property
    def precision_recall(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Recall and precision at each threshold."""
        called = self.true_positives + self.false_positives
        return self.true_positives / self.true_positives[-1], self.true_positives / called

    @property
    def has_both_sides(self) -> bool:
        """Whether there are images of the class and others."""
        return bool(self.true_positives[-1] and self.false_positives[-1])


@dataclass(frozen=True, slots=True)
class Areas:
    """Areas under the curves of one class against the rest.

    Attributes:
        roc_auc: Of the ROC curve; None without images on both sides.
        average_precision: Of precision by recall, as a step function; None without a positive.
    """

    roc_auc: float | None
    average_precision: float | None

    @classmethod
    def of(cls, positive: npt.NDArray[np.bool_], scores: Floats) -> "Areas":
        """Rank (n_samples,) `scores` of images that are `positive` or not.

        Both areas are sums over the positives, of how many images lie below them: sorting numbers
        is ten times as fast as ranking images.
        """
        ranked, own = np.sort(scores), np.sort(scores[positive])
        n_own, n_others = len(own), len(ranked) - len(own)
        if not n_own:
            return cls(None, None)
        threshold, first, count = np.unique(own, return_index=True, return_counts=True)
        below, up_to = (np.searchsorted(ranked, threshold, side) for side in ("left", "right"))
        hits = n_own - first
        average_precision = float((count * hits / (len(ranked) - below)).sum() / n_own)
        if not n_others:
            return cls(None, average_precision)
        others_below = below - first
        others_equal = up_to - below - count
        pairs = float((count * (others_below + others_equal / 2)).sum())
        return cls(pairs / (n_own * n_others), average_precision)


def by_class(
    labels: Labels, probabilities: Floats
) -> Iterator[tuple[npt.NDArray[np.bool_], Floats]]:
    """Yield which images are of a class and their scores: of every class, or of two the second.

    Both (n_samples,), one class at a time.
    """
    n_classes = probabilities.shape[1]
    chosen = range(1, 2) if n_classes == 2 else range(n_classes)
    # Read along the rows, in which they lie.
    step = max(1, _PART // max(len(probabilities), 1))
    for start in range(chosen.start, chosen.stop, step):
        columns = np.ascontiguousarray(probabilities[:, start : min(start + step, chosen.stop)].T)
        for index, scores in enumerate(columns, start):
            yield labels == index, scores


def scores(
    labels: Labels,
    probabilities: Floats,
    class_names: tuple[str, ...],
    uncalibrated: Floats | None = None,
) -> dict[str, Any]:
    """Return every score, as JSON types.

    Balanced accuracy and the macro means are over the classes that have images; the others are
    named under `WITHOUT_IMAGES`. Of no image at all there is the number and those names.

    Args:
        labels: (n_samples,) class indices.
        probabilities: (n_samples, n_classes), rows summing to 1.
        class_names: One per column.
        uncalibrated: The probabilities before temperature scaling, for their calibration error.
    """
    n_classes = len(class_names)
    absent = np.bincount(labels, minlength=n_classes) == 0
    lacking = [name for name, empty in zip(class_names, absent, strict=True) if empty]
    if not len(labels):
        return {"images": 0, WITHOUT_IMAGES: lacking}
    predicted = probabilities.argmax(axis=1)
    tally = Tally.of(labels, predicted, n_classes)
    areas = [Areas.of(*one) for one in by_class(labels, probabilities)]
    result: dict[str, Any] = {
        "images": len(labels),
        "accuracy": tally.accuracy,
        "balanced_accuracy": tally.balanced_accuracy,
        "macro_precision": tally.macro(tally.precision),
        "macro_recall": tally.macro(tally.recall),
        "macro_f1": tally.macro(tally.f1),
        "log_loss": log_loss(labels, probabilities),
        "brier": brier_score(labels, probabilities),
        "ece": reliability(labels, probabilities).expected_error,
        "roc_auc": _mean_of_defined([one.roc_auc for one in areas]),
        "pr_auc": _mean_of_defined([one.average_precision for one in areas]),
    }
    if uncalibrated is not None:
        result["ece_uncalibrated"] = reliability(labels, uncalibrated).expected_error
    if lacking:
        result[WITHOUT_IMAGES] = lacking
    if n_classes >= TOP_5_FROM:
        result["top5_accuracy"] = top_k_accuracy(labels, probabilities, 5)
    # A list, which `dvc metrics diff` passes over: many classes would bury the headline scores.
    result["per_class"] = [
        {
            "class": name,
            "images": int(tally.support[index]),
            "precision": float(tally.precision[index]),
            "recall": float(tally.recall[index]),
            "f1": float(tally.f1[index]),
        }
        for index, name in enumerate(class_names)
    ]
    return result


def spread(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return mean and standard deviation of headline scores over repeated fits.

    Args:
        results: At least two of `scores`.
    """
    wanted = ("accuracy", "balanced_accuracy", "macro_f1", "log_loss")
    names = [name for name in wanted if all(name in result for result in results)]
    values = {name: [result[name] for result in results] for name in names}
    return {
        "count": len(results),
        **{f"{name}_mean": float(np.mean(values[name])) for name in names},
        **{f"{name}_std": float(np.std(values[name], ddof=1)) for name in names},
    }


def _mean_of_defined(values: list[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def named(names: Iterable[str]) -> str:
    """Return a few names, and how many more there are, for a message."""
    first, *more = list(names)
    shown = ", ".join([first, *more][:_NAMED])
    left = 1 + len(more) - _NAMED
    return f"{shown} and {left} more" if left > 0 else shown
