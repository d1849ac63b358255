import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from headstart.features import matrix
from headstart.features.neighbors import NeighborIndex

RNG = np.random.default_rng(1)
FEATURES = RNG.normal(size=(60, 8)).astype(np.float32)


def search(features: np.ndarray, queries: list[int], rows: list[int], count: int, **options):
    return NeighborIndex.of(features, np.array(rows), center=False, **options).search(
        features[queries], count
    )


@pytest.mark.parametrize("streaming_above", [np.inf, 0])
def test_neighbors_are_those_of_an_exhaustive_search(
    monkeypatch: pytest.MonkeyPatch, streaming_above: float
) -> None:
    monkeypatch.setattr(matrix, "_PART_BYTES", 7 * 8 * 4)
    queries, rows = list(range(10)), list(range(10, 60))
    cosines, positions = search(FEATURES, queries, rows, 5, streaming_above=streaming_above)
    reference = NearestNeighbors(n_neighbors=5, metric="cosine").fit(FEATURES[rows])
    distances, found = reference.kneighbors(FEATURES[queries])
    np.testing.assert_array_equal(positions, found)
    np.testing.assert_allclose(cosines, 1 - distances, atol=1e-6)


def test_a_centered_index_compares_directions_from_the_mean() -> None:
    index = NeighborIndex.of(FEATURES + 100, np.arange(60))
    _, positions = index.search(FEATURES[:5] + 100, 1)
    assert positions[:, 0].tolist() == [0, 1, 2, 3, 4]


def test_neighbors_come_in_order_when_equally_near() -> None:
    features = np.ones((9, 4), np.float32)
    cosines, positions = search(features, [5], [1, 3, 0, 7, 8], 3)
    assert positions.tolist() == [[0, 1, 2]]
    np.testing.assert_allclose(cosines, 1.0)


def test_neighbors_are_fewer_where_there_are_fewer_vectors() -> None:
    cosines, positions = search(FEATURES, [0, 1], [2], 6)
    assert positions.tolist() == [[0], [0]]
    assert cosines.shape == (2, 1)


def test_a_vector_of_zeros_is_at_cosine_zero() -> None:
    features = np.concatenate([np.zeros((1, 8), np.float32), FEATURES])
    cosines, _ = search(features, [0], [1, 2, 3], 2)
    assert cosines.tolist() == [[0.0, 0.0]]


def test_maps_are_compared_by_their_means() -> None:
    maps = RNG.normal(size=(9, 3, 3, 4)).astype(np.float32)
    cosines, positions = search(maps, [0], [8, 2, 5], 3)
    vectors = maps.mean(axis=(1, 2))
    expected, order = search(vectors, [0], [8, 2, 5], 3)
    np.testing.assert_array_equal(positions, order)
    np.testing.assert_allclose(cosines, expected, atol=1e-6)
