"""Tails and quantiles of beta distributions, without SciPy, whose import takes longest."""

from functools import cache

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

_NODES = 80
_STEPS = 60


def upper_tail(first: Values, second: Values, at: float) -> Values:
    """Return the probability of more than `at` under beta distributions.

    Args:
        first: (n,) first shape parameters, from 0.5 up.
        second: (n,) second shape parameters, from 0.5 up.
        at: In (0, 1).
    """
    at = min(at, 1 - np.finfo(np.float64).eps)
    offset = np.log(at) - np.log1p(-at) - np.log(first) + np.log(second)
    below, above = _masses(first, second, offset)
    return np.asarray(above / (below + above))


def quantile(first: float, second: float, tail: float) -> float:
    """Return the value above which a beta distribution has the probability `tail`.

    The logarithm of the upper tail falls and is concave over the log-odds, so that Newton's steps
    from the right of the quantile never pass it.

    Args:
        first: First shape parameter, from 0.5 up.
        second: Second shape parameter, from 0.5 up.
        tail: In (0, 0.5].
    """
    a, b = np.array([first]), np.array([second])
    scale = np.sqrt(1 / a + 1 / b)
    offset = 4 * scale + 6 / b
    for _ in range(_STEPS):
        below, above = _masses(a, b, offset)
        missing = np.log(above / (below + above) / tail)
        step = missing * above / np.exp(_log_density(a, b, offset))
        offset = offset + step
        if abs(step[0]) < 1e-12 * scale[0]:
            break
    return float(1 / (1 + second / first * np.exp(-offset[0])))


def _masses(a: Values, b: Values, offset: Values) -> tuple[Values, Values]:
    """Integrate the density of the log-odds below and above `offset` from its mode, (n,) each.

    It is smooth and falls at least as exp(-a) and exp(-b) to the sides, so that quadrature over
    what is not negligible is exact to rounding, and needs no log-gamma, which large shape
    parameters would rob of its digits.
    """
    scale = 9 * np.sqrt(1 / a + 1 / b)
    return (
        _integral(a, b, np.minimum(-scale - 40 / a, offset), offset),
        _integral(a, b, offset, np.maximum(scale + 40 / b, offset)),
    )


def _integral(a: Values, b: Values, start: Values, end: Values) -> Values:
    nodes, weights = _quadrature()
    half = (end - start)[:, None] / 2
    values = np.exp(_log_density(a[:, None], b[:, None], start[:, None] + half * (1 + nodes)))
    return np.asarray((values * half) @ weights)


def _log_density(a: Values, b: Values, offset: Values) -> Values:
    """Return the log density of the log-odds at `offset` from its mode, less that at the mode."""
    return np.asarray(a * offset - (a + b) * np.log1p(a / (a + b) * np.expm1(offset)))


@cache
def _quadrature() -> tuple[Values, Values]:
    return np.polynomial.legendre.leggauss(_NODES)
