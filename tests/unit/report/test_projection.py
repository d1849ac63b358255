import importlib.util

import numpy as np
import pytest
from sklearn.decomposition import PCA

from headstart.common.errors import InputError
from headstart.report.projection import project

RNG = np.random.default_rng(2)
CLOUDS = (RNG.normal(size=(40, 20)) + 8 * (np.arange(40) % 2)[:, None]).astype(np.float32)


def test_pca_is_the_two_largest_components() -> None:
    points, explained = project(CLOUDS, ("pca",), 0)
    reference = PCA(2, svd_solver="full").fit(CLOUDS)
    expected = reference.transform(CLOUDS)
    np.testing.assert_allclose(np.abs(points["pca"]), np.abs(expected), atol=1e-3)
    np.testing.assert_allclose(explained, reference.explained_variance_ratio_, atol=1e-6)


def test_tsne_keeps_neighbors_together_and_is_the_same_each_time() -> None:
    points, _ = project(CLOUDS, ("pca", "tsne"), 3)
    again, _ = project(CLOUDS, ("tsne",), 3)
    np.testing.assert_array_equal(points["tsne"], again["tsne"])
    distances = np.linalg.norm(points["tsne"][:, None] - points["tsne"][None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert ((distances.argmin(axis=1) - np.arange(40)) % 2 == 0).all()


@pytest.mark.parametrize("vectors", [np.ones((3, 4)), CLOUDS[:3], CLOUDS[:, :1]])
def test_few_or_equal_vectors_have_a_place_too(vectors: np.ndarray) -> None:
    points, explained = project(vectors.astype(np.float32), ("pca", "tsne"), 0)
    for found in points.values():
        assert found.shape == (len(vectors), 2)
        assert np.isfinite(found).all()
    assert 0 <= sum(explained) <= 1 + 1e-9


@pytest.mark.skipif(importlib.util.find_spec("umap") is not None, reason="UMAP is installed")
def test_umap_that_is_not_installed_is_told() -> None:
    with pytest.raises(
        InputError, match=r"report\.projections: umap needs .*pip install umap-learn"
    ):
        project(CLOUDS, ("umap",), 0)
