"""What is chosen to be labelled."""

import numpy as np
import pytest

from headstart.commands.suggest import classifier, selection
from headstart.commands.suggest.selection import Known, select
from headstart.features.matrix import Matrix

_CLUSTERS = 6


@pytest.fixture(scope="module")
def clusters() -> tuple[np.ndarray, np.ndarray]:
    """Six clusters of 5 to 55 images in 16 dimensions: features (n, 16), cluster of each."""
    rng = np.random.default_rng(0)
    middles = 6 * np.eye(_CLUSTERS, 16)
    of = np.repeat(np.arange(_CLUSTERS), [55, 45, 35, 25, 15, 5])
    return (middles[of] + rng.normal(0, 0.4, (len(of), 16))).astype(np.float32), of


def _known(features: np.ndarray, rows: np.ndarray, labels: np.ndarray) -> Known:
    found = classifier.fit(features, rows, labels, rows)
    return Known(
        Matrix(features, rows),
        found.probabilities if found else None,
        len(rows) / len(np.unique(labels)),
    )


def _rows(choices: list[selection.Choice]) -> list[int]:
    return [choice.row for choice in choices]


def test_without_labels_each_cluster_gives_its_own(clusters: tuple[np.ndarray, np.ndarray]) -> None:
    features, of = clusters
    choices = select(features, _CLUSTERS)
    assert sorted(of[_rows(choices)]) == list(range(_CLUSTERS))
    assert not any(choice.uncertain for choice in choices)
    # The largest cluster tells the most, and of each one the middle.
    assert of[choices[0].row] == 0
    own = features[of == 0]
    away = np.linalg.norm(own - own.mean(axis=0), axis=1)
    assert np.linalg.norm(features[choices[0].row] - own.mean(axis=0)) < np.quantile(away, 0.25)


def test_what_is_labelled_needs_no_other(clusters: tuple[np.ndarray, np.ndarray]) -> None:
    features, of = clusters
    labelled = np.flatnonzero(np.isin(of, (0, 1, 2)))
    rest = np.setdiff1d(np.arange(len(of)), labelled[::3])
    known = _known(features, labelled[::3], of[labelled[::3]])
    chosen = of[rest[_rows(select(features[rest], 3, known=known))]]
    assert sorted(chosen) == [3, 4, 5]


def test_each_is_chosen_once_and_again_the_same(clusters: tuple[np.ndarray, np.ndarray]) -> None:
    features, _ = clusters
    chosen = _rows(select(features, len(features) + 5))
    assert sorted(chosen) == list(range(len(features)))
    assert _rows(select(features, 40)) == _rows(select(features, 40))
    assert select(features[:0], 5) == []
    # Also where all are alike.
    assert sorted(_rows(select(np.ones((7, 3), np.float32), 7))) == list(range(7))


def test_the_choice_is_greedy(clusters: tuple[np.ndarray, np.ndarray]) -> None:
    features, _ = clusters
    centered = features - features.mean(axis=0)
    centered /= np.linalg.norm(centered, axis=1, keepdims=True)
    distances = 2 - 2 * centered @ centered.T
    nearest = np.sort(distances, axis=1)[:, round(len(features) / 10)]
    kernel = np.exp(-distances / np.median(nearest))
    told, expected = np.zeros(len(features)), []
    for _ in range(10):
        gains = np.maximum(kernel - told, 0).sum(axis=1)
        gains[expected] = -1
        expected.append(int(gains.argmax()))
        told = np.maximum(told, kernel[expected[-1]])
    assert _rows(select(features, 10)) == expected


def test_with_many_labels_the_uncertain_come_in() -> None:
    rng = np.random.default_rng(1)
    side = np.repeat([-1.0, 1.0], 200)
    features = rng.normal(0, 1, (400, 8)).astype(np.float32)
    # Most lie far from the boundary, a tenth of them on it.
    on_it = rng.random(400) < 0.1
    features[:, 0] = np.where(on_it, 0.1, 6) * side
    rows = np.sort(rng.permutation(400)[:200])
    rest = np.setdiff1d(np.arange(400), rows)
    known = _known(features, rows, (side[rows] > 0).astype(np.int64))
    choices = select(features[rest], 10, known=known)
    share = on_it[rest][_rows(choices)].mean()
    typical = on_it[rest][_rows(select(features[rest], 10))].mean()
    assert share >= 0.7 > typical
    assert sum(choice.uncertain for choice in choices) >= 7


def test_some_stand_for_all_where_there_are_many(
    clusters: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    features, of = clusters
    monkeypatch.setattr(selection, "REFERENCES", 60)
    monkeypatch.setattr(selection, "_BATCH", 16)
    drawn = [_rows(select(features, 5, seed=seed)) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert all(len(set(of[rows])) == 5 for rows in drawn)


def test_one_class_makes_no_classifier() -> None:
    features = np.eye(4, dtype=np.float32)
    rows = np.arange(3)
    assert classifier.fit(features, rows, np.zeros(3, np.int64), rows) is None


def test_the_classifier_knows_the_classes_that_occur() -> None:
    rng = np.random.default_rng(2)
    label = np.repeat([1, 4], 20)
    features = rng.normal(0, 1, (40, 6)).astype(np.float32)
    features[:, 0] += 3 * (label == 4)
    found = classifier.fit(features, np.arange(40), label, np.arange(40))
    assert found is not None
    assert found.classes.tolist() == [1, 4]
    guess = found.classes[found.probabilities(features).argmax(axis=1)]
    assert (guess == label).mean() > 0.9
