"""Which training images lie nearest to a test image in feature space."""

import numpy as np
import numpy.typing as npt

_BLOCK_BYTES = 2**26


def pooled(features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return one vector per image.

    Args:
        features: (n, feature_dim) as it is, or (n, h, w, c), whose mean over the positions is
            taken.

    Returns:
        (n, feature_dim) float32.
    """
    return features if features.ndim == 2 else features.mean(axis=(1, 2), dtype=np.float32)


def vectors(
    features: npt.NDArray[np.float32], rows: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Read and pool rows of mapped features, block by block."""
    return np.concatenate([pooled(features[block]) for block in _blocks(features, rows)])


def nearest(
    features: npt.NDArray[np.float32],
    queries: npt.NDArray[np.int64],
    candidates: npt.NDArray[np.int64],
    count: int,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Find the candidates with the largest cosine to each query.

    The candidates are read block by block, so that memory does not grow with their number.

    Args:
        features: (n_rows, *feature_shape), usually a map of the feature file.
        queries: Rows to find neighbours of.
        candidates: Rows to find them among; at least one.
        count: How many; fewer when there are fewer candidates.

    Returns:
        Rows, (n_queries, count), nearest first, the earlier row first among equals, and their
        cosines in [-1, 1].
    """
    wanted = _unit_length(vectors(features, queries))
    best_rows = np.empty((len(queries), 0), np.int64)
    best = np.empty((len(queries), 0))
    for block in _blocks(features, candidates):
        cosine = wanted @ _unit_length(pooled(features[block])).T
        best = np.concatenate([best, cosine], axis=1)
        best_rows = np.concatenate([best_rows, np.broadcast_to(block, cosine.shape)], axis=1)
        order = np.argsort(-best, axis=1, kind="stable")[:, :count]
        best = np.take_along_axis(best, order, axis=1)
        best_rows = np.take_along_axis(best_rows, order, axis=1)
    return best_rows, np.clip(best, -1, 1)


def _blocks(
    features: npt.NDArray[np.float32], rows: npt.NDArray[np.int64]
) -> list[npt.NDArray[np.int64]]:
    row_bytes = int(np.prod(features.shape[1:])) * features.itemsize
    size = max(1, _BLOCK_BYTES // row_bytes)
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _unit_length(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    exact = vectors.astype(np.float64)
    length = np.linalg.norm(exact, axis=1, keepdims=True)
    # A vector of zeros has no direction; it stays, and its cosine to everything is 0.
    return np.asarray(exact / np.where(length == 0, 1, length))
