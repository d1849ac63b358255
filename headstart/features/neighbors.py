"""Which of many vectors are nearest to a few, by cosine, searched block by block."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from headstart.features.matrix import Matrix, part_rows, parts, pooled
from headstart.features.moments import weighted_mean

# Computed at a time of the vectors of one block.
_SIMILARITIES = 4 * 1024**2
_FEW = 4

Blocks = Iterator[tuple[slice, npt.NDArray[np.float32]]]


def directions(
    features: npt.NDArray[np.float32], mean: npt.NDArray[np.float32] | float = 0.0
) -> npt.NDArray[np.float32]:
    """Average spatial maps, subtract `mean` and scale every row to length 1.

    Args:
        features: (n_samples, *feature_shape) raw.
        mean: (n_columns,), or 0 to leave the origin where it is.

    Returns:
        (n_samples, n_columns) float32; a row without any direction is zero.
    """
    centered: npt.NDArray[np.float32] = pooled(features) - np.float32(mean)
    centered /= np.maximum(np.linalg.norm(centered, axis=1, keepdims=True), np.float32(1e-12))
    return centered


@dataclass(frozen=True, slots=True)
class NeighborIndex:
    """Vectors to search.

    Attributes:
        shape: (n_vectors, n_columns).
        blocks: Gives them from first to last, of length 1, in parts of `part_rows` at most.
        mean: (n_columns,) what was subtracted before scaling, or 0.
    """

    shape: tuple[int, int]
    blocks: Callable[[], Blocks]
    mean: npt.NDArray[np.float32] | float

    @classmethod
    def of(
        cls,
        features: npt.NDArray[np.float32],
        rows: npt.NDArray[np.int64],
        streaming_above: float = np.inf,
        *,
        center: bool = True,
    ) -> "NeighborIndex":
        """Index some rows of a table of features.

        Args:
            features: (n_all_rows, *feature_shape), usually a map of the feature file.
            rows: (n_vectors,).
            streaming_above: As for `Matrix`.
            center: Whether the rows' mean is subtracted first.
        """
        matrix = Matrix(features, rows, streaming_above)
        mean: npt.NDArray[np.float32] | float = 0.0
        if center:
            mean = weighted_mean(matrix, np.ones(len(rows))).astype(np.float32)
        if matrix.whole is not None:
            return replace(cls.over(directions(matrix.whole, mean)), mean=mean)

        def blocks() -> Blocks:
            return matrix.map(lambda place, block: (place, directions(block, mean)))

        return cls(shape=matrix.shape, blocks=blocks, mean=mean)

    @classmethod
    def over(cls, vectors: npt.NDArray[np.float32]) -> "NeighborIndex":
        """Index vectors (n_vectors, n_columns) of length 1 that are in memory."""
        places = parts(vectors.shape)
        return cls(
            shape=vectors.shape, blocks=lambda: ((at, vectors[at]) for at in places), mean=0.0
        )

    def search(
        self, features: npt.NDArray[np.float32], count: int
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Return cosines and positions of the nearest vectors, nearest first.

        Args:
            features: (n_samples, *feature_shape) raw.
            count: How many; fewer where there are fewer vectors.

        Returns:
            Two of (n_samples, count); of equally near vectors the earlier one stands first.
        """
        count = min(count, self.shape[0])
        queries = directions(features, self.mean)
        step = max(1, _SIMILARITIES // min(self.shape[0], part_rows(self.shape[1:])))
        parts = [self._nearest(queries[i : i + step], count) for i in range(0, len(queries), step)]
        if not parts:
            return np.empty((0, count), np.float32), np.empty((0, count), np.int64)
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])

    def _nearest(
        self, queries: npt.NDArray[np.float32], count: int
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        best = np.empty((len(queries), 0), np.float32)
        where = np.empty((len(queries), 0), np.int64)
        for place, block in self.blocks():
            near = queries @ block.T
            numbers = np.broadcast_to(np.arange(place.start, place.stop), near.shape)
            best, where = np.hstack([best, near]), np.hstack([where, numbers])
            if best.shape[1] > count:
                kept = _largest(best, count)
                best = np.take_along_axis(best, kept, 1)
                where = np.take_along_axis(where, kept, 1)
        order = np.lexsort((where, -best), axis=1)
        return np.take_along_axis(best, order, 1), np.take_along_axis(where, order, 1)


def _largest(values: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.int64]:
    """Return the columns of the `count` largest values of each row; of equals the first ones.

    May overwrite the values, all of which are more than -infinity, and puts them back.
    """
    if count <= _FEW:
        # A pass over them for each is many times as fast as parting them.
        rows = np.arange(len(values))
        found = np.empty((len(values), count), np.int64)
        taken = np.empty((len(values), count), np.float32)
        for rank in range(count):
            found[:, rank] = values.argmax(axis=1)
            taken[:, rank] = values[rows, found[:, rank]]
            values[rows, found[:, rank]] = -np.inf
        np.put_along_axis(values, found, taken, 1)
        return np.sort(found, axis=1)
    least = np.partition(values, -count, axis=1)[:, -count, None]
    above, equal = values > least, values == least
    wanted = count - above.sum(axis=1, keepdims=True)
    chosen = above | (equal & (equal.cumsum(axis=1) <= wanted))
    return np.nonzero(chosen)[1].reshape(len(values), count)
