"""Intervals by resampling: how far a score would move with other images of the same kind."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from headstart.scoring.metrics import Floats, Labels, Tally, negative_log_likelihood

LEVEL = 0.95
_TAILS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)


def units(groups: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int64]:
    """Number what is drawn as one: a group (same number >= 0), or an image without one (-1).

    Args:
        groups: (n_samples,).

    Returns:
        (n_samples,) numbers from 0 without gaps.
    """
    alone = groups < 0
    keys = np.where(alone, groups.max(initial=0) + 1 + np.arange(len(groups)), groups)
    return np.unique(keys, return_inverse=True)[1]


def _draws(n_units: int, resamples: int, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    """Yield how often each unit was drawn, (n_units,), in draws of n_units with replacement."""
    rng = np.random.default_rng(seed)
    for _ in range(resamples):
        yield np.bincount(rng.integers(0, n_units, n_units), minlength=n_units)


def score_intervals(
    labels: Labels,
    probabilities: Floats,
    groups: npt.NDArray[np.integer[Any]],
    *,
    resamples: int,
    seed: int,
) -> dict[str, list[float]]:
    """Return the 95 % percentile interval of each headline score.

    A score of exactly 1 is 1 in every resample too, which says nothing about the next image; its
    lower end is the exact binomial one then. One unit, of which every resample is the same, gives
    other scores no interval.

    Args:
        labels: (n_samples,).
        probabilities: (n_samples, n_classes).
        groups: (n_samples,) images of one group (>= 0) are drawn together.
        resamples: Number of draws, at least 1.
        seed: Of the draws.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13; Clopper and
        Pearson, Biometrika 26, 1934, for a score of 1.
    """
    n_classes = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    losses = negative_log_likelihood(labels, probabilities)
    unit = units(groups)
    n_units = int(unit.max()) + 1
    names = ("accuracy", "balanced_accuracy", "macro_f1", "log_loss")
    rows = []
    for counts in _draws(n_units, resamples, seed):
        weights = counts[unit].astype(np.float64)
        tally = Tally.of(labels, predicted, n_classes, weights)
        rows.append(
            (
                tally.accuracy,
                tally.balanced_accuracy,
                tally.macro(tally.f1),
                float(weights @ losses / weights.sum()),
            )
        )
    ends = np.quantile(np.array(rows), _TAILS, axis=0)
    intervals = {
        name: [float(ends[0, i]), float(ends[1, i])] for i, name in enumerate(names) if n_units > 1
    }
    if (labels == predicted).all():
        lowest = float(_TAILS[0] ** (1 / n_units))
        for name in names[:3]:
            intervals[name] = [lowest, 1.0]
    return intervals


def paired_interval(
    differences: Floats,
    groups: npt.NDArray[np.integer[Any]],
    *,
    resamples: int,
    seed: int,
) -> list[float]:
    """Return the 95 % percentile interval of a mean difference between two models.

    Of one unit, whose resamples are all the same, it is everything that there could be.

    Args:
        differences: (n_samples,) the first model's score less the second's, on the same images;
            both in [0, 1].
        groups: (n_samples,) images of one group (>= 0) are drawn together.
        resamples: Number of draws, at least 1.
        seed: Of the draws.
    """
    unit = units(groups)
    n_units = int(unit.max()) + 1
    if n_units == 1:
        return [-1.0, 1.0]
    sums = np.bincount(unit, differences, n_units)
    sizes = np.bincount(unit, minlength=n_units)
    means = [counts @ sums / (counts @ sizes) for counts in _draws(n_units, resamples, seed)]
    low, high = np.quantile(np.array(means), _TAILS)
    return [float(low), float(high)]
