"""Regularized linear classifiers along a path of penalties, by preconditioned L-BFGS.

Minimizes sum_i c_i loss(W' x_i + b, y_i) + penalty / 2 |W|^2 over a falling sequence of penalties,
each started from the one before. The unknowns are rotated into the eigenbasis of the features'
covariance and scaled by the curvature that the loss and the penalty have there, which makes the
problem nearly round: a handful of passes over the features per penalty instead of hundreds.
Small features are computed with in float64, others in float32. Features that are not large are
rotated once; large ones are only ever multiplied with, block by block, so they need not fit in
memory.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import OptimizeResult, minimize

from headstart.features.matrix import Matrix
from headstart.features.moments import Float64s, Floats, Moments
from headstart.heads.linear import Linear
from headstart.heads.losses import Loss

_HISTORY = 10
_MOST_PASSES = 500
# Trials of one line search; more mean that rounding hides what is left to gain.
_MOST_TRIALS = 8
# Up to this size features are computed with in float64.
_SMALL_BYTES = 64 * 1024**2
# Up to this size a rotated copy of them is made once, instead of rotating at each evaluation.
_MEDIUM_BYTES = 256 * 1024**2
# Stop when a Newton step would lower the objective by less than this share of it: far below what
# a score can see, and above what products in that precision can resolve.
_TOLERANCE = {np.dtype(np.float32): 1e-5, np.dtype(np.float64): 1e-7}
_SMALLEST_CURVATURE = 1e-6
_LEAD_IN = 10.0


@dataclass(frozen=True, slots=True)
class _Design:
    """The features as the descent multiplies with them.

    Attributes:
        matrix: Standardized features.
        rotated: Features in the eigenbasis, (n_rows, rank), unless they are large.
        basis: The eigenbasis.
        dtype: Precision of the products.
    """

    matrix: Matrix
    rotated: Floats | None
    basis: Floats
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, matrix: Matrix, basis: Floats) -> "_Design":
        size = matrix.shape[0] * basis.shape[1]
        dtype = np.dtype(np.float64 if 8 * size <= _SMALL_BYTES else np.float32)
        if matrix.streamed or 4 * size > _MEDIUM_BYTES:
            return cls(matrix, None, basis, dtype)
        ((_, whole),) = matrix.blocks()
        rotated: Floats = whole.astype(dtype) @ basis.astype(dtype)
        return cls(matrix, rotated, basis, dtype)

    def blocks(self) -> Iterator[tuple[slice, Floats]]:
        if self.rotated is None:
            for place, block in self.matrix.blocks():
                yield place, block.astype(self.dtype, copy=False)
        else:
            yield slice(0, len(self.rotated)), self.rotated

    def unrotate(self, directions: Float64s) -> Floats:
        """Return weights of the blocks' columns from (rank, n_classes) ones of the directions."""
        if self.rotated is not None:
            return directions.astype(self.dtype, copy=False)
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


class _Problem:
    """The objective at one penalty, in unknowns scaled so that it is nearly round.

    Args:
        design: The features.
        labels: (n_rows,).
        counts: (n_rows,) what each sample counts.
        loss: What is minimized besides the penalty.
        penalty: Factor of |W|^2 / 2.
        spread: (rank + 1, 1) variance of each direction, and the intercept's last.
        curvature: Mean second derivative of the loss by a logit, about where the solution is.
        n_classes: Number of classes.

    Attributes:
        unit: (rank + 1, 1) what scaled unknowns are multiplied with.
        curvature: The same mean at the latest evaluation.
    """

    def __init__(
        self,
        design: _Design,
        labels: npt.NDArray[np.int64],
        counts: Floats,
        loss: Loss,
        penalty: float,
        spread: Float64s,
        curvature: float,
        n_classes: int,
    ) -> None:
        self._design, self._labels, self._counts, self._loss = design, labels, counts, loss
        self._shape = (len(spread), n_classes)
        self._spread = spread
        self._decay = np.full_like(spread, penalty)
        if not loss.penalised_intercept:
            self._decay[-1] = 0.0
        self.unit = 1 / np.sqrt(curvature * spread + self._decay)
        self.curvature = curvature
        self._value = self._gain = np.inf

    def __call__(self, flat: Float64s) -> tuple[float, Float64s]:
        """Return value and gradient at scaled unknowns."""
        solution = self.unit * flat.reshape(self._shape)
        columns = self._design.unrotate(solution[:-1])
        intercept = solution[-1].astype(self._design.dtype)
        value, curvature = 0.0, 0.0
        gradient = np.zeros_like(columns)
        by_intercept = np.zeros(self._shape[1])
        for place, block in self._design.blocks():
            logits = block @ columns
            logits += intercept
            part, residual, curved = self._loss(logits, self._labels[place], self._counts[place])
            value += part
            curvature += curved
            gradient += block.T @ residual
            by_intercept += residual.sum(axis=0, dtype=np.float64)
        whole = np.vstack([self._design.rotate(gradient), by_intercept]) + self._decay * solution
        self._value = value + 0.5 * float((self._decay * solution**2).sum())
        # The spread's last entry is the sum of the weights.
        mean = curvature / (float(self._spread[-1, 0]) * self._shape[1])
        self.curvature = max(mean, _SMALLEST_CURVATURE)
        steepness = self.curvature * self._spread + self._decay
        self._gain = 0.5 * float((whole**2 / steepness).sum())
        return self._value, (self.unit * whole).ravel()

    def stop(self, intermediate_result: OptimizeResult) -> None:
        """End the descent when a Newton step would gain too little."""
        if self._gain <= _TOLERANCE[self._design.dtype] * self._value:
            raise StopIteration


def descend(
    matrix: Matrix,
    labels: npt.NDArray[np.int64],
    weights: Float64s,
    measured: Moments,
    loss: Loss,
    penalties: Sequence[float],
    n_classes: int,
) -> Iterator[Linear]:
    """Yield the minimizer at each penalty.

    Args:
        matrix: Standardized features.
        labels: (n_rows,) class indices; a class may be absent.
        weights: (n_rows,) what each sample counts.
        measured: Moments of the same features and weights.
        loss: What is minimized.
        penalties: Falling, so that each solution is a good start for the next.
        n_classes: Number of classes.
    """
    design = _Design.of(matrix, measured.basis)
    counts = weights.astype(design.dtype)
    curvature = loss.first_curvature(n_classes)
    spread = np.append(measured.variances, measured.total)[:, None]
    path = _Continuation(np.zeros((len(spread), n_classes)))
    lead_in = _lead_in(float(curvature * measured.variances.max(initial=0.0)), penalties[0])
    for index, penalty in enumerate((*lead_in, *penalties)):
        problem = _Problem(design, labels, counts, loss, penalty, spread, curvature, n_classes)
        found = minimize(
            problem,
            (path.continued_to(penalty) / problem.unit).ravel(),
            jac=True,
            method="L-BFGS-B",
            callback=problem.stop,
            options={
                "maxcor": _HISTORY,
                "maxfun": _MOST_PASSES,
                "maxiter": _MOST_PASSES,
                "maxls": _MOST_TRIALS,
                "ftol": 1e-12,
                "gtol": 0.0,
            },
        )
        solution = problem.unit * found.x.reshape(len(spread), n_classes)
        path.add(penalty, solution)
        curvature = problem.curvature
        if index >= len(lead_in):
            yield Linear.from_standardized(
                measured.basis @ solution[:-1], solution[-1], measured.mean, measured.scale
            )


def _lead_in(strong: float, first: float) -> tuple[float, ...]:
    """Return a penalty per decade from a strong one down to where the path begins.

    A path that begins weak has no good start and no idea of the curvature there.
    """
    decades = math.ceil(math.log10(strong / first)) if strong > first else 0
    return tuple(first * _LEAD_IN**power for power in range(decades, 0, -1))
