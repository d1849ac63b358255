"""Which images are held out in turn, with all that belongs to them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]

FOLDS = 5
"""Folds of a cross-validation, or as many as the rarest class has units, if fewer.

A class with one unit does not count: that unit is never held out.
"""

NEVER = -1
"""The fold of a unit that is never held out."""


@dataclass(frozen=True, slots=True)
class Fold:
    """One side to learn from, one to be judged on.

    Attributes:
        train: Rows to fit on, augmented views included.
        held_out: Rows to score, images themselves only.
    """

    train: Rows
    held_out: Rows


def stratified_folds(
    labels: npt.NDArray[np.int64], unit: npt.NDArray[np.int64], n_folds: int, seed: int
) -> dict[int, int]:
    """Deal units into folds so that each fold gets its share of every class.

    The largest units are dealt first, each to the fold that has fewest images of its classes;
    units of one size in an order drawn with `seed`. A unit that holds all images of a class is in
    no fold, and where one fold would hold all of a class's units out, the largest of them.

    Returns:
        Fold of each unit, from 0 without gaps; `NEVER` for one that is not held out.

    Source: the greedy rule of scikit-learn's `StratifiedGroupKFold`.
    """
    numbers, index = np.unique(unit, return_inverse=True)
    n_classes = int(labels.max()) + 1
    content = np.zeros((len(numbers), n_classes), dtype=np.int64)
    np.add.at(content, (index, labels), 1)
    n_units = np.count_nonzero(content, axis=0)
    n_folds = max(2, min(n_folds, n_units[n_units > 1].min(initial=n_folds)))
    shuffled = np.random.default_rng(seed).permutation(len(numbers))
    order = shuffled[np.argsort(-content[shuffled].sum(axis=1), kind="stable")]
    filled = np.zeros((n_folds, n_classes), dtype=np.int64)
    fold_of = np.full(len(numbers), NEVER)
    for position in order:
        classes = content[position] > 0
        if (n_units[classes] == 1).any():
            continue
        # Images of the unit's classes decide, all images break a tie.
        load = filled[:, classes].sum(axis=1) * (content.sum() + 1) + filled.sum(axis=1)
        fold = int(load.argmin())
        filled[fold] += content[position]
        fold_of[position] = fold
    for label in np.flatnonzero(n_units > 1):
        own = order[content[order, label] > 0]
        # Units of several classes can be drawn to one fold by the others.
        if len(np.unique(fold_of[own])) == 1:
            fold_of[own[0]] = NEVER
    used = np.unique(fold_of[fold_of > NEVER])
    return {
        int(number): NEVER if fold == NEVER else int(np.searchsorted(used, fold))
        for number, fold in zip(numbers, fold_of, strict=True)
    }
