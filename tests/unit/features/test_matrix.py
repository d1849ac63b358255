import numpy as np
import pytest

from headstart.features import matrix
from headstart.features.matrix import Matrix
from headstart.features.moments import class_sums, moments

RNG = np.random.default_rng(0)
ROWS = np.array([3, 0, 17, 5, 8, 11, 2])


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix, "_PART_BYTES", 3 * 6 * 4)


def _seen(rows: Matrix) -> np.ndarray:
    return np.concatenate(list(rows.map(lambda _, block: block)))


@pytest.mark.parametrize("streaming_above", [np.inf, 0])
@pytest.mark.parametrize("shape", [(6,), (2, 3, 6)])
def test_parts_are_the_rows_standardized(shape: tuple[int, ...], streaming_above: float) -> None:
    features = RNG.normal(size=(20, *shape)).astype(np.float32)
    expected = features[ROWS].reshape(len(ROWS), -1, 6).mean(axis=1)
    seen = Matrix(features, ROWS, streaming_above)
    assert (seen.whole is None) == (streaming_above == 0)
    np.testing.assert_allclose(_seen(seen), expected, atol=1e-6)
    moments(seen, np.ones(len(ROWS)), scaled=True)
    standardized = (expected - expected.mean(axis=0)) / expected.std(axis=0)
    np.testing.assert_allclose(_seen(seen), standardized, atol=1e-5)
    places = list(seen.map(lambda place, _: place))
    assert [place.start for place in places[1:]] == [place.stop for place in places[:-1]]


def test_large_vectors_are_not_copied_and_maps_are_averaged_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(matrix, "_COPIED_BYTES", 1)
    assert Matrix(np.zeros((20, 6), np.float32), ROWS).whole is None
    assert Matrix(np.zeros((20, 2, 2, 6), np.float32), ROWS).whole is not None


def test_no_rows_have_no_parts() -> None:
    assert list(Matrix(np.zeros((20, 6), np.float32), ROWS[:0]).map(lambda *_: None)) == []


def test_sums_of_classes_are_of_what_is_made_of_the_rows() -> None:
    features = RNG.normal(size=(20, 6)).astype(np.float32)
    labels = np.array([2, 0, 2, 0, 0, 2, 2])
    found = class_sums(Matrix(features, ROWS), labels, 4, lambda place, block: block**2)
    for label in range(4):
        expected = (features[ROWS][labels == label] ** 2).sum(axis=0)
        np.testing.assert_allclose(found[label], expected, rtol=1e-5)
