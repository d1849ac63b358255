"""t-SNE of as many points as a page holds: exact, and without scikit-learn.

Up to the 5,000 points of the largest page the exact gradient costs no more than scikit-learn's
Barnes-Hut approximation, and for 600 a quarter; importing scikit-learn alone takes longer.

Source: van der Maaten and Hinton, Visualizing Data using t-SNE, JMLR 2008; the settings are those
    of Belkina et al., Automated optimized parameters for t-distributed stochastic neighbor
    embedding, Nature Communications 2019 (learning rate), and of FIt-SNE (750 steps, of which 250
    exaggerated).
"""

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float32]

_LARGEST_EXAGGERATION = 12.0
# Steps, momentum, and by how much neighbors attract more than they should.
_PHASES = ((250, 0.5, _LARGEST_EXAGGERATION), (500, 0.8, 1.0))
_LEAST_RATE = 200.0
_LEAST_GAIN = 0.01
_LEAST_PROBABILITY = 1e-12
_HALVINGS = 64
_ENTROPY_TOLERANCE = 1e-5
# A block of rows of the matrices that stays in a core's cache.
_BLOCK_BYTES = 2**19


def embed(
    vectors: npt.NDArray[np.float64], start: Matrix, perplexity: float
) -> npt.NDArray[np.float64]:
    """Place vectors in the plane so that near ones stay near.

    Args:
        vectors: (n, dim).
        start: (n, 2) where to begin, with a small spread.
        perplexity: How many neighbors a vector has, about; below n.

    Returns:
        (n, 2) points.
    """
    joint = _joint_probabilities(vectors, perplexity)
    points = start.astype(np.float32)
    for steps, momentum, exaggeration in _PHASES:
        points = _descend(joint, points, steps, np.float32(momentum), exaggeration)
    return points.astype(np.float64)


def _descend(
    joint: Matrix, points: Matrix, steps: int, momentum: np.float32, exaggeration: float
) -> Matrix:
    rate = np.float32(max(len(points) / _LARGEST_EXAGGERATION, _LEAST_RATE))
    update, gain = np.zeros_like(points), np.ones_like(points)
    for _ in range(steps):
        gradient = _gradient(joint, points, exaggeration)
        # Larger steps where the direction stays, smaller ones where it turns.
        gain = np.where(gradient * update < 0, gain + np.float32(0.2), gain * np.float32(0.8))
        np.maximum(gain, np.float32(_LEAST_GAIN), out=gain)
        update = momentum * update - rate * gain * gradient
        points = points + update
    return points


def divergence(
    vectors: npt.NDArray[np.float64], points: npt.NDArray[np.float64], perplexity: float
) -> float:
    """Return the Kullback-Leibler divergence in nats that `embed` makes small."""
    joint = _joint_probabilities(vectors, perplexity).astype(np.float64)
    near = 1 / (1 + _squared_distances(points, points))
    np.fill_diagonal(near, 0)
    near /= near.sum()
    return float((joint * np.log(joint / np.maximum(near, _LEAST_PROBABILITY)))[near > 0].sum())


def _squared_distances(
    some: npt.NDArray[np.float64], others: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    distances = -2 * (some @ others.T)
    distances += (some**2).sum(axis=1)[:, None]
    distances += (others**2).sum(axis=1)
    return np.maximum(distances, 0, out=distances)


def _blocks(n: int, row_bytes: int) -> list[slice]:
    step = max(1, _BLOCK_BYTES // row_bytes)
    return [slice(first, min(first + step, n)) for first in range(0, n, step)]


def _joint_probabilities(vectors: npt.NDArray[np.float64], perplexity: float) -> Matrix:
    """Return how much each two vectors count as neighbors, (n, n), summing to 1."""
    n = len(vectors)
    conditional = np.empty((n, n), np.float32)
    for block in _blocks(n, 8 * n):
        distances = _squared_distances(vectors[block], vectors)
        conditional[block] = _conditional(distances, block.start, perplexity)
    joint: Matrix = (conditional + conditional.T) / np.float32(2 * n)
    np.maximum(joint, np.float32(_LEAST_PROBABILITY), out=joint)
    return joint


def _conditional(
    distances: npt.NDArray[np.float64], first: int, perplexity: float
) -> npt.NDArray[np.float64]:
    """Return the neighbors' probabilities of some vectors, whose own columns begin at `first`.

    The precision of each vector's kernel is found by halving: its entropy is the logarithm of the
    perplexity.
    """
    own = np.arange(len(distances)), first + np.arange(len(distances))
    distances[own] = np.inf
    # So that the nearest has the power 1, and no sum is 0.
    distances -= distances.min(axis=1, keepdims=True)
    distances[own] = 0
    distances /= distances.mean(axis=1, keepdims=True) + np.finfo(np.float64).tiny
    low, high = np.zeros((len(distances), 1)), np.full((len(distances), 1), np.inf)
    precision = np.ones((len(distances), 1))
    for _ in range(_HALVINGS):
        powers = np.exp(-precision * distances)
        powers[own] = 0
        total = powers.sum(axis=1, keepdims=True)
        mean = (powers * distances).sum(axis=1, keepdims=True) / total
        excess = np.log(total) + precision * mean - np.log(perplexity)
        if np.abs(excess).max() < _ENTROPY_TOLERANCE:
            break
        low, high = np.where(excess > 0, precision, low), np.where(excess > 0, high, precision)
        precision = np.where(np.isinf(high), 2 * precision, (low + high) / 2)
    return np.asarray(powers / total)


def _gradient(joint: Matrix, points: Matrix, exaggeration: float) -> Matrix:
    """Return a quarter of the divergence's gradient with respect to the points, (n, 2).

    The usual learning rates are for that quarter.
    """
    n = len(points)
    squares = (points**2).sum(axis=1)
    one = np.ones(n, np.float32)
    # One product gives 1 + the squared distances.
    left = np.column_stack([np.float32(-2) * points, squares + np.float32(1), one])
    right = np.column_stack([points, one, squares]).T
    charges = np.column_stack([points, one])
    attraction, repulsion = np.empty((n, 3), np.float32), np.empty((n, 3), np.float32)
    total = 0.0
    for block in _blocks(n, 4 * n):
        near = left[block] @ right
        np.reciprocal(near, out=near)
        # A point does not act on itself.
        near[np.arange(len(near)), block.start + np.arange(len(near))] = 0
        total += float(near.sum(dtype=np.float64))
        attraction[block] = (joint[block] * near) @ charges
        near *= near
        repulsion[block] = near @ charges
    force = np.float32(exaggeration) * attraction - repulsion / np.float32(total)
    quarter: Matrix = points * force[:, 2:] - force[:, :2]
    return quarter
