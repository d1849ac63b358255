import numpy as np
import pytest

from headstart.heads.folds import NEVER, stratified_folds


def dense_rule(labels: np.ndarray, unit: np.ndarray, n_folds: int, seed: int) -> np.ndarray:
    """The rule as it reads, over a table of all units and classes."""
    numbers, index = np.unique(unit, return_inverse=True)
    content = np.zeros((len(numbers), int(labels.max()) + 1), dtype=np.int64)
    np.add.at(content, (index, labels), 1)
    n_units = np.count_nonzero(content, axis=0)
    n_folds = max(2, min(n_folds, n_units[n_units > 1].min(initial=n_folds)))
    shuffled = np.random.default_rng(seed).permutation(len(numbers))
    order = shuffled[np.argsort(-content[shuffled].sum(axis=1), kind="stable")]
    filled = np.zeros((n_folds, content.shape[1]), dtype=np.int64)
    fold_of = np.full(len(numbers), NEVER)
    for position in order:
        classes = content[position] > 0
        if (n_units[classes] == 1).any():
            continue
        load = [(int(one[classes].sum()), int(one.sum())) for one in filled]
        fold_of[position] = load.index(min(load))
        filled[fold_of[position]] += content[position]
    for label in np.flatnonzero(n_units > 1):
        own = order[content[order, label] > 0]
        if len(np.unique(fold_of[own])) == 1:
            fold_of[own[0]] = NEVER
    used = np.unique(fold_of[fold_of > NEVER])
    return np.where(fold_of == NEVER, NEVER, np.searchsorted(used, fold_of))[index]


@pytest.mark.parametrize("seed", range(40))
def test_folds_are_those_of_the_rule(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n_images = int(rng.integers(2, 60))
    labels = rng.integers(0, int(rng.integers(2, 6)), n_images)
    unit = rng.integers(0, int(rng.integers(1, n_images + 1)), n_images)
    n_folds = int(rng.integers(2, 6))
    np.testing.assert_array_equal(
        stratified_folds(labels, unit, n_folds, seed), dense_rule(labels, unit, n_folds, seed)
    )


def test_many_units_of_many_classes_need_no_table_of_both() -> None:
    labels = np.arange(40_000) % 4000
    folds = stratified_folds(labels, np.arange(40_000), 5, 0)
    per_class = np.zeros((4000, 5), np.int64)
    np.add.at(per_class, (labels, folds), 1)
    assert (per_class == 2).all()
