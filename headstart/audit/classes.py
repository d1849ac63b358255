"""Which classes cannot be told apart, and which have too few images."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from headstart.audit.labels import Judgement
from headstart.features.matrix import Matrix
from headstart.heads.data import TrainingData
from headstart.heads.folds import stratified_folds
from headstart.heads.logistic import fit_logistic
from headstart.scoring.intervals import accuracy_interval, units

Rows = npt.NDArray[np.int64]

_TOLD_APART = 0.8
"""Share of right decisions between two classes that must be out of reach for them to be merged."""

_RIVALS = 3
"""Other classes that each one is compared with: those that its images are taken for the most."""

_PARTS = 4
_LEAST_GAIN = 0.03
_ERRORS = 3.0
"""Standard errors by which a gain must exceed 0."""


class Alike(NamedTuple):
    """Two classes that cannot be told apart.

    Attributes:
        first: Class index.
        second: Class index, greater.
        score: In [0, 1]: 0 where all images are told apart, 1 where as many as by a coin.
    """

    first: int
    second: int
    score: float


class Few(NamedTuple):
    """A class with too few images.

    Attributes:
        label: Class index.
        score: In [0, 1]: by how much its recall is higher than with a quarter of its images; 1
            where it has a single unit, of which nothing can be held out.
    """

    label: int
    score: float


def classes_alike(judgement: Judgement) -> Iterator[Alike]:
    """Yield pairs of classes between which images unseen are decided no better than by a coin.

    The 95 % interval of the mean recall of the two reaches down to a half, and does not reach up
    to `_TOLD_APART`: of few images it is wide, and nothing is said.
    """
    logits, label = judgement.logits, judgement.label
    n_classes = logits.shape[1]
    unit = judgement.data.unit[judgement.rows]
    members = [np.flatnonzero(label == one) for one in range(n_classes)]
    pairs = set()
    for one, own in enumerate(members):
        if len(own):
            likeness = logits[own].mean(axis=0)
            likeness[one] = -np.inf
            rivals = np.argsort(-likeness, kind="stable")[: min(_RIVALS, n_classes - 1)]
            pairs |= {(min(one, rival), max(one, rival)) for rival in rivals.tolist()}
    for first, second in sorted(pairs):
        if not (len(members[first]) and len(members[second])):
            continue
        recalls, limits = [], []
        for own, other in ((first, second), (second, first)):
            rows = members[own]
            right = (logits[rows, own] > logits[rows, other]).astype(np.float64)
            recalls.append(right.mean())
            limits.append(accuracy_interval(right, unit[rows]))
        low, high = np.mean(limits, axis=0)
        if low <= 0.5 and high < _TOLD_APART:
            yield Alike(first, second, float(np.clip(2 * (1 - np.mean(recalls)), 0, 1)))


def single_units(data: TrainingData) -> Iterator[Few]:
    """Yield classes of a single unit."""
    yield from (Few(int(one), 1.0) for one in np.flatnonzero(data.train_units == 1))


def classes_that_gain(judgement: Judgement) -> Iterator[Few]:
    """Yield classes whose recall still rises when images are added.

    Heads that have learned from a quarter of the units each say what they make of all others, and
    that is compared with what heads that have learned from nearly all said of the same images.
    """
    data = judgement.data
    rows, label = judgement.rows, judgement.label
    unit = units(data.unit[rows])
    part = stratified_folds(label, unit, _PARTS, data.seed)
    right = np.zeros((len(rows), 2))
    for number in range(part.max() + 1):
        taught, others = part == number, np.flatnonzero(part != number)
        matrix = Matrix(data.features, rows[taught], data.streaming_above)
        penalty = judgement.penalty * taught.mean()
        linear = fit_logistic(matrix, label[taught], data.n_classes, penalty)
        logits = linear.logits(np.asarray(data.features[rows[others]]))
        right[others] += np.stack([logits.argmax(axis=1) == label[others], np.ones(len(others))], 1)
    by_all = judgement.probabilities.argmax(axis=1) == label
    gained = by_all - right[:, 0] / np.maximum(right[:, 1], 1)
    for one in np.flatnonzero(data.train_units > 1):
        own = label == one
        index = units(unit[own])
        size = np.bincount(index)
        if len(size) < 2:
            continue
        gain = float(gained[own].mean())
        residuals = np.bincount(index, gained[own]) - gain * size
        error = float(np.sqrt((residuals**2).sum() * len(size) / (len(size) - 1)) / size.sum())
        if gain > max(_ERRORS * error, _LEAST_GAIN):
            yield Few(int(one), min(gain, 1.0))
