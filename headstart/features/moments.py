"""Mean, spread and eigenbasis of features that may be larger than memory."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from headstart.features.matrix import Matrix

Floats = npt.NDArray[np.floating[Any]]
Float64s = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Moments:
    """Weighted moments of the training features.

    Attributes:
        total: Sum of the weights.
        mean: (n_columns,).
        scale: (n_columns,) standard deviation, or ones where features keep their scale.
        variances: (rank,) eigenvalues of the standardized features' scatter matrix, weighted.
        basis: (n_columns, rank) float32, its eigenvectors.
    """

    total: float
    mean: Float64s
    scale: Float64s
    variances: Float64s
    basis: Floats


def weighted_mean(matrix: Matrix, weights: Float64s) -> Float64s:
    """Return the weighted mean row, (n_columns,)."""
    sums = matrix.map(lambda place, block: weights[place] @ block)
    return np.asarray(sum(sums) / weights.sum())


def weighted_deviation(matrix: Matrix, mean: Float64s, weights: Float64s) -> Float64s:
    """Return the weighted standard deviation of each column; 1 where it is constant."""
    shift = mean.astype(np.float32)
    sums = matrix.map(lambda place, block: weights[place] @ np.square(block - shift))
    deviation = np.sqrt(sum(sums) / weights.sum())
    # What rounding leaves of a constant column must not be blown up to unit variance.
    constant = deviation <= 1e-6 * np.maximum(np.abs(mean), 1e-30)
    return np.where(constant, 1.0, deviation)


def class_sums(
    matrix: Matrix,
    labels: npt.NDArray[np.int64],
    n_classes: int,
    of: Callable[[slice, npt.NDArray[np.float32]], Floats],
) -> Float64s:
    """Return the sum over each class's rows of what is made of them, (n_classes, n_columns).

    Args:
        matrix: (n_rows, n_columns).
        labels: (n_rows,).
        n_classes: Number of classes; one without a row has a sum of 0.
        of: Makes rows of the same shape of a block of rows.
    """
    sums = np.zeros((n_classes, matrix.shape[1]))
    for place, rows in matrix.map(lambda place, block: (place, of(place, block))):
        # A product with one-hot labels would take as much memory as the logits.
        for label, row in zip(labels[place], rows, strict=True):
            sums[label] += row
    return sums


def decompose(
    matrix: Matrix, weights: Float64s, dtype: type[np.float32] | type[np.float64] = np.float32
) -> tuple[Float64s, Floats]:
    """Return eigenvalues and eigenvectors of X' diag(weights) X of a centered matrix.

    Of the smaller of the two Gram matrices; directions without any spread are left out.

    Args:
        matrix: Centered, (n_rows, n_columns).
        weights: (n_rows,).
        dtype: Precision of the products.

    Returns:
        (rank,) and (n_columns, rank).
    """
    n_rows, n_columns = matrix.shape
    roots: Floats = np.sqrt(weights).astype(dtype)
    if n_rows < n_columns and matrix.whole is not None:
        scaled = matrix.whole * roots[:, None]
        values, vectors = np.linalg.eigh((scaled @ scaled.T).astype(np.float64))
        kept = values > values[-1] * n_rows * np.finfo(dtype).eps
        return values[kept], scaled.T @ (vectors[:, kept] / np.sqrt(values[kept])).astype(dtype)

    def product(place: slice, block: npt.NDArray[np.float32]) -> Floats:
        scaled = block * roots[place, None]
        return scaled.T @ scaled

    gram = np.zeros((n_columns, n_columns))
    for part in matrix.map(product):
        gram += part
    values, vectors = np.linalg.eigh(gram)
    kept = values > values[-1] * n_columns * np.finfo(dtype).eps
    return values[kept], vectors[:, kept].astype(dtype)


def moments(matrix: Matrix, weights: Float64s, *, scaled: bool) -> Moments:
    """Measure the features and standardize `matrix` with what was found.

    Args:
        matrix: Raw features; afterwards it gives standardized ones.
        weights: (n_rows,).
        scaled: Whether columns are divided by their standard deviation, or centered only.
    """
    mean = weighted_mean(matrix, weights)
    scale = weighted_deviation(matrix, mean, weights) if scaled else np.ones(matrix.shape[1])
    matrix.standardize(mean, scale)
    variances, basis = decompose(matrix, weights)
    return Moments(float(weights.sum()), mean, scale, variances, basis)
