"""Which of many vectors are nearest to a few, by cosine, searched block by block."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headstart.features.matrix import Matrix, pooled
from headstart.features.moments import weighted_mean

_SIMILARITIES = 8 * 1024**2

Blocks = Iterator[tuple[slice, npt.NDArray[np.float32]]]


def directions(
    features: npt.NDArray[np.float32], mean: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Centre features (n_samples, n_columns) and scale every row to length 1."""
    centred = features - mean
    centred /= np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    return centred


@dataclass(frozen=True, slots=True)
class Index:
    """Vectors to search.

    Attributes:
        shape: (n_vectors, n_columns).
        blocks: Gives them from first to last, of length 1.
        mean: (n_columns,) what was subtracted before scaling.
    """

    shape: tuple[int, int]
    blocks: Callable[[], Blocks]
    mean: npt.NDArray[np.float32]

    @classmethod
    def of(
        cls,
        features: npt.NDArray[np.float32],
        rows: npt.NDArray[np.int64],
        streaming_above: float = np.inf,
    ) -> "Index":
        """Search the rows `rows` of a table of features, centred at their mean.

        Args:
            features: (n_all_rows, *feature_shape), usually a map of the feature file.
            rows: (n_vectors,).
            streaming_above: As for `Matrix`.
        """
        matrix = Matrix(features, rows, streaming_above)
        mean = weighted_mean(matrix, np.ones(len(rows))).astype(np.float32)
        in_memory = None
        if not matrix.streamed:
            ((place, whole),) = matrix.blocks()
            in_memory = (place, directions(whole, mean))

        def blocks() -> Blocks:
            if in_memory is not None:
                yield in_memory
                return
            for place, block in matrix.blocks():
                yield place, directions(block, mean)

        return cls(shape=matrix.shape, blocks=blocks, mean=mean)

    def search(
        self, features: npt.NDArray[np.float32], count: int
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Return cosines and positions of the nearest vectors, nearest first, (n_samples, count).

        Args:
            features: (n_samples, *feature_shape) raw.
            count: At most the number of vectors.
        """
        queries = directions(pooled(features), self.mean)
        step = max(1, _SIMILARITIES // self.shape[0])
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
                kept = np.argpartition(-best, count - 1, axis=1)[:, :count]
                best = np.take_along_axis(best, kept, 1)
                where = np.take_along_axis(where, kept, 1)
        order = np.argsort(-best, axis=1, kind="stable")
        return np.take_along_axis(best, order, 1), np.take_along_axis(where, order, 1)
