"""Mean, spread and eigenbasis of features that may be larger than memory."""

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
    total = np.zeros(matrix.shape[1])
    for place, block in matrix.blocks():
        total += weights[place] @ block
    return np.asarray(total / weights.sum())


def weighted_deviation(matrix: Matrix, mean: Float64s, weights: Float64s) -> Float64s:
    """Return the weighted standard deviation of each column; 1 where it is constant."""
    total = np.zeros(matrix.shape[1])
    shift = mean.astype(np.float32)
    for place, block in matrix.blocks():
        total += weights[place] @ np.square(block - shift)
    deviation = np.sqrt(total / weights.sum())
    # What rounding leaves of a constant column must not be blown up to unit variance.
    constant = deviation <= 1e-6 * np.maximum(np.abs(mean), 1e-30)
    return np.where(constant, 1.0, deviation)


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
    if n_rows < n_columns and not matrix.streamed:
        ((_, whole),) = matrix.blocks()
        scaled = whole * roots[:, None]
        values, vectors = np.linalg.eigh((scaled @ scaled.T).astype(np.float64))
        kept = values > values[-1] * n_rows * np.finfo(dtype).eps
        return values[kept], scaled.T @ (vectors[:, kept] / np.sqrt(values[kept])).astype(dtype)
    gram = np.zeros((n_columns, n_columns))
    for place, block in matrix.blocks():
        scaled = block * roots[place][:, None]
        gram += scaled.T @ scaled
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
