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
) -> Rows:
    """Deal units into folds so that each fold gets its share of every class.

    The largest units are dealt first, each to the fold that has fewest images of its classes;
    units of one size in an order drawn with `seed`. A unit that holds all images of a class is in
    no fold, and where one fold would hold all of a class's units out, the largest of them.

    Args:
        labels: (n_images,) class indices.
        unit: (n_images,) images of one number are never torn apart.
        n_folds: How many folds, at most.
        seed: Of the order.

    Returns:
        (n_images,) fold of each image, from 0 without gaps; `NEVER` where it is not held out.

    Source: the greedy rule of scikit-learn's `StratifiedGroupKFold`.
    """
    numbers, index = np.unique(unit, return_inverse=True)
    n_classes = int(labels.max()) + 1
    # What units hold, as (unit, class) pairs: a table of both would be nearly all zeros.
    pairs, counts = np.unique(index * n_classes + labels, return_counts=True)
    of_unit, of_class = pairs // n_classes, pairs % n_classes
    n_units = np.bincount(of_class, minlength=n_classes)
    n_folds = max(2, min(n_folds, n_units[n_units > 1].min(initial=n_folds)))
    shuffled = np.random.default_rng(seed).permutation(len(numbers))
    order = shuffled[np.argsort(-np.bincount(index)[shuffled], kind="stable")]
    fold_of = _dealt(order, of_unit, of_class, counts, n_units == 1, n_folds)
    _release(fold_of, order, of_unit, of_class, n_units)
    used = np.unique(fold_of[fold_of > NEVER])
    return np.where(fold_of == NEVER, NEVER, np.searchsorted(used, fold_of))[index]


def _dealt(
    order: Rows,
    of_unit: Rows,
    of_class: Rows,
    counts: Rows,
    lone: npt.NDArray[np.bool_],
    n_folds: int,
) -> Rows:
    """Return the fold of each unit, dealt in an order; `NEVER` for those that hold a lone class."""
    fold_of = np.full(len(order), NEVER)
    free = np.ones(len(order), dtype=bool)
    free[of_unit[lone[of_class]]] = False
    begin = np.searchsorted(of_unit, np.arange(len(order) + 1)).tolist()
    # Plain numbers: a million units are dealt one by one, and arrays of five cost ten times more.
    classes, images, wanted = of_class.tolist(), counts.tolist(), free.tolist()
    filled = [[0] * n_folds for _ in range(len(lone))]
    in_all = [0] * n_folds
    for unit in order.tolist():
        if wanted[unit]:
            own = range(begin[unit], begin[unit + 1])
            # Images of the unit's classes decide, all images break a tie.
            load = [(sum(filled[classes[at]][k] for at in own), in_all[k]) for k in range(n_folds)]
            fold_of[unit] = fold = load.index(min(load))
            for at in own:
                filled[classes[at]][fold] += images[at]
                in_all[fold] += images[at]
    return fold_of


def _release(fold_of: Rows, order: Rows, of_unit: Rows, of_class: Rows, n_units: Rows) -> None:
    """Take the largest unit out of its fold where that would hold all of a class's units out."""
    lowest, highest = np.full(len(n_units), len(order)), np.full(len(n_units), NEVER)
    np.minimum.at(lowest, of_class, fold_of[of_unit])
    np.maximum.at(highest, of_class, fold_of[of_unit])
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    # Units of several classes can be drawn to one fold by the others.
    for label in np.flatnonzero((n_units > 1) & (lowest == highest)):
        own = of_unit[of_class == label]
        if len(np.unique(fold_of[own])) == 1:
            fold_of[own[place[own].argmin()]] = NEVER
