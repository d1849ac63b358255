import numpy as np
from sklearn.neighbors import NearestNeighbors

from headstart.report import neighbours
from headstart.report.neighbours import nearest, vectors

RNG = np.random.default_rng(1)
FEATURES = RNG.normal(size=(60, 8)).astype(np.float32)


def test_are_those_of_an_exhaustive_search(monkeypatch) -> None:
    queries, candidates = np.arange(10), np.arange(10, 60)
    monkeypatch.setattr(neighbours, "_BLOCK_BYTES", 7 * 8 * 4)
    rows, cosines = nearest(FEATURES, queries, candidates, 5)
    search = NearestNeighbors(n_neighbors=5, metric="cosine").fit(FEATURES[candidates])
    distances, found = search.kneighbors(FEATURES[queries])
    np.testing.assert_array_equal(rows, candidates[found])
    np.testing.assert_allclose(cosines, 1 - distances, atol=1e-6)


def test_come_in_file_order_when_equally_near() -> None:
    features = np.ones((6, 4), np.float32)
    rows, cosines = nearest(features, np.array([5]), np.array([1, 3, 0]), 2)
    assert rows.tolist() == [[1, 3]]
    np.testing.assert_allclose(cosines, 1.0)


def test_are_fewer_where_there_are_fewer_candidates() -> None:
    rows, cosines = nearest(FEATURES, np.array([0, 1]), np.array([2]), 6)
    assert rows.tolist() == [[2], [2]]
    assert cosines.shape == (2, 1)


def test_of_a_vector_of_zeros_are_at_cosine_zero() -> None:
    features = np.concatenate([np.zeros((1, 8), np.float32), FEATURES])
    _, cosines = nearest(features, np.array([0]), np.arange(1, 4), 2)
    assert cosines.tolist() == [[0.0, 0.0]]


def test_of_maps_compare_their_means() -> None:
    maps = RNG.normal(size=(9, 3, 3, 4)).astype(np.float32)
    rows = np.array([8, 2, 5])
    np.testing.assert_allclose(vectors(maps, rows), maps[rows].mean(axis=(1, 2)), atol=1e-6)
    assert nearest(maps, np.array([0]), rows, 3)[0].shape == (1, 3)
