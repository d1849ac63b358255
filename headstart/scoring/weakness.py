"""Whether a part of the images is named worse than the rest: by how much, and could it be chance.

Images of one unit (a group) are right or wrong together, more or less; so units are counted, not
images. What one unit has within the part and what it has outside are taken for two units: where
they are alike, which they are not more than strangers would be, this errs to the side of chance.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from headstart.scoring.intervals import Units, accuracy_interval
from headstart.scoring.metrics import Floats, Labels, Tally

FEWEST_UNITS = 10
"""Within the part and outside, below which nothing is compared: the interval of an accuracy is then
wider than 0.3 even where no image is wrong."""

WEAK = 0.05
"""Probability, after Holm, up to which a part is called weak: that of one false alarm or more."""

_DRAWS = 19_999
_DRAWS_PER_TEST = 400
# Of a p-value that so many draws reached, the error is a twentieth: more would decide nothing.
_ENOUGH = 400
_BATCH = 1_000
_ROUNDING = 1e-9

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A part of the images against the rest.

    Attributes:
        images: Of the part.
        accuracy: Of the part.
        accuracy_interval: Its 95 % interval.
        rest: Accuracy of the rest.
        difference: accuracy - rest.
        low: Lower end of the difference's 95 % interval.
        high: Upper end.
        within_classes: The difference if the rest had the part's share of each class; None where
            they have no class in common.
        p: Probability that units dealt at random make a part as weak as this one.
    """

    images: int
    accuracy: float
    accuracy_interval: list[float]
    rest: float
    difference: float
    low: float
    high: float
    within_classes: float | None
    p: float

    def is_weak(self, p: float) -> bool:
        """Return whether the part is weaker by more than chance, given p for all tests together."""
        return p <= WEAK and self.difference < 0

    def told(self, p: float) -> dict[str, Any]:
        """Return the comparison as it stands in the metrics, with p for all tests together."""
        return {
            "images": self.images,
            "accuracy": self.accuracy,
            "rest": self.rest,
            "difference": self.difference,
            "low": self.low,
            "high": self.high,
            "difference_within_classes": self.within_classes,
            "p": p,
            "intervals": {"accuracy": self.accuracy_interval},
        }


def has_enough(unit: Units, inside: Bools) -> bool:
    """Return whether a part and the rest hold enough units to be compared; (n_samples,) both."""
    return min(_count(unit[inside]), _count(unit[~inside])) >= FEWEST_UNITS


def _count(unit: Units) -> int:
    return int(np.count_nonzero(np.bincount(unit)))


def compare(
    labels: Labels,
    predicted: Labels,
    unit: Units,
    inside: Bools,
    *,
    n_tests: int,
    seed: int,
) -> Comparison:
    """Compare the accuracy of a part of the images with that of the rest.

    The interval of the difference joins the intervals of both accuracies, which hold what they say
    where a resampling of few mistakes, or of none, would not.

    Args:
        labels: (n_samples,).
        predicted: (n_samples,).
        unit: (n_samples,) from 0.
        inside: (n_samples,) which images the part holds: some, but not all.
        n_tests: How many parts are compared; the more, the more draws tell how unlikely one is.
        seed: Of the draws.

    Source: Zou and Donner, "Construction of confidence limits about effect measures", Statistics in
        Medicine 27, 2008 (the interval).
    """
    right = (labels == predicted).astype(np.float64)
    low, high = accuracy_interval(right[inside], unit[inside])
    rest_low, rest_high = accuracy_interval(right[~inside], unit[~inside])
    accuracy, rest = float(right[inside].mean()), float(right[~inside].mean())
    difference = accuracy - rest
    return Comparison(
        images=int(inside.sum()),
        accuracy=accuracy,
        accuracy_interval=[low, high],
        rest=rest,
        difference=difference,
        low=difference - float(np.hypot(accuracy - low, rest_high - rest)),
        high=difference + float(np.hypot(high - accuracy, rest - rest_low)),
        within_classes=_within_classes(labels, predicted, inside),
        p=chance_of_weakness(right, unit, inside, n_tests=n_tests, seed=seed),
    )


def _within_classes(labels: Labels, predicted: Labels, inside: Bools) -> float | None:
    n_classes = int(max(labels.max(), predicted.max())) + 1
    own = Tally.of(labels[inside], predicted[inside], n_classes)
    rest = Tally.of(labels[~inside], predicted[~inside], n_classes)
    weight = np.where(rest.support > 0, own.support, 0.0)
    if not weight.any():
        return None
    return float(np.average(own.recall - rest.recall, weights=weight))


def chance_of_weakness(
    right: Floats, unit: Units, inside: Bools, *, n_tests: int = 1, seed: int = 0
) -> float:
    """Return how often a part of as many units, drawn at random, is as weak: a permutation test.

    A unit counts once, by its share of mistakes: counted by images, a few large units would decide,
    and parts of small or large ones would look weak more often than the probability says. Of images
    without groups it is Fisher's exact test to one side, but for the error of the draws.

    Args:
        right: (n_samples,) 1 where the model is right, else 0.
        unit: (n_samples,) from 0.
        inside: (n_samples,) which images the part holds.
        n_tests: See `compare`.
        seed: Of the draws.

    Source: Besag and Clifford, "Sequential Monte Carlo p-values", Biometrika 78, 1991 (when to stop
        drawing).
    """
    own, rest = (_shares(1 - right[one], unit[one]) for one in (inside, ~inside))
    # Units with the same share are of one kind, whose number in a random part is hypergeometric.
    share, kind = np.unique(np.concatenate([own, rest]), return_inverse=True)
    if len(share) == 1:
        return 1.0
    counts = np.bincount(kind)
    observed = own.sum() - _ROUNDING
    rng = np.random.default_rng(seed)
    limit = max(_DRAWS, _DRAWS_PER_TEST * n_tests)
    drawn = reached = 0
    while drawn < limit and reached < _ENOUGH:
        count = min(_BATCH, limit - drawn)
        parts = rng.multivariate_hypergeometric(counts, len(own), count, method="marginals")
        reached += int(np.count_nonzero(parts @ share >= observed))
        drawn += count
    return (reached + 1) / (drawn + 1)


def _shares(wrong: Floats, unit: Units) -> npt.NDArray[np.float64]:
    """Return the share of mistakes of each unit that is there, (n_units,)."""
    images = np.bincount(unit)
    return np.asarray(np.bincount(unit, wrong)[images > 0] / images[images > 0])


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values that hold for all tests together: 1 of 20 families has one below 0.05.

    Args:
        p_values: Of each test alone.

    Source: Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
        Statistics 6, 1979.
    """
    values = np.array(p_values, np.float64)
    order = np.argsort(values, kind="stable")
    adjusted: npt.NDArray[Any] = np.maximum.accumulate(
        values[order] * np.arange(len(values), 0, -1)
    )
    result = np.empty_like(values)
    result[order] = np.minimum(adjusted, 1.0)
    return [float(value) for value in result]
