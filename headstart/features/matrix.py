"""Rows of the feature file as a matrix of vectors, in memory or block by block."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

_BLOCK_BYTES = 32 * 1024**2


def pooled(features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Average spatial maps (n, height, width, channels) to (n, channels); keep vectors."""
    if features.ndim == 2:
        return features
    return np.asarray(features.mean(axis=(1, 2), dtype=np.float32))


def block_rows(row_shape: tuple[int, ...]) -> int:
    """Return how many rows of float32 features make a block of about 32 MB."""
    return max(1, _BLOCK_BYTES // (4 * int(np.prod(row_shape))))


class Matrix:
    """Chosen rows of the features, (n_rows, n_columns) float32, maps averaged to vectors.

    Args:
        features: (n_all_rows, *feature_shape), usually a map of the feature file.
        rows: (n_rows,) the rows to see.
        streaming_above: Bytes of the matrix above which it is read in blocks every time instead
            of being kept in memory.
    """

    def __init__(
        self,
        features: npt.NDArray[np.float32],
        rows: npt.NDArray[np.int64],
        streaming_above: float = np.inf,
    ) -> None:
        self._features = features
        self._rows = rows
        self.shape = (len(rows), features.shape[-1])
        self._shift: npt.NDArray[np.float32] | None = None
        self._factor: npt.NDArray[np.float32] | None = None
        self.streamed = matrix_bytes(features, rows) > streaming_above
        self._whole: npt.NDArray[np.float32] | None = None
        if not self.streamed:
            self._whole = np.empty(self.shape, np.float32)
            for place, block in self._read():
                self._whole[place] = block

    def _read(self) -> Iterator[tuple[slice, npt.NDArray[np.float32]]]:
        step = block_rows(self._features.shape[1:])
        for start in range(0, len(self._rows), step):
            place = slice(start, min(start + step, len(self._rows)))
            # Indexing with an array copies, so a block may be changed in place.
            yield place, pooled(np.asarray(self._features[self._rows[place]]))

    def standardize(self, mean: npt.NDArray[np.float64], scale: npt.NDArray[np.float64]) -> None:
        """From now on, see (row - mean) / scale; both of shape (n_columns,)."""
        self._shift = mean.astype(np.float32)
        self._factor = (1 / scale).astype(np.float32)
        if self._whole is not None:
            self._standardize(self._whole)

    def _standardize(self, block: npt.NDArray[np.float32]) -> None:
        if self._shift is not None and self._factor is not None:
            block -= self._shift
            block *= self._factor

    def blocks(self) -> Iterator[tuple[slice, npt.NDArray[np.float32]]]:
        """Yield (which rows, their values) from first to last: the whole at once if in memory."""
        if self._whole is not None:
            yield slice(0, len(self._rows)), self._whole
            return
        for place, block in self._read():
            self._standardize(block)
            yield place, block


def matrix_bytes(features: npt.NDArray[np.float32], rows: npt.NDArray[np.int64]) -> int:
    """Return the bytes of the matrix of `rows`, maps averaged, as float32."""
    return int(4 * len(rows) * features.shape[-1])
