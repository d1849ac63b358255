"""95 % intervals of scores: how far they would move with other images of the same kind.

Every score here is a weighted mean over images, of losses in [0, 1]: 1 where an image is wrong. Its
limit asks for one more unit (an image, or a group of them) that comes out as badly as it could, and
takes the beta distribution with the mean and the variance that the units then have. Of images alike
in weight this is the interval of Clopper and Pearson; with weights and groups it is their interval
on an effective number of images. The unit more keeps it honest where few errors tell little of the
variance; of a group, it counts as one image as far as many errors show that groups are not alike.

Source: Clopper and Pearson, Biometrika 26, 1934; the one more, of weighted counts: Fay and Feuer,
    Statistics in Medicine 16, 1997; the effective number: Korn and Graubard, Survey Methodology 24,
    1998.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from headstart.scoring.beta import quantile, upper_tail
from headstart.scoring.metrics import Floats, Labels, Tally, negative_log_likelihood

LEVEL = 0.95
_TAIL = (1 - LEVEL) / 2

_WORST_LOSS = float(-np.log(np.finfo(np.float64).eps))
"""Of a probability of 0, as `negative_log_likelihood` counts it."""

_ROUNDING = 1e-11

_SHARES = 100
"""How many smaller losses, at most, a limit is compared with for the sake of monotony."""

Values = npt.NDArray[np.float64]
Units = npt.NDArray[np.int64]


def units(groups: npt.NDArray[np.integer[Any]]) -> Units:
    """Number what counts as one: a group (same number >= 0), or an image without one (-1).

    Args:
        groups: (n_samples,).

    Returns:
        (n_samples,) numbers from 0 without gaps.
    """
    alone = groups < 0
    keys = np.where(alone, groups.max(initial=0) + 1 + np.arange(len(groups)), groups)
    return np.unique(keys, return_inverse=True)[1]


def score_intervals(
    labels: Labels,
    probabilities: Floats,
    groups: npt.NDArray[np.integer[Any]],
) -> dict[str, list[float]]:
    """Return the 95 % interval of each headline score.

    Accuracy: Clopper and Pearson's where no image has a group. Balanced accuracy: an image counts
    by the size of its class, and a class without an error may be missed as often as its number of
    units leaves open. Macro F1: an image counts by the sizes of the class that it is of and the one
    that it was called, of which 1 less the score is the weighted share of errors. Log loss: one
    more image has the worst loss seen or, if greater, what an error costs at the confidence shown.

    One more error never raises either end of accuracy, nor of balanced accuracy (with groups among
    more than 100 images, or classes of uneven size, it was never seen to by more than 0.0001). It
    may raise macro F1's, whose weights it changes.

    Args:
        labels: (n_samples,).
        probabilities: (n_samples, n_classes).
        groups: (n_samples,) images of one group (>= 0) are right or wrong together, more or less.
    """
    predicted = probabilities.argmax(axis=1)
    tally = Tally.of(labels, predicted, probabilities.shape[1])
    present = tally.support > 0
    n_present = np.count_nonzero(present)
    of_class = np.where(present, 1 / np.maximum(tally.support, 1), 0) / n_present
    of_f1 = np.where(present, 1 / np.maximum(tally.support + tally.predicted, 1), 0) / n_present
    by_class = of_class[labels]
    unit = units(groups)
    one_more = _one_more(labels, by_class, unit)
    wrong = (predicted != labels).astype(np.float64)
    errors = {
        "accuracy": _uniform(wrong, unit),
        "balanced_accuracy": _limits(wrong, by_class, unit, one_more),
        "macro_f1": _limits(wrong, of_f1[labels] + of_f1[predicted], unit, one_more),
    }
    intervals = {name: [1 - high, 1 - low] for name, (low, high) in errors.items()}
    intervals["log_loss"] = _loss_interval(labels, probabilities, unit)
    return intervals


def accuracy_interval(right: Floats, groups: npt.NDArray[np.integer[Any]]) -> list[float]:
    """Return the 95 % interval of an accuracy.

    Args:
        right: (n_samples,) 1 where the model is right, else 0.
        groups: (n_samples,) images of one group (>= 0) are right or wrong together, more or less.
    """
    low, high = _uniform(1.0 - right.astype(np.float64), units(groups))
    return [1 - high, 1 - low]


def paired_interval(
    differences: Floats,
    groups: npt.NDArray[np.integer[Any]],
) -> list[float]:
    """Return the 95 % interval of a mean difference between two models.

    It leaves out 0 about when McNemar's exact test does: at 6 or 7 images that only one of the
    models has right and none that only the other has, not at 5.

    Args:
        differences: (n_samples,) the first model's score less the second's, on the same images;
            both in [0, 1].
        groups: (n_samples,) images of one group (>= 0) are right or wrong together, more or less.
    """
    low, high = _uniform((1.0 - differences.astype(np.float64)) / 2, units(groups))
    return [1 - 2 * high, 1 - 2 * low]


def _loss_interval(labels: Labels, probabilities: Floats, unit: Units) -> list[float]:
    losses = negative_log_likelihood(labels, probabilities) / _WORST_LOSS
    confidence = probabilities.max(axis=1).astype(np.float64)
    of_error = -np.log(np.maximum(1 - confidence, np.finfo(np.float64).eps)) / _WORST_LOSS
    worst = max(float(losses.max()), float(of_error.mean()))
    one_image = 1 / len(unit)
    weights = np.full(len(unit), one_image)
    one_more = _squares(weights, unit)
    high = _upper(losses, weights, unit, one_more, one_image, worst=worst)
    best = float(losses.min())
    low = 1 - _upper(1 - losses, weights, unit, one_more, one_image, worst=1 - best)
    return [low * _WORST_LOSS, high * _WORST_LOSS]


def _squares(weights: Values, unit: Units) -> float:
    """Return the weight of one more unit: the mean over units, each by its weight."""
    return float((np.bincount(unit, weights) ** 2).sum())


def _one_more(labels: Labels, weights: Values, unit: Units) -> float:
    """Return the weight of one more unit where classes weigh alike, whatever their size.

    The lowest mean recall at which all images come out right with the probability of a tail: the
    smallest classes, whose units tell least, take the blame. The weight is that of a unit among so
    many alike as would leave the same limit.

    Args:
        labels: (n_samples,).
        weights: (n_samples,), of equal sums per class, 1 in all.
        unit: (n_samples,).
    """
    pairs, pair = np.unique(labels * (unit.max() + 1) + unit, return_inverse=True)
    weight = np.bincount(pair, weights)
    classes = np.unique(pairs // (unit.max() + 1), return_inverse=True)[1]
    # A class's number of units, less where they are of uneven size (Kish's effective number).
    n_units = np.sort(np.bincount(classes, weight) ** 2 / np.bincount(classes, weight**2))
    # Recalls are as the numbers of units (Lagrange), but at most 1, which the larger ones reach.
    log_recall = np.log(_TAIL) - np.cumsum(n_units * np.log(n_units))
    log_factor = log_recall / np.cumsum(n_units)
    last = np.append(log_factor[:-1] + np.log(n_units[1:]) >= 0, True).argmax()
    recall = np.minimum(np.exp(log_factor[last]) * n_units, 1).mean()
    return max(float(np.log(recall) / np.log(_TAIL)), _squares(weights, unit))


def _uniform(losses: Values, unit: Units) -> tuple[float, float]:
    """Return both limits of the mean of losses in [0, 1]."""
    weights = np.full(len(losses), 1 / len(losses))
    return _limits(losses, weights, unit, _squares(weights, unit), 1 / len(losses))


def _limits(
    losses: Values,
    weights: Values,
    unit: Units,
    one_more: float,
    one_image: float | None = None,
) -> tuple[float, float]:
    """Return both limits of the weighted mean of losses in [0, 1]; neither falls as one grows."""
    return (
        1 - _upper(1 - losses, weights, unit, one_more, one_image, shares=_SHARES),
        _upper(losses, weights, unit, one_more, one_image, shares=_SHARES),
    )


def _upper(
    losses: Values,
    weights: Values,
    unit: Units,
    one_more: float,
    one_image: float | None,
    *,
    worst: float = 1.0,
    shares: int = 0,
) -> float:
    """Return the upper limit of the weighted mean of losses.

    More losses can show that they vary less than was to be feared. So that they do not lower the
    limit, it is the greatest of those that any part of the losses would have given.

    Args:
        losses: (n_samples,) in [0, 1].
        weights: (n_samples,) 1 in all.
        unit: (n_samples,) from 0 without gaps.
        one_more: Weight of one more unit.
        one_image: Weight of one more image, which a unit comes near where its images are seen not
            to be alike; without it, a unit counts whole.
        worst: Its loss.
        shares: How many parts of the losses the limit is compared with, at most.
    """
    lost: Values = losses * weights
    by_unit: Values = np.bincount(unit, lost).astype(np.float64)
    unit_weight: Values = np.bincount(unit, weights).astype(np.float64)
    total = np.array([by_unit.sum()])
    if shares:
        # Whole images where they are few, so that the parts of more losses are the same ones.
        step = -(-len(losses) // shares) / len(losses)
        total = np.append(np.arange(0, total[0] - step / 2, step), total)
    by_images = _Spread.of(lost, weights, total)
    by_units = _Spread.of(by_unit, unit_weight, total)

    def spread(mean: Values) -> tuple[Values, Values]:
        alone = by_images.about(mean)
        # Images of a unit are never taken to be less alike than strangers.
        return alone, np.maximum(alone, by_units.about(mean))

    mean = (total + one_more * worst) / (1 + one_more)
    if mean[-1] > 1 - _ROUNDING:
        return 1.0
    alone, together = spread(mean)
    unseen = one_more * (worst - mean) ** 2
    if together[-1] + one_more * unseen[-1] < _ROUNDING * mean[-1] ** 2 * one_more:
        return float(mean[-1])
    # What the units seen, and one more that is all alike, count beside as many single images.
    part = (together + one_more * unseen) / (alone / (one_image or one_more) + unseen)
    part = np.minimum(one_more, part)
    mean = (total + part * worst) / (1 + part)
    variance = (spread(mean)[1] + part * one_more * (worst - mean) ** 2) / (1 + part) ** 2
    number = mean * (1 - mean) / variance
    # Below 0.5, where a part's bounds are loose, the quantile is 0 or 1 to four digits anyway.
    first, second = np.maximum(mean * number, 0.5), np.maximum((1 - mean) * number, 0.5)
    limit = quantile(first[-1], second[-1], _TAIL)
    for _ in mean:
        # No quantile is further from the mean (Cantelli's inequality).
        left = np.flatnonzero(mean + np.sqrt((1 / _TAIL - 1) * variance) > limit)
        beyond = upper_tail(first[left], second[left], limit)
        if limit >= 1 or not len(left) or beyond.max() < _TAIL * (1 + _ROUNDING):
            break
        greatest = left[beyond.argmax()]
        limit = max(limit, quantile(first[greatest], second[greatest], _TAIL))
    return limit


@dataclass(frozen=True, slots=True)
class _Spread:
    """How far losses spread about a mean: the sum of squares of loss less weight x mean.

    For a part of the losses, it is no less than the greatest that the part could have.

    Attributes:
        squares: (n_parts,) sum of squares of the losses.
        products: (n_parts,) sum of products of losses and weights.
        weight_squares: Sum of squares of all weights.
    """

    squares: Values
    products: Values
    weight_squares: float

    @classmethod
    def of(cls, lost: Values, weights: Values, total: Values) -> "_Spread":
        """Sum up losses times weights, (n,), and weights, (n,), for parts that come to `total`."""
        some = np.flatnonzero(lost)
        largest = some[np.argsort(-lost[some], kind="stable")]
        lightest = some[np.argsort(weights[some], kind="stable")]
        return cls(
            squares=_taken(lost[largest], lost[largest], total),
            products=_taken(lost[lightest], weights[lightest], total),
            weight_squares=float((weights**2).sum()),
        )

    def about(self, mean: Values) -> Values:
        """Return the spread of each part about its `mean`, (n_parts,)."""
        return self.squares - 2 * mean * self.products + mean**2 * self.weight_squares


def _taken(amounts: Values, values: Values, total: Values) -> Values:
    """Return the sum of values x amounts until the amounts taken, in order, come to `total`."""
    taken = np.append(0, np.cumsum(amounts))
    return np.asarray(np.interp(total, taken, np.append(0, np.cumsum(amounts * values))))
