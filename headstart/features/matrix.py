"""Rows of the feature file as a matrix of vectors, in memory or block by block."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from headstart.common.threads import in_order

Result = TypeVar("Result")
Floats = npt.NDArray[np.floating[Any]]

_BLOCK_BYTES = 32 * 1024**2
# What a core works on at a time: of about the size of its cache, and enough parts for all cores.
_PART_BYTES = 4 * 1024**2
# Up to this size the rows are copied into memory once. Larger ones stay where they are: in the
# feature file's map, which the system keeps in memory as far as they fit. Maps are averaged once
# whatever their size, since reading them all again costs more than the little that is kept.
_COPIED_BYTES = 64 * 1024**2
_COPIED_SHARE = 1 / 4


def pooled(features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Average spatial maps (n, height, width, channels) to (n, channels); keep vectors."""
    if features.ndim == 2:
        return features
    return np.asarray(features.mean(axis=(1, 2), dtype=np.float32))


def block_rows(row_shape: tuple[int, ...]) -> int:
    """Return how many rows of float32 features make a block of about 32 MB."""
    return _rows_in(_BLOCK_BYTES, row_shape)


def _rows_in(size: int, row_shape: tuple[int, ...]) -> int:
    return max(1, size // (4 * int(np.prod(row_shape))))


def parts(shape: tuple[int, ...]) -> list[slice]:
    """Return even parts of rows of float32 features, each of about what a core's cache holds."""
    count = -(-shape[0] // part_rows(shape[1:]))
    edges = [shape[0] * index // count for index in range(count + 1)] if count else []
    return [slice(start, stop) for start, stop in pairwise(edges)]


def part_rows(row_shape: tuple[int, ...]) -> int:
    """Return how many rows a part has at most."""
    return _rows_in(_PART_BYTES, row_shape)


class Matrix:
    """Chosen rows of the features, (n_rows, n_columns) float32, maps averaged to vectors.

    Args:
        features: (n_all_rows, *feature_shape), usually a map of the feature file.
        rows: (n_rows,) the rows to see.
        streaming_above: Bytes of the matrix above which it is read in blocks every time instead
            of being copied into memory; vectors are from 64 MB on.

    Attributes:
        shape: (n_rows, n_columns).
        whole: (n_rows, n_columns) where they were copied into memory.
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
        self.whole: npt.NDArray[np.float32] | None = None
        size = matrix_bytes(features, rows)
        read = 4 * len(rows) * int(np.prod(features.shape[1:]))
        if size <= min(streaming_above, max(_COPIED_BYTES, _COPIED_SHARE * read)):
            whole = np.empty(self.shape, np.float32)

            def copy(place: slice, block: npt.NDArray[np.float32]) -> None:
                whole[place] = block

            for _ in self.map(copy):
                pass
            self.whole = whole

    def standardize(self, mean: npt.NDArray[np.float64], scale: npt.NDArray[np.float64]) -> None:
        """From now on, see (row - mean) / scale; both of shape (n_columns,)."""
        self._shift = mean.astype(np.float32)
        self._factor = (1 / scale).astype(np.float32)
        if self.whole is not None:
            self._standardize(self.whole)

    def _standardize(self, block: npt.NDArray[np.float32]) -> None:
        if self._shift is not None and self._factor is not None:
            block -= self._shift
            block *= self._factor

    def map(self, function: Callable[[slice, npt.NDArray[np.float32]], Result]) -> Iterator[Result]:
        """Yield `function` of (which rows, their values) from first to last, on all cores.

        Args:
            function: Must not change the values.
        """
        if self.whole is not None:
            return map_parts(function, self.whole)
        places = parts((self.shape[0], *self._features.shape[1:]))
        return in_order(lambda place: function(place, self._read(place)), places)

    def _read(self, place: slice) -> npt.NDArray[np.float32]:
        # Indexing with an array copies, so the block may be changed in place.
        block = pooled(np.asarray(self._features[self._rows[place]]))
        self._standardize(block)
        return block


def map_parts(function: Callable[[slice, Any], Result], rows: Floats) -> Iterator[Result]:
    """Do for rows in memory, (n_rows, n_columns), what `Matrix.map` does."""
    places = parts(rows.shape)
    return in_order(lambda place: function(place, rows[place]), places)


def matrix_bytes(features: npt.NDArray[np.float32], rows: npt.NDArray[np.int64]) -> int:
    """Return the bytes of the matrix of `rows`, maps averaged, as float32."""
    return int(4 * len(rows) * features.shape[-1])
