import importlib.util
from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from headstart.common.errors import InputError
from headstart.features.file import FeatureFile
from headstart.report import projection, tsne
from headstart.report.options import ReportOptions
from headstart.report.projection import kept_projections, project
from tests.report_run import finish_run

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


def test_tsne_is_as_good_as_scikit_learns() -> None:
    vectors = np.random.default_rng(5).normal(size=(120, 10)) + 4 * np.eye(10)[np.arange(120) % 5]
    start = (vectors[:, :2] * 1e-4).astype(np.float32)
    own = tsne.embed(vectors, start, 20.0)
    other = TSNE(perplexity=20.0, init=start, method="exact", random_state=0).fit(vectors)
    reference = tsne.divergence(vectors, other.embedding_.astype(np.float64), 20.0)
    assert reference == pytest.approx(other.kl_divergence_, rel=0.01)
    assert tsne.divergence(vectors, own, 20.0) < 1.05 * reference


def test_tsne_in_blocks_of_rows_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    points, _ = project(CLOUDS, ("tsne",), 0)
    joint = tsne._joint_probabilities(CLOUDS.astype(np.float64), 10.0)
    gradient = tsne._gradient(joint, points["tsne"].astype(np.float32), 1.0)
    monkeypatch.setattr(tsne, "_BLOCK_BYTES", 1000)
    again = tsne._joint_probabilities(CLOUDS.astype(np.float64), 10.0)
    np.testing.assert_allclose(again, joint, rtol=1e-4)
    assert joint.sum() == pytest.approx(1, abs=1e-5)
    in_blocks = tsne._gradient(joint, points["tsne"].astype(np.float32), 1.0)
    np.testing.assert_allclose(in_blocks, gradient, atol=1e-6)


def test_projections_are_kept_until_what_decides_them_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    finish_run(tmp_path, ("a", "b"), spread=0.45)
    file = FeatureFile.open(tmp_path / "features/bottleneck.h5")
    rows = file.rows()
    first = kept_projections(file, rows, ("pca", "tsne"), 0)
    counted: list[int] = []

    def count(vectors: np.ndarray, *arguments: object) -> tuple[dict, tuple[float, float]]:
        counted.append(len(vectors))
        return project(vectors, *arguments)

    monkeypatch.setattr(projection, "project", count)
    assert kept_projections(file, rows, ("pca", "tsne"), 0) == first
    assert counted == []
    kept_projections(file, rows[1:], ("pca", "tsne"), 0)
    kept_projections(file, rows, ("pca",), 0)
    kept_projections(file, rows, ("pca", "tsne"), 1)
    assert counted == [len(rows) - 1, len(rows), len(rows)]
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "another"))
    assert kept_projections(file, rows, ("pca", "tsne"), 0) == first


@pytest.mark.parametrize(
    "vectors", [np.ones((3, 4)), CLOUDS[:3], CLOUDS[:, :1], np.repeat(CLOUDS[:2], 40, axis=0)]
)
def test_few_or_equal_vectors_have_a_place_too(vectors: np.ndarray) -> None:
    points, explained = project(vectors.astype(np.float32), ("pca", "tsne"), 0)
    for found in points.values():
        assert found.shape == (len(vectors), 2)
        assert np.isfinite(found).all()
    assert 0 <= sum(explained) <= 1 + 1e-9


@pytest.mark.skipif(importlib.util.find_spec("umap") is not None, reason="UMAP is installed")
def test_umap_that_is_not_installed_is_told() -> None:
    options = ReportOptions(seed=0, pictures=0, heat_maps=0, projections=["umap"])
    with pytest.raises(
        InputError, match=r"report\.projections: umap needs .*pip install umap-learn"
    ):
        options.check_packages()
