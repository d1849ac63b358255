"""Regularised linear classifiers along a path of penalties, by preconditioned L-BFGS.

Minimises sum_i c_i loss(W' x_i + b, y_i) + penalty / 2 |W|^2 over a falling sequence of penalties,
each started from the one before. The unknowns are rotated into the eigenbasis of the features'
covariance and scaled by the curvature that the loss and the penalty have there, which makes the
problem nearly round: a handful of passes over the features per penalty instead of hundreds.
Small features are rotated once, in float64. Large ones are only ever multiplied with, in float32
and block by block, so they need not fit in memory.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy.optimize import OptimizeResult, minimize
from threadpoolctl import ThreadpoolController

from pipeline.heads.linear import Linear
from pipeline.heads.matrix import Matrix

Floats = npt.NDArray[np.floating[Any]]
Float64s = npt.NDArray[np.float64]

_HISTORY = 10
_MOST_PASSES = 500
# Up to this size features are rotated and computed with in float64.
_SMALL_BYTES = 64 * 1024**2
_TINY_BYTES = 8 * 1024**2
# Stop when a Newton step would lower the objective by less than this share of it: far below what
# a score can see, and above what products in that precision can resolve.
_TOLERANCE = {np.dtype(np.float32): 1e-5, np.dtype(np.float64): 1e-8}
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
        self, logits: Floats, labels: npt.NDArray[np.int64], weights: Floats
    ) -> tuple[float, Floats, float]:
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
        self, logits: Floats, labels: npt.NDArray[np.int64], weights: Floats
    ) -> tuple[float, Floats, float]:
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
        self, logits: Floats, labels: npt.NDArray[np.int64], weights: Floats
    ) -> tuple[float, Floats, float]:
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
    """Return eigenvalues and eigenvectors of X' diag(weights) X of a centred matrix.

    Of the smaller of the two Gram matrices; directions without any spread are left out.

    Args:
        matrix: Centred, (n_rows, n_columns).
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


@dataclass(frozen=True, slots=True)
class _Design:
    """The features as the descent multiplies with them.

    Attributes:
        matrix: Standardised features, unless they are small.
        rotated: Small features in the eigenbasis, (n_rows, rank) float64, else None.
        basis: The eigenbasis.
        dtype: Precision of the products.
    """

    matrix: Matrix
    rotated: Float64s | None
    basis: Floats
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, matrix: Matrix, basis: Floats) -> "_Design":
        if matrix.streamed or 8 * matrix.shape[0] * basis.shape[1] > _SMALL_BYTES:
            return cls(matrix, None, basis, np.dtype(np.float32))
        ((_, whole),) = matrix.blocks()
        rotated: Float64s = whole.astype(np.float64) @ basis.astype(np.float64)
        return cls(matrix, rotated, basis, np.dtype(np.float64))

    @property
    def tiny(self) -> bool:
        """Whether threads would wait for each other longer than they work."""
        return self.rotated is not None and self.rotated.nbytes <= _TINY_BYTES

    def blocks(self) -> Iterator[tuple[slice, Floats]]:
        if self.rotated is None:
            yield from self.matrix.blocks()
        else:
            yield slice(0, len(self.rotated)), self.rotated

    def unrotate(self, directions: Float64s) -> Floats:
        """Return weights of the blocks' columns from (rank, n_classes) ones of the directions."""
        if self.rotated is not None:
            return directions
        # Column-major halves the time of a large block's product with it.
        return np.asfortranarray(self.basis @ directions.astype(self.dtype))

    def rotate(self, gradient: Floats) -> Floats:
        """Return the gradient by the directions from that by the blocks' columns."""
        return gradient if self.rotated is not None else self.basis.T @ gradient


class _Continuation:
    """Guesses the next solution of a path: solutions move smoothly with the penalty's logarithm."""

    def __init__(self, start: Float64s) -> None:
        self._latest = start
        self._slope: Float64s | None = None
        self._position: float | None = None

    def add(self, penalty: float, solution: Float64s) -> None:
        position = math.log(penalty)
        if self._position is not None and position != self._position:
            self._slope = (solution - self._latest) / (position - self._position)
        self._latest, self._position = solution, position

    def continued_to(self, penalty: float) -> Float64s:
        if self._slope is None or self._position is None:
            return self._latest
        return self._latest + (math.log(penalty) - self._position) * self._slope


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
    design = _Design.of(matrix, measured.basis)
    threads = ThreadpoolController().select(user_api="blas")
    counts = weights.astype(design.dtype)
    curvature = loss.first_curvature(n_classes)
    rank = len(measured.variances)
    # One row per direction, and the intercept's last.
    path = _Continuation(np.zeros((rank + 1, n_classes)))
    for penalty in penalties:
        decay = np.full((rank + 1, 1), penalty)
        decay[-1] = penalty if loss.penalised_intercept else 0.0
        spread = np.append(measured.variances, measured.total)[:, None]
        unit = 1 / np.sqrt(curvature * spread + decay)
        last = _Last()
        start = path.continued_to(penalty)

        def objective(
            flat: Float64s, unit: Float64s = unit, decay: Float64s = decay, last: _Last = last
        ) -> tuple[float, Float64s]:
            rotated = unit * flat.reshape(rank + 1, n_classes)
            columns = design.unrotate(rotated[:-1])
            intercept = rotated[-1].astype(design.dtype)
            value, curvature_sum = 0.0, 0.0
            gradient = np.zeros_like(columns)
            intercept_gradient = np.zeros(n_classes)
            for place, block in design.blocks():
                logits = block @ columns
                logits += intercept
                part, residual, curved = loss(logits, labels[place], counts[place])
                value += part
                curvature_sum += curved
                gradient += block.T @ residual
                intercept_gradient += residual.sum(axis=0, dtype=np.float64)
            whole = np.vstack([design.rotate(gradient), intercept_gradient])
            whole = unit * (whole + decay * rotated)
            last.value = value + 0.5 * float((decay * rotated**2).sum())
            last.curvature = curvature_sum / (measured.total * n_classes)
            # The scaled problem's second derivative is about 1, so a Newton step gains |g|^2 / 2.
            last.step_gain = 0.5 * float((whole**2).sum())
            return last.value, whole.ravel()

        def stop(intermediate_result: OptimizeResult, last: _Last = last) -> None:
            if last.step_gain <= _TOLERANCE[design.dtype] * last.value:
                raise StopIteration

        options: dict[str, Any] = {
            "maxcor": _HISTORY, "maxfun": _MOST_PASSES, "maxiter": _MOST_PASSES,
            "ftol": 1e-12, "gtol": 0.0,
        }  # fmt: skip
        with threads.limit(limits=1 if design.tiny else None):
            found = minimize(
                objective,
                (start / unit).ravel(),
                jac=True,
                method="L-BFGS-B",
                callback=stop,
                options=options,
            )
        solution = unit * found.x.reshape(rank + 1, n_classes)
        path.add(penalty, solution)
        curvature = max(last.curvature, _SMALLEST_CURVATURE)
        yield Linear.from_standardised(
            measured.basis @ solution[:-1], solution[-1], measured.mean, measured.scale
        )
