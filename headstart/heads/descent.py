"""Regularized linear classifiers along a path of penalties, by preconditioned L-BFGS.

Minimizes sum_i c_i loss(W x_i + b, y_i) + penalty / 2 |W|^2, or |W - W_start|^2, over a falling
sequence of penalties, each started from where the ones before point to. The unknowns are rotated
into the eigenbasis of the features' covariance, where the curvature that loss and penalty have is
nearly a diagonal matrix: a handful of passes over the features per penalty instead of hundreds.
What the descent has learned of the loss's curvature at one penalty serves the next, since the
penalty's own is known. Small features are computed with in float64, others in float32, part by part
on all cores; large ones are never copied, so they need not fit in memory.

Source: Nocedal and Wright, Numerical Optimization, 2006, algorithms 3.1 and 7.4.
"""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from headstart.features.matrix import Matrix, map_parts
from headstart.features.moments import Float64s, Floats, Moments
from headstart.heads.linear import Linear
from headstart.heads.losses import Loss

# Steps remembered; where products round, older ones mislead, and of many classes they take memory.
_HISTORY = {np.dtype(np.float32): 5, np.dtype(np.float64): 10}
_MOST_PASSES = 500
# Trials of one line search; more mean that rounding hides what is left to gain.
_MOST_TRIALS = 8
# Share of the gain that the slope promises which a step has to bring.
_LEAST_GAIN = 1e-4
# Up to this size features are computed with in float64.
_SMALL_BYTES = 64 * 1024**2
# Stop when a Newton step would lower the objective by less than this share of it: far below what
# a score can see, and above what products in that precision can resolve.
_TOLERANCE = {np.dtype(np.float32): 5e-6, np.dtype(np.float64): 1e-9}
_SMALLEST_CURVATURE = 1e-6
_LEAD_IN = 10.0


@dataclass(frozen=True, slots=True)
class _Point:
    """Weights, and the loss there without the penalty.

    Attributes:
        solution: (n_vectors, rank + 1) weights of the directions, and the intercepts.
        loss: Its sum over the samples.
        gradient: Its derivative, shaped like the solution.
        curvature: Its mean second derivative by a logit.
    """

    solution: Float64s
    loss: float
    gradient: Float64s
    curvature: float


class _Objective:
    """The loss as a function of weights by the directions of the features' eigenbasis.

    Of two classes one is the other's mirror image, so there is one vector of weights to find.

    Args:
        matrix: Standardized features.
        labels: (n_rows,).
        weights: (n_rows,) what each sample counts.
        measured: Moments of the same features and weights.
        loss: What is minimized besides the penalty.
        n_classes: Number of classes.
        start: What a solution is added to; nothing where there is none.

    Attributes:
        dtype: Precision of the products.
        spread: (rank + 1,) variance of each direction, and the intercept's last.
        shape: (n_vectors, rank + 1) of a solution.
        logits_each: In how many logits each vector of weights stands.
    """

    def __init__(
        self,
        matrix: Matrix,
        labels: npt.NDArray[np.int64],
        weights: Float64s,
        measured: Moments,
        loss: Loss,
        n_classes: int,
        start: Linear | None,
    ) -> None:
        rank = len(measured.variances)
        small = 8 * matrix.shape[0] * rank <= _SMALL_BYTES
        self.dtype = np.dtype(np.float64 if small else np.float32)
        self.spread = np.append(measured.variances, measured.total)
        self.logits_each = 2 if n_classes == 2 else 1
        self.shape = (n_classes // self.logits_each, rank + 1)
        self._measured, self._labels, self._loss = measured, labels, loss
        self._counts = weights.astype(self.dtype)
        self._total = measured.total * n_classes
        self._start = start
        # Of the features, all lies in the basis; what a start has beside it moves none of them.
        self._offset = np.zeros(self.shape) if start is None else self._rotated(start)
        self._map = matrix.map
        self._basis: Floats | None = None
        if matrix.whole is not None and matrix.shape[0] < matrix.shape[1]:
            # Fewer directions than columns: rotated once, every evaluation has less to read.
            rotated: Floats = (matrix.whole @ measured.basis).astype(self.dtype, copy=False)
            self._map = partial(map_parts, rows=rotated)
            return
        self._basis = measured.basis.astype(self.dtype, copy=False)
        if matrix.whole is not None:
            rows: Floats = matrix.whole.astype(self.dtype, copy=False)
            self._map = partial(map_parts, rows=rows)

    def at(self, solution: Float64s) -> _Point:
        """Evaluate the loss."""
        moved = solution + self._offset
        weights = moved[:, :-1].astype(self.dtype)
        if self._basis is not None:
            weights = weights @ self._basis.T
        intercept = moved[:, -1:].astype(self.dtype)

        def part(place: slice, block: Floats) -> tuple[float, Floats, Floats, float]:
            # The narrow product is faster this way round, what numpy does with it the other.
            logits = np.ascontiguousarray((block.astype(self.dtype, copy=False) @ weights.T).T)
            logits += intercept
            value, residual, curvature = self._loss(
                self._mirror(logits), self._labels[place], self._counts[place]
            )
            if self.logits_each == 2:
                residual = residual[1:] - residual[:1]
            by_intercept = residual.sum(axis=1, dtype=np.float64)
            return value, residual @ block, by_intercept, curvature

        loss, curvature = 0.0, 0.0
        by_weights = np.zeros(weights.shape)
        gradient = np.zeros(solution.shape)
        for value, by_columns, by_intercept, curved in self._map(part):
            loss += value
            by_weights += by_columns
            gradient[:, -1] += by_intercept
            curvature += curved
        gradient[:, :-1] = by_weights if self._basis is None else by_weights @ self._basis
        mean = max(curvature / self._total, _SMALLEST_CURVATURE)
        return _Point(solution, loss, gradient, mean)

    def model(self, solution: Float64s) -> Linear:
        """Return the classifier of raw features."""
        measured = self._measured
        weights = measured.basis @ solution[:, :-1].T.astype(np.float32)
        found = Linear.from_standardized(
            self._mirror(weights.T).T,
            self._mirror(solution[:, -1:])[:, 0],
            measured.mean,
            measured.scale,
        )
        start = self._start
        if start is None:
            return found
        return Linear(found.weights + start.weights, found.bias + start.bias)

    def _rotated(self, start: Linear) -> Float64s:
        """Return a classifier of raw features as a solution."""
        measured, weights = self._measured, start.weights.astype(np.float64)
        intercept = start.bias + measured.mean @ weights
        by_direction = measured.basis.T @ (weights * measured.scale[:, None])
        rotated = np.concatenate([by_direction, intercept[None]]).T
        return (rotated[1:] - rotated[:1]) / 2 if self.logits_each == 2 else rotated

    def _mirror(self, vectors: Floats) -> Floats:
        """Return one row per class."""
        return np.concatenate([-vectors, vectors]) if self.logits_each == 2 else vectors


class _Memory:
    """What the latest steps tell of the loss's curvature, at whatever penalty they were taken."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._dtype = dtype
        self._pairs: deque[tuple[Floats, Floats]] = deque(maxlen=_HISTORY[dtype])

    def add(self, before: _Point, after: _Point) -> None:
        """Remember a step and how the loss's gradient changed over it."""
        step = after.solution - before.solution
        change = after.gradient - before.gradient
        # A loss that is convex and no rounding would never say otherwise.
        if np.vdot(step, change) > 0:
            self._pairs.append((step.astype(self._dtype), change.astype(self._dtype)))

    def solve(self, gradient: Float64s, diagonal: Float64s, decay: Float64s) -> Float64s:
        """Return about what a Newton step subtracts: the inverse Hessian times the gradient.

        Args:
            gradient: (n_vectors, rank + 1) of the objective.
            diagonal: (rank + 1,) about the Hessian's.
            decay: (rank + 1,) the penalty's own part of it.
        """
        solved = gradient.copy()
        decay = decay.astype(self._dtype)
        found = []
        for step, change in reversed(self._pairs):
            whole = change + decay * step
            curved = float(np.vdot(step, whole))
            share = float(np.vdot(step, solved)) / curved
            solved -= share * whole
            found.append((step, change, curved, share))
        solved /= diagonal
        if found:
            step, change, curved, _ = found[0]
            whole = change + decay * step
            solved *= curved / float(np.vdot(whole, whole / diagonal))
        # Made once more rather than kept: with many classes they are what takes memory.
        for step, change, curved, share in reversed(found):
            whole = change + decay * step
            solved += (share - float(np.vdot(whole, solved)) / curved) * step
        return solved


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


def descend(
    matrix: Matrix,
    labels: npt.NDArray[np.int64],
    weights: Float64s,
    measured: Moments,
    loss: Loss,
    penalties: Sequence[float],
    n_classes: int,
    start: Linear | None = None,
) -> Iterator[Linear]:
    """Yield the minimizer at each penalty.

    The penalty is |W - W_start|^2, and of the intercept likewise as if it were the weight of a
    column as long as a row of features is: a strong one leaves nothing but the start.

    Args:
        matrix: Standardized features.
        labels: (n_rows,) class indices; a class may be absent.
        weights: (n_rows,) what each sample counts.
        measured: Moments of the same features and weights.
        loss: What is minimized.
        penalties: Falling, so that each solution is a good start for the next.
        n_classes: Number of classes.
        start: A classifier of raw features to start from; zero without.
    """
    objective = _Objective(matrix, labels, weights, measured, loss, n_classes, start)
    memory = _Memory(objective.dtype)
    path = _Continuation(np.zeros(objective.shape))
    strongest = loss.first_curvature(n_classes) * measured.variances.max(initial=0.0)
    lead_in = _lead_in(float(strongest), penalties[0])
    for index, penalty in enumerate((*lead_in, *penalties)):
        decay = np.full_like(objective.spread, objective.logits_each * penalty)
        if start is not None:
            decay[-1] *= measured.total / max(measured.variances.sum(), 1e-30)
        elif not loss.penalised_intercept:
            decay[-1] = 0.0
        solution = _minimize(objective, memory, decay, path.continued_to(penalty))
        path.add(penalty, solution)
        if index >= len(lead_in):
            yield objective.model(solution)


def _minimize(objective: _Objective, memory: _Memory, decay: Float64s, start: Float64s) -> Float64s:
    """Return the minimizer of loss + sum(decay * solution**2) / 2."""
    tolerance = _TOLERANCE[objective.dtype]
    point = objective.at(start)
    for _ in range(_MOST_PASSES):
        value, gradient = _penalized(point, decay)
        diagonal = objective.logits_each * point.curvature * objective.spread + decay
        direction = -memory.solve(gradient, diagonal, decay)
        slope = float(np.vdot(direction, gradient))
        # Twice what a Newton step gains, by what is known of the Hessian and by its diagonal alone.
        gain = max(-slope, float(np.vdot(gradient, gradient / diagonal)))
        if gain <= 2 * tolerance * value:
            break
        step = 1.0
        for _ in range(_MOST_TRIALS):
            trial = objective.at(point.solution + step * direction)
            reached, steepness = _penalized(trial, decay)
            if reached <= value + _LEAST_GAIN * step * slope:
                break
            # Where the slope along the step would vanish if it changed evenly.
            ratio = slope / (slope - float(np.vdot(direction, steepness)))
            step *= min(max(ratio, 0.1), 0.5)
        else:
            break
        memory.add(point, trial)
        point = trial
    return point.solution


def _penalized(point: _Point, decay: Float64s) -> tuple[float, Float64s]:
    """Return value and gradient of loss and penalty together."""
    pull = decay * point.solution
    return point.loss + 0.5 * float(np.vdot(pull, point.solution)), point.gradient + pull


def _lead_in(strong: float, first: float) -> tuple[float, ...]:
    """Return a penalty per decade from a strong one down to where the path begins.

    A path that begins weak has no good start and no idea of the curvature there.
    """
    decades = math.ceil(math.log10(strong / first)) if strong > first else 0
    return tuple(first * _LEAD_IN**power for power in range(decades, 0, -1))
