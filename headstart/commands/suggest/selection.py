"""Choosing images to label: those that stand for the most of what is not known yet.

An image that is chosen tells something of all that are like it. How much, a kernel of their cosine
says; chosen are those that add the most to the sum, over all images without a label, of what is
told of an image times how uncertain it is. Without labels every image is as uncertain as any other,
so the typical ones of each cluster come first; with more and more of them the classifier's own
uncertainty takes over. What is like a chosen or labelled image adds little, so they are diverse.

Source: the coverage is that of MaxHerding, Bae et al., Generalized Coverage for More Robust
    Low-Budget Active Learning, ECCV 2024; weighing it by uncertainty is of Bae et al., Uncertainty
    Herding: One Active Learning Method for All Label Budgets, ICLR 2025. That the uncertainty
    counts by labels per class, and the width of the kernel, are this project's own, chosen on sets
    of bench/sets.py.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from headstart.features.matrix import Matrix
from headstart.features.moments import weighted_mean
from headstart.features.neighbors import directions

Vectors = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

IGNORANCE = 8.0
"""Labels per class from which on the classifier's uncertainty counts for more than ignorance.

Of few labels a classifier is surest where it knows least. With 4 or fewer, accuracy at 20 labels
fell behind that of random choice on gray photos of cats and dogs by 3 to 4 points, with 8 by none;
at 100 labels 1 to 8 differ by less than their spread over draws.
"""

REFERENCES = 4096
"""Images that stand for all where there are more: what is told of them is summed."""

# Candidates whose gain is computed at a time.
_BATCH = 256


class Known(NamedTuple):
    """What is labelled already.

    Attributes:
        vectors: Of the labelled images, (n_labelled, n_columns), raw.
        probabilities: Returns the classes' probabilities, (n, n_classes), of (n, n_columns) raw
            vectors; None where no classifier can be had.
        per_class: Labels that taught it, per class.
    """

    vectors: Matrix
    probabilities: Callable[[Vectors], npt.NDArray[np.float64]] | None
    per_class: float


class Choice(NamedTuple):
    """One chosen image.

    Attributes:
        row: Its row among the candidates.
        uncertain: Whether it was chosen for the classifier's uncertainty more than for being
            typical.
    """

    row: int
    uncertain: bool


def select(
    candidates: Vectors, count: int, *, known: Known | None = None, seed: int = 0
) -> list[Choice]:
    """Choose images to label, the most telling first.

    Args:
        candidates: (n_candidates, n_columns) float32 raw features of images without a label; no
            two of one picture.
        count: How many; all are chosen where there are not more.
        known: What is labelled.
        seed: Of the draw of images that stand for all, where there are more than `REFERENCES`.

    Returns:
        min(count, n_candidates) choices, in order.
    """
    if not len(candidates):
        return []
    count, n_known = min(count, len(candidates)), known.vectors.shape[0] if known else 0
    rng = np.random.default_rng(seed)
    drawn = np.sort(rng.choice(len(candidates), min(REFERENCES, len(candidates)), replace=False))
    mean = _mean(candidates, known)
    stand = directions(candidates[drawn], mean)
    # As many as a labelled image would stand for if all stood for equally many.
    each = (len(candidates) + n_known) / (count + n_known) * len(drawn) / len(candidates)
    kernel = _Kernel(stand, max(1, round(each)))
    told = kernel.of_cosines(_nearest(stand, known, mean))
    return list(
        _greedy(
            lambda rows: kernel(directions(candidates[rows], mean)),
            told,
            *_weights(candidates[drawn], known),
            len(candidates),
            count,
        )
    )


class _Kernel:
    """How much an image tells of those that stand for all: exp(-|a - b|^2 / width).

    Args:
        stand: (n_stand, n_columns) directions of these.
        neighbor: The width is the median of their squared distances to their nearest image of
            this number among them.
    """

    def __init__(self, stand: Vectors, neighbor: int) -> None:
        self._stand = stand
        nearest = []
        for start in range(0, len(stand), _BATCH):
            cosines = stand[start : start + _BATCH] @ stand.T
            at = max(0, len(stand) - 1 - neighbor)
            nearest.append(np.partition(cosines, at, axis=1)[:, at])
        width = 2 - 2 * float(np.median(np.concatenate(nearest)))
        # Of copies, which the caller leaves out, nothing but the next is alike.
        self._width = max(width, 1e-6)

    def __call__(self, others: Vectors) -> Vectors:
        """Return (n, n_stand), of the directions of other images, (n, n_columns)."""
        return self.of_cosines(others @ self._stand.T)

    def of_cosines(self, cosines: Vectors) -> Vectors:
        """Return the kernel of cosines of any shape."""
        told: Vectors = np.exp((cosines - 1) * np.float32(2 / self._width))
        return told


def _greedy(
    kernel: Callable[[Rows], Vectors],
    told: Vectors,
    uncertainty: Vectors,
    ignorance: float,
    n_candidates: int,
    count: int,
) -> Iterator[Choice]:
    """Choose the candidate that adds the most, again and again.

    What one adds never grows while others are chosen, so what it added before is an upper bound,
    and few have to be looked at again.

    Args:
        kernel: Returns (n, n_stand) of the rows of candidates.
        told: (n_stand,) what is told of each image that stands for all, 0 to 1.
        uncertainty: (n_stand,) what of its weight is the classifier's uncertainty.
        ignorance: The rest of its weight.
        n_candidates: How many there are.
        count: How many to choose.

    Source: Minoux, Accelerated greedy algorithms for maximizing submodular set functions, 1978.
    """
    told = told.copy()
    weight = uncertainty + np.float32(ignorance)
    every = np.arange(n_candidates)
    bound = np.empty(n_candidates)
    for start in range(0, n_candidates, _BATCH):
        rows = every[start : start + _BATCH]
        bound[rows] = np.maximum(kernel(rows) - told, 0) @ weight
    for _ in range(count):
        fresh = np.zeros(n_candidates, dtype=bool)
        while not fresh[best := int(bound.argmax())]:
            stale = np.flatnonzero(~fresh & (bound > -np.inf))
            rows = stale[np.argsort(-bound[stale], kind="stable")[:_BATCH]]
            bound[rows] = np.maximum(kernel(rows) - told, 0) @ weight
            fresh[rows] = True
        added = np.maximum(kernel(every[best : best + 1])[0] - told, 0)
        told += added
        bound[best] = -np.inf
        yield Choice(best, bool(added @ uncertainty > ignorance * added.sum()))


def _weights(vectors: Vectors, known: Known | None) -> tuple[Vectors, float]:
    """Return what an image's uncertainty counts, (n,), and what each counts besides."""
    if known is None or known.probabilities is None:
        return np.zeros(len(vectors), np.float32), 1.0
    ordered = np.sort(known.probabilities(vectors), axis=1)
    uncertain = 1 - (ordered[:, -1] - ordered[:, -2])
    ignorance = IGNORANCE / (IGNORANCE + known.per_class)
    return ((1 - ignorance) * uncertain).astype(np.float32), ignorance


def _mean(candidates: Vectors, known: Known | None) -> Vectors:
    """Return the mean row of all features."""
    total, rows = candidates.sum(axis=0, dtype=np.float64), len(candidates)
    if known is not None:
        labelled = known.vectors.shape[0]
        total += labelled * weighted_mean(known.vectors, np.ones(labelled))
        rows += labelled
    return np.asarray(total / rows, np.float32)


def _nearest(stand: Vectors, known: Known | None, mean: Vectors) -> Vectors:
    """Return each image's cosine to the labelled image that is nearest to it."""
    nearest = np.full(len(stand), -np.inf, np.float32)
    if known is not None:
        for block in known.vectors.map(lambda _, block: directions(block, mean)):
            for start in range(0, len(stand), _BATCH):
                part = slice(start, start + _BATCH)
                cosines = stand[part] @ block.T
                nearest[part] = np.maximum(nearest[part], cosines.max(axis=1))
    return nearest
