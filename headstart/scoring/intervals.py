"""95 % intervals of scores: how far they would move with other images of the same kind.

Every score here is a weighted mean over images, of losses in [0, 1]: 1 where an image is wrong. Its
limit asks for one more unit (an image, or a group of them) that comes out as badly as it could, and
takes the beta distribution with the mean and the variance that the units then have. Of images alike
in weight this is the interval of Clopper and Pearson; with weights and groups it is their interval
on an effective number of images. A unit more keeps it honest where few errors tell little of the
variance, or of how much alike the images of a group are.

Source: Clopper and Pearson, Biometrika 26, 1934; the one more, of weighted counts: Fay and Feuer,
    Statistics in Medicine 16, 1997; the effective number: Korn and Graubard, Survey Methodology 24,
    1998.
"""

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
    *,
    resamples: int = 0,
    seed: int = 0,
) -> dict[str, list[float]]:
    """Return the 95 % interval of each headline score.

    Accuracy: Clopper and Pearson's where no image has a group. Balanced accuracy: an image counts
    by the size of its class, and a class without an error may be missed as often as its number of
    units leaves open. Macro F1: an image counts by the sizes of the class that it is of and the one
    that it was called, of which 1 less the score is the weighted share of errors. Log loss: one
    more image has the worst loss seen or, if greater, what an error costs at the confidence shown.

    One more error never raises either end of accuracy and balanced accuracy.

    Args:
        labels: (n_samples,).
        probabilities: (n_samples, n_classes).
        groups: (n_samples,) images of one group (>= 0) are right or wrong together, more or less.
        resamples: Without effect: nothing is drawn.
        seed: Without effect.
    """
    predicted = probabilities.argmax(axis=1)
    tally = Tally.of(labels, predicted, probabilities.shape[1])
    present = tally.support > 0
    n_present = np.count_nonzero(present)
    of_class = np.where(present, 1 / np.maximum(tally.support, 1), 0) / n_present
    of_f1 = np.where(present, 1 / np.maximum(tally.support + tally.predicted, 1), 0) / n_present
    uniform = np.full(len(labels), 1 / len(labels))
    by_class = of_class[labels]
    unit = units(groups)
    one_more = _one_more(labels, by_class, unit)
    wrong = (predicted != labels).astype(np.float64)
    errors = {
        "accuracy": _limits(wrong, uniform, unit, _squares(uniform, unit)),
        "balanced_accuracy": _limits(wrong, by_class, unit, one_more),
        "macro_f1": _limits(wrong, of_f1[labels] + of_f1[predicted], unit, one_more),
    }
    intervals = {name: [1 - high, 1 - low] for name, (low, high) in errors.items()}
    intervals["log_loss"] = _loss_interval(labels, probabilities, uniform, unit)
    return intervals


def accuracy_interval(right: Floats, groups: npt.NDArray[np.integer[Any]]) -> list[float]:
    """Return the 95 % interval of an accuracy.

    Args:
        right: (n_samples,) 1 where the model is right, else 0.
        groups: (n_samples,) images of one group (>= 0) are right or wrong together, more or less.
    """
    uniform = np.full(len(right), 1 / len(right))
    unit = units(groups)
    low, high = _limits(1.0 - right.astype(np.float64), uniform, unit, _squares(uniform, unit))
    return [1 - high, 1 - low]


def paired_interval(
    differences: Floats,
    groups: npt.NDArray[np.integer[Any]],
    *,
    resamples: int = 0,
    seed: int = 0,
) -> list[float]:
    """Return the 95 % interval of a mean difference between two models.

    It leaves out 0 about when McNemar's exact test does: at 6 images that only one of the models
    has right and none that only the other has, not at 5. An image that moves against the first
    model never raises either end.

    Args:
        differences: (n_samples,) the first model's score less the second's, on the same images;
            both in [0, 1].
        groups: (n_samples,) images of one group (>= 0) are right or wrong together, more or less.
        resamples: Without effect: nothing is drawn.
        seed: Without effect.
    """
    uniform = np.full(len(differences), 1 / len(differences))
    unit = units(groups)
    low, high = _limits(
        (1.0 - differences.astype(np.float64)) / 2, uniform, unit, _squares(uniform, unit)
    )
    return [1 - 2 * high, 1 - 2 * low]


def _loss_interval(
    labels: Labels, probabilities: Floats, weights: Values, unit: Units
) -> list[float]:
    losses = negative_log_likelihood(labels, probabilities) / _WORST_LOSS
    confidence = probabilities.max(axis=1).astype(np.float64)
    of_error = -np.log(np.maximum(1 - confidence, np.finfo(np.float64).eps)) / _WORST_LOSS
    worst = max(float(losses.max()), float(of_error.mean()))
    one_more = _squares(weights, unit)
    high = _upper(losses, weights, unit, one_more, worst=worst)
    low = 1 - _upper(1 - losses, weights, unit, one_more, worst=1 - float(losses.min()))
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


def _limits(losses: Values, weights: Values, unit: Units, one_more: float) -> tuple[float, float]:
    """Return both limits of the weighted mean of losses in [0, 1]; neither falls as one grows."""
    return (
        1 - _upper(1 - losses, weights, unit, one_more, shares=_SHARES),
        _upper(losses, weights, unit, one_more, shares=_SHARES),
    )


def _upper(
    losses: Values,
    weights: Values,
    unit: Units,
    one_more: float,
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
        worst: Its loss.
        shares: How many parts of the losses the limit is compared with, at most.
    """
    lost: Values = losses * weights
    by_unit: Values = np.bincount(unit, lost).astype(np.float64)
    unit_weight: Values = np.bincount(unit, weights).astype(np.float64)
    total = np.array([by_unit.sum()])
    if shares:
        # Whole images where they are few, so that the parts of more losses are the same ones.
        part = -(-len(losses) // shares) / len(losses)
        total = np.append(np.arange(0, total[0] - part / 2, part), total)
    mean = (total + one_more * worst) / (1 + one_more)
    # Images of a unit are never taken to be less alike than strangers.
    spread = np.maximum(
        _spread(by_unit, unit_weight, total, mean), _spread(lost, weights, total, mean)
    )
    variance = (spread + (one_more * (worst - mean)) ** 2) / (1 + one_more) ** 2
    if mean[-1] > 1 - _ROUNDING:
        return 1.0
    if variance[-1] < _ROUNDING * mean[-1] ** 2 * one_more:
        return float(mean[-1])
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


def _spread(lost: Values, weights: Values, total: Values, mean: Values) -> Values:
    """Return how far losses spread about `mean`: the sum of squares of loss less weight x mean.

    For a part of the losses, it is no less than the greatest that the part could have.

    Args:
        lost: (n,) losses times weights.
        weights: (n,).
        total: (n_parts,) how much of the losses' sum is taken.
        mean: (n_parts,) about which.

    Returns:
        (n_parts,).
    """
    some = np.flatnonzero(lost)
    largest = some[np.argsort(-lost[some], kind="stable")]
    lightest = some[np.argsort(weights[some], kind="stable")]
    squares = _taken(lost[largest], lost[largest], total)
    products = _taken(lost[lightest], weights[lightest], total)
    return np.asarray(squares - 2 * mean * products + mean**2 * (weights**2).sum())


def _taken(amounts: Values, values: Values, total: Values) -> Values:
    """Return the sum of values x amounts until the amounts taken, in order, come to `total`."""
    taken = np.append(0, np.cumsum(amounts))
    return np.asarray(np.interp(total, taken, np.append(0, np.cumsum(amounts * values))))
