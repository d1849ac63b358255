"""Regularised linear classifiers along a path of penalties, by preconditioned L-BFGS.

Minimises sum_i c_i loss(W' x_i + b, y_i) + penalty / 2 |W|^2 over a falling sequence of penalties,
each started from the one before. The unknowns are rotated into the eigenbasis of the features'
covariance and scaled by the curvature that the loss and the penalty have there, which makes the
problem nearly round: a handful of passes over the features per penalty instead of hundreds.
The features are only ever multiplied with, block by block, so they need not fit in memory.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy.optimize import OptimizeResult, minimize

from pipeline.heads.linear import Linear
from pipeline.heads.matrix import Matrix

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]

_HISTORY = 10
_MOST_PASSES = 500
# Stop when a Newton step would lower the objective by less than this share of it: far below what
# a score can see, and above what float32 products can resolve.
_TOLERANCE = 1e-7
_SMALLEST_CURVATURE = 1e-4


class Loss(Protocol):
    """A convex loss of logits.

    Attributes:
        penalised_intercept: Whether the penalty covers the intercept too.
        first_curvature: Mean second derivative with respect to a logit, at logits of 0.
    """

    penalised_intercept: bool

    def first_curvature(self, n_classes: int) -> float:
        """Return the mean second derivative with respect to a logit, at logits of 0."""
        ...

    def __call__(
        self, logits: Float32s, labels: npt.NDArray[np.int64], weights: Float32s
    ) -> tuple[float, Float32s, float]:
        """Return the loss's sum, its derivative by each logit, and the sum of its curvatures.

        Args:
            logits: (n, n_classes); may be overwritten.
            labels: (n,).
            weights: (n,) what each sample counts.
        """
        ...


class CrossEntropy:
    """Softmax cross-entropy: multinomial logistic regression."""

    penalised_intercept = False

    def first_curvature(self, n_classes: int) -> float:
        """Return p (1 - p) at p = 1 / n_classes."""
        return (1 - 1 / n_classes) / n_classes

    def __call__(
        self, logits: Float32s, labels: npt.NDArray[np.int64], weights: Float32s
    ) -> tuple[float, Float32s, float]:
        """See `Loss`."""
        samples = np.arange(len(labels))
        logits -= logits.max(axis=1, keepdims=True)
        true = logits[samples, labels]
        probabilities = np.exp(logits, out=logits)
        total = probabilities.sum(axis=1)
        probabilities /= total[:, None]
        value = float(np.dot(weights, (np.log(total) - true).astype(np.float64)))
        squares = np.einsum("ij,ij->i", probabilities, probabilities)
        curvature = float(np.dot(weights, (1 - squares).astype(np.float64)))
        probabilities[samples, labels] -= 1
        probabilities *= weights[:, None]
        return value, probabilities, curvature


class SquaredHinge:
    """One-vs-rest squared hinge, intercept penalised: the problem that LinearSVC solves.

    Source: scikit-learn's `LinearSVC` with its default `intercept_scaling`; Fan et al.,
        LIBLINEAR, JMLR 9, 2008, problem (4) in its L2-loss form.
    """

    penalised_intercept = True

    def first_curvature(self, n_classes: int) -> float:
        """Return the curvature of a margin that is missed."""
        return 2.0

    def __call__(
        self, logits: Float32s, labels: npt.NDArray[np.int64], weights: Float32s
    ) -> tuple[float, Float32s, float]:
        """See `Loss`."""
        samples = np.arange(len(labels))
        # Margin missed: max(0, 1 - f) for the image's own class, max(0, 1 + f) for the others.
        own = logits[samples, labels]
        missed = np.maximum(logits + 1, 0, out=logits)
        missed[samples, labels] = np.maximum(1 - own, 0)
        per_sample = np.einsum("ij,ij->i", missed, missed)
        value = float(np.dot(weights, per_sample.astype(np.float64)))
        curvature = 2.0 * float(np.dot(weights, (missed > 0).sum(axis=1)))
        missed[samples, labels] *= -1
        missed *= 2 * weights[:, None]
        return value, missed, curvature


@dataclass(frozen=True, slots=True)
class Moments:
    """Weighted moments of the training features.

    Attributes:
        total: Sum of the weights.
        mean: (n_columns,).
        scale: (n_columns,) standard deviation, or ones where features keep their scale.
        variances: (rank,) eigenvalues of the standardised features' scatter matrix, weighted.
        basis: (n_columns, rank) float32, its eigenvectors.
    """

    total: float
    mean: Float64s
    scale: Float64s
    variances: Float64s
    basis: Float32s


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


def decompose(matrix: Matrix, weights: Float64s) -> tuple[Float64s, Float32s]:
    """Return eigenvalues and eigenvectors of X' diag(weights) X of a centred matrix.

    Of the smaller of the two Gram matrices; directions without any spread are left out.
    """
    n_rows, n_columns = matrix.shape
    roots = np.sqrt(weights).astype(np.float32)
    if n_rows < n_columns and not matrix.streamed:
        ((_, whole),) = matrix.blocks()
        scaled = whole * roots[:, None]
        values, vectors = np.linalg.eigh((scaled @ scaled.T).astype(np.float64))
        kept = values > values[-1] * n_rows * np.finfo(np.float32).eps
        basis = scaled.T @ (vectors[:, kept] / np.sqrt(values[kept])).astype(np.float32)
        return values[kept], basis
    gram = np.zeros((n_columns, n_columns))
    for place, block in matrix.blocks():
        scaled = block * roots[place][:, None]
        gram += scaled.T @ scaled
    values, vectors = np.linalg.eigh(gram)
    kept = values > values[-1] * n_columns * np.finfo(np.float32).eps
    return values[kept], vectors[:, kept].astype(np.float32)


def moments(matrix: Matrix, weights: Float64s, *, scaled: bool) -> Moments:
    """Measure the features and standardise `matrix` with what was found.

    Args:
        matrix: Raw features; afterwards it gives standardised ones.
        weights: (n_rows,).
        scaled: Whether columns are divided by their standard deviation, or centred only.
    """
    mean = weighted_mean(matrix, weights)
    scale = weighted_deviation(matrix, mean, weights) if scaled else np.ones(matrix.shape[1])
    matrix.standardise(mean, scale)
    variances, basis = decompose(matrix, weights)
    return Moments(float(weights.sum()), mean, scale, variances, basis)


@dataclass(slots=True)
class _Last:
    """What the latest evaluation found besides value and gradient."""

    value: float = np.inf
    step_gain: float = np.inf
    curvature: float = 0.0


def descend(
    matrix: Matrix,
    labels: npt.NDArray[np.int64],
    weights: Float64s,
    measured: Moments,
    loss: Loss,
    penalties: Sequence[float],
    n_classes: int,
) -> Iterator[Linear]:
    """Yield the minimiser at each penalty.

    Args:
        matrix: Standardised features.
        labels: (n_rows,) class indices; a class may be absent.
        weights: (n_rows,) what each sample counts.
        measured: Moments of the same features and weights.
        loss: What is minimised.
        penalties: Falling, so that each solution is a good start for the next.
        n_classes: Number of classes.
    """
    counts = weights.astype(np.float32)
    curvature = loss.first_curvature(n_classes)
    rank = len(measured.variances)
    # One row per direction, and the intercept's last.
    solution = np.zeros((rank + 1, n_classes))
    for penalty in penalties:
        decay = np.full((rank + 1, 1), penalty)
        decay[-1] = penalty if loss.penalised_intercept else 0.0
        spread = np.append(measured.variances, measured.total)[:, None]
        unit = 1 / np.sqrt(curvature * spread + decay)
        last = _Last()

        def objective(
            flat: Float64s, unit: Float64s = unit, decay: Float64s = decay, last: _Last = last
        ) -> tuple[float, Float64s]:
            rotated = unit * flat.reshape(rank + 1, n_classes)
            columns = measured.basis @ rotated[:-1].astype(np.float32)
            intercept = rotated[-1].astype(np.float32)
            value, curvature_sum = 0.0, 0.0
            gradient = np.zeros((matrix.shape[1], n_classes), np.float32)
            intercept_gradient = np.zeros(n_classes)
            for place, block in matrix.blocks():
                logits = block @ columns
                logits += intercept
                part, residual, curved = loss(logits, labels[place], counts[place])
                value += part
                curvature_sum += curved
                gradient += block.T @ residual
                intercept_gradient += residual.sum(axis=0, dtype=np.float64)
            whole = np.vstack([measured.basis.T @ gradient, intercept_gradient])
            whole = unit * (whole + decay * rotated)
            last.value = value + 0.5 * float((decay * rotated**2).sum())
            last.curvature = curvature_sum / (measured.total * n_classes)
            # The scaled problem's second derivative is about 1, so a Newton step gains |g|^2 / 2.
            last.step_gain = 0.5 * float((whole**2).sum())
            return last.value, whole.ravel()

        def stop(intermediate_result: OptimizeResult, last: _Last = last) -> None:
            if last.step_gain <= _TOLERANCE * last.value:
                raise StopIteration

        options: dict[str, Any] = {
            "maxcor": _HISTORY, "maxfun": _MOST_PASSES, "maxiter": _MOST_PASSES,
            "ftol": 1e-12, "gtol": 0.0,
        }  # fmt: skip
        found = minimize(
            objective,
            (solution / unit).ravel(),
            jac=True,
            method="L-BFGS-B",
            callback=stop,
            options=options,
        )
        solution = unit * found.x.reshape(rank + 1, n_classes)
        curvature = max(last.curvature, _SMALLEST_CURVATURE)
        yield Linear.from_standardised(
            measured.basis @ solution[:-1], solution[-1], measured.mean, measured.scale
        )
