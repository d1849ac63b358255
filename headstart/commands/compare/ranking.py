"""Which candidates are worth their cost, and which cannot be told apart."""

import numpy as np
from numpy.typing import NDArray


def pareto_front(scores: NDArray[np.float64], costs: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which candidates no other beats: none scores as high for less, or higher for as much.

    Args:
        scores: (n,), the higher the better.
        costs: (n,), the lower the better.

    Returns:
        (n,) bool; of two that are equal in both, both are on the front.
    """
    as_good = scores[:, None] <= scores[None, :]
    as_cheap = costs[:, None] >= costs[None, :]
    better = (scores[:, None] < scores[None, :]) | (costs[:, None] > costs[None, :])
    return np.asarray(~np.any(as_good & as_cheap & better, axis=1))
