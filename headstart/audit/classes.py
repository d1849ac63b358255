"""Which classes cannot be told apart, and which have too few images."""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from headstart.audit.labels import Judgement, held_out_logits
from headstart.heads.data import TrainingData
from headstart.scoring.intervals import accuracy_interval

Rows = npt.NDArray[np.int64]

_TOLD_APART = 0.8
"""Share of right decisions between two classes that must be out of reach for them to be merged."""

_RIVALS = 3
"""Other classes that each one is compared with: those that its images are taken for the most."""

_LEAST_GAIN = 0.02
_ERRORS = 2.5
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
        score: In [0, 1]: by how much its recall rose when images were doubled; 1 where it has a
            single unit, of which nothing can be held out.
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


def classes_with_few(judgement: Judgement) -> Iterator[Few]:
    """Yield classes whose recall still rises when images are added.

    The head is cross-validated on half of each class's units, and what it says of them is compared
    with what it said when it had learned from all.
    """
    data = judgement.data
    units = data.train_units
    yield from (Few(int(one), 1.0) for one in np.flatnonzero(units == 1))
    half = _half(data)
    held_out, logits = held_out_logits(replace(data, train=half), judgement.penalty)
    if not len(held_out):
        return
    place = np.searchsorted(judgement.rows, held_out)
    place = np.minimum(place, len(judgement.rows) - 1)
    both = judgement.rows[place] == held_out
    place, logits, label = place[both], logits[both], data.label[held_out[both]]
    by_all = judgement.probabilities[place].argmax(axis=1) == label
    gained = by_all.astype(np.float64) - (logits.argmax(axis=1) == label)
    unit = data.unit[held_out[both]]
    for one in np.flatnonzero(units > 1):
        own = label == one
        index = np.unique(unit[own], return_inverse=True)[1]
        size = np.bincount(index)
        if len(size) < 2:
            continue
        gain = float(gained[own].mean())
        residuals = np.bincount(index, gained[own]) - gain * size
        error = float(np.sqrt((residuals**2).sum() * len(size) / (len(size) - 1)) / size.sum())
        if gain > max(_ERRORS * error, _LEAST_GAIN):
            yield Few(int(one), gain)


def _half(data: TrainingData) -> Rows:
    """Return the images of half of each class's units, of two at least."""
    rows = data.train_images
    rng = np.random.default_rng(data.seed)
    order = rng.permutation(int(data.unit.max()) + 1)
    kept: list[Rows] = []
    for one in range(data.n_classes):
        own = rows[data.label[rows] == one]
        units = np.unique(data.unit[own])
        units = units[np.argsort(order[units])]
        kept.append(own[np.isin(data.unit[own], units[: max(2, len(units) // 2)])])
    return np.sort(np.concatenate(kept))
