import subprocess
import sys

import numpy as np
import pytest

from headstart.features import approximate
from headstart.features.approximate import ApproximateIndex, index_for
from headstart.features.neighbors import NeighborIndex

N_VECTORS, N_COLUMNS = 6000, 96


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    """Images of 60 classes that vary in few directions, as bottleneck features do."""
    rng = np.random.default_rng(0)
    basis = rng.standard_normal((24, N_COLUMNS))
    centers = rng.standard_normal((60, 24))
    images = centers[np.arange(N_VECTORS) % 60] + 0.7 * rng.standard_normal((N_VECTORS, 24))
    return (images @ basis + 0.1 * rng.standard_normal((N_VECTORS, N_COLUMNS))).astype(np.float32)


def test_copies_are_found_and_cosines_are_exact(features: np.ndarray) -> None:
    rows, count = np.arange(1, N_VECTORS), 3
    noise = np.random.default_rng(1).standard_normal((300, N_COLUMNS)).astype(np.float32)
    queries = features[rows[:300]] + 0.05 * noise
    cosines, positions = ApproximateIndex.of(features, rows).search(queries, count)
    exact = NeighborIndex.of(features, rows)
    expected, best = exact.search(queries, count)
    np.testing.assert_array_equal(positions[:, 0], best[:, 0])
    same = positions == best
    assert same.mean() > 0.95
    np.testing.assert_allclose(cosines[same], expected[same], atol=1e-5)
    assert (np.diff(cosines, axis=1) <= 0).all()


def test_the_same_rows_give_the_same_neighbors(features: np.ndarray) -> None:
    rows = np.arange(0, N_VECTORS, 2)
    one, other = (ApproximateIndex.of(features, rows).search(features[:64], 5) for _ in range(2))
    np.testing.assert_array_equal(one[0], other[0])
    np.testing.assert_array_equal(one[1], other[1])


def test_maps_are_averaged_and_few_columns_kept_as_they_are(features: np.ndarray) -> None:
    maps = features[:600].reshape(600, 4, 3, 8)
    index = ApproximateIndex.of(maps, np.arange(600))
    assert index.projection is None
    cosines, positions = index.search(maps[:50], 1)
    np.testing.assert_array_equal(positions[:, 0], np.arange(50))
    np.testing.assert_allclose(cosines, 1, atol=1e-5)


def test_what_is_not_found_is_told(features: np.ndarray) -> None:
    cosines, positions = ApproximateIndex.of(features, np.arange(12)).search(features[:2], 20)
    assert cosines.shape == positions.shape == (2, 12)
    assert ((positions >= 0) | (cosines == -1)).all()
    assert positions[0, 0] == 0


def test_small_searches_are_exact(monkeypatch: pytest.MonkeyPatch, features: np.ndarray) -> None:
    assert isinstance(index_for(features, np.arange(100), 10), NeighborIndex)
    monkeypatch.setattr(approximate, "EXACT_PAIRS", 999)
    assert isinstance(index_for(features, np.arange(100), 10), ApproximateIndex)


def test_the_library_of_large_searches_is_not_imported_before() -> None:
    code = "import headstart.features.approximate, sys; sys.exit('faiss' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
