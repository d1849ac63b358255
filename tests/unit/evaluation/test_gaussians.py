"""Distances to classes against the definitions, and scikit-learn's shrinkage."""

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf

from headstart.evaluation.gaussians import Fit, roots, shrink

# More columns than images, and fewer: the smaller of two matrices is taken apart.
SHAPES = pytest.mark.parametrize(("n_images", "n_columns"), [(40, 100), (90, 20)])


def images(n_images: int, n_columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Features that vary in six directions for the most part, and labels of three classes."""
    rng = np.random.default_rng(0)
    label = np.arange(n_images) % 3
    mixed = rng.normal(0, 1, (n_images, 6)) @ rng.normal(0, 1, (6, n_columns))
    features = mixed + rng.normal(0, 0.3, (n_images, n_columns)) + label[:, None]
    return features.astype(np.float32), label


def fit(features: np.ndarray, label: np.ndarray, unit: np.ndarray | None = None) -> Fit:
    alone = np.arange(len(label))
    return Fit(features, alone, label, alone if unit is None else unit)


def residuals_of(vectors: np.ndarray, label: np.ndarray, weight: np.ndarray) -> tuple:
    classes, index = np.unique(label, return_inverse=True)
    means = np.stack([
        np.average(vectors[label == one], axis=0, weights=weight[label == one]) for one in classes
    ])  # fmt: skip
    return means, vectors - means[index]


def distance(
    features: np.ndarray, label: np.ndarray, unit: np.ndarray, left: np.ndarray,
    shrinkage: float, probe: np.ndarray,
) -> float:  # fmt: skip
    """Distance of `probe` to the nearest class of the images that are `left`."""
    vectors = roots(features).astype(np.float64)
    weight = 1 / np.bincount(unit)[unit]
    _, residuals = residuals_of(vectors, label, weight)
    least = shrinkage * weight @ np.square(residuals).mean(axis=1) / weight.sum()
    means, residuals = residuals_of(vectors[left], label[left], weight[left])
    scatter = (residuals * weight[left, None]).T @ residuals
    covariance = (1 - shrinkage) * scatter / weight.sum() + least * np.eye(vectors.shape[1])
    apart = roots(probe[None])[0] - means
    return float(least * np.einsum("ij,jk,ik->i", apart, np.linalg.inv(covariance), apart).min())


@SHAPES
def test_distances_are_those_of_the_definition(n_images: int, n_columns: int) -> None:
    features, label = images(n_images, n_columns)
    fitted = fit(features, label)
    every = np.ones(n_images, bool)
    probes = np.random.default_rng(1).normal(0, 1, (5, n_columns)).astype(np.float32)
    unit = np.arange(n_images)
    expected = [distance(features, label, unit, every, fitted.shrinkage, probe) for probe in probes]
    assert fitted.gaussians.distances(probes) == pytest.approx(expected, rel=1e-4)


@SHAPES
def test_shrinkage_is_that_of_ledoit_and_wolf(n_images: int, n_columns: int) -> None:
    features, label = images(n_images, n_columns)
    _, residuals = residuals_of(roots(features).astype(np.float64), label, np.ones(n_images))
    variances = np.linalg.eigvalsh(residuals.T @ residuals / n_images)
    fourth = float(np.mean(np.square(residuals).sum(axis=1) ** 2))
    shrinkage, sphere = shrink(variances, fourth, n_images, n_columns)
    assert shrinkage == pytest.approx(ledoit_wolf(residuals, assume_centered=True)[1])
    assert sphere == pytest.approx(np.square(residuals).mean())
    # A half at least is what is used.
    assert fit(features, label).shrinkage == pytest.approx(max(shrinkage, 0.5))
    noise = np.random.default_rng(0).normal(0, 1, (n_images, n_columns)).astype(np.float32)
    assert fit(np.abs(noise), label).shrinkage > 0.5


@SHAPES
def test_leaving_out_is_fitting_without(n_images: int, n_columns: int) -> None:
    features, label = images(n_images, n_columns)
    # A class of its own, a unit of four images in two classes, and one that is all of its class.
    label[[30, 20, 21]] = 3, 4, 4
    keys = np.arange(n_images)
    keys[[1, 2, 4, 7, 10, 11]] = 1
    keys[[20, 21]] = 20
    unit = np.unique(keys, return_inverse=True)[1]
    fitted = fit(features, label, unit)
    units = np.arange(unit.max() + 1)
    expected = [
        distance(
            features, label, unit, unit != one, fitted.shrinkage, features[np.argmax(unit == one)]
        )
        for one in units
    ]
    assert fitted.left_out(units) == pytest.approx(expected, rel=1e-4)
    assert fitted.left_out(units[3:5]) == pytest.approx(expected[3:5], rel=1e-4)


def test_a_unit_counts_as_one_image_however_often_it_was_copied() -> None:
    features, label = images(40, 100)
    copies = np.where(np.arange(40) == 5, 9, 1)
    once = fit(features, label)
    often = fit(features.repeat(copies, axis=0), label.repeat(copies), np.arange(40).repeat(copies))
    probes = np.random.default_rng(1).normal(0, 1, (5, 100)).astype(np.float32)
    assert often.gaussians.distances(probes) == pytest.approx(
        once.gaussians.distances(probes), rel=1e-4
    )
    assert often.left_out(np.arange(40)) == pytest.approx(once.left_out(np.arange(40)), rel=1e-4)


def test_where_nothing_varies_within_the_classes_the_distance_is_the_plain_one() -> None:
    features = np.eye(6, 8, dtype=np.float32)
    fitted = fit(features, np.arange(6))
    assert fitted.shrinkage == 1
    assert fitted.gaussians.distances(features) == pytest.approx(np.zeros(6), abs=1e-6)
    assert fitted.gaussians.distances(np.eye(1, 8, 7, dtype=np.float32)) == pytest.approx([2])
    assert fitted.left_out(np.arange(6)) == pytest.approx(np.full(6, 2))
    same = fit(np.ones((9, 8), np.float32), np.arange(9) % 2)
    assert (same.shrinkage, same.gaussians.usual.shape) == (1, (8, 0))
    assert same.left_out(np.arange(9)) == pytest.approx(np.zeros(9), abs=1e-6)


def test_without_its_only_unit_no_class_is_left() -> None:
    assert np.isinf(fit(np.ones((3, 4), np.float32), np.zeros(3), np.zeros(3, int)).left_out(
        np.zeros(1, int)
    )).all()  # fmt: skip


def test_roots() -> None:
    features = np.array([[4, -9, 0, 3], [0, 0, 0, 0], [3e38, 3e38, 3e38, 0]], np.float32)
    root = 1 / np.sqrt(3)
    expected = [[0.5, -0.75, 0, np.sqrt(3) / 4], [0, 0, 0, 0], [root, root, root, 0]]
    assert roots(features) == pytest.approx(np.array(expected), abs=1e-6)
    maps = np.random.default_rng(0).random((2, 3, 5, 4)).astype(np.float32)
    assert np.array_equal(roots(maps), roots(maps.mean(axis=(1, 2))))
