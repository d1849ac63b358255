"""Nearest vectors of a million by cosine, found among those that lie in the same corner.

The work of a search that compares all with all grows with the square of the images: at a million
it takes hours. Here vectors are projected to their principal components and dealt to the nearest of
many middles, and a query is compared with those of the middles nearest to it alone. What is found
so is compared once more in full, so that cosines are exact; what is not found is what is lost. Of a
million drawn vectors in 1,000 classes no copy is, and of the nearest strangers one in 20
(bench/scale.py).

Source: of the inverted file, Jegou et al., Product Quantization for Nearest Neighbor Search, PAMI
    2011; of the library FAISS, Johnson et al., Billion-scale Similarity Search with GPUs, 2017.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from headstart.features.matrix import Matrix, block_rows
from headstart.features.moments import weighted_mean
from headstart.features.neighbors import NeighborIndex, directions

EXACT_PAIRS = 2**29
"""Comparisons up to which all vectors are compared: some seconds."""

_MOST_COLUMNS = 64
_SAMPLE = 65_536
_LISTS_PER_ROOT = 4
_FEWEST_PER_LIST = 8
# Of k-means; where its middles lie to the last decides nothing.
_ROUNDS = 5
_PROBED = 32
# Beside those wanted, since the projection may order them otherwise.
_BESIDE = 14
_QUERIES = 4096


@dataclass(frozen=True, slots=True)
class ApproximateIndex:
    """Vectors to search; see `headstart.features.neighbors.NeighborIndex`.

    Attributes:
        features: (n_all_rows, *feature_shape), usually a map of the feature file.
        rows: (n_vectors,) those to search.
        mean: (n_columns,) what is subtracted before scaling.
        projection: From vectors to few columns; None where there are few.
        lists: The projected vectors, list by list.
    """

    features: npt.NDArray[np.float32]
    rows: npt.NDArray[np.int64]
    mean: npt.NDArray[np.float32]
    projection: Any
    lists: Any

    @classmethod
    def of(
        cls, features: npt.NDArray[np.float32], rows: npt.NDArray[np.int64]
    ) -> "ApproximateIndex":
        """Index some rows of a table of features; the same rows give the same index."""
        matrix = Matrix(features, rows, 0)
        mean = weighted_mean(matrix, np.ones(len(rows))).astype(np.float32)
        some = rows[np.unique(np.linspace(0, len(rows) - 1, _SAMPLE).astype(np.int64))]
        sample = directions(np.asarray(features[some]), mean)
        projection = None
        if min(matrix.shape) > _MOST_COLUMNS:
            import faiss

            projection = faiss.PCAMatrix(matrix.shape[1], _MOST_COLUMNS)
            projection.train(sample)
            sample = projection.apply(sample)
        lists = inverted_lists(sample, len(rows), _PROBED)
        for _, block in matrix.map(lambda place, block: (place, directions(block, mean))):
            lists.add(block if projection is None else projection.apply(block))
        return cls(features, rows, mean, projection, lists)

    def search(
        self, features: npt.NDArray[np.float32], count: int
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Return cosines and positions of the nearest vectors that were found, nearest first.

        Args:
            features: (n_samples, *feature_shape) raw.
            count: How many; fewer where there are fewer vectors.

        Returns:
            Two of (n_samples, count); -1 and the position -1 where not so many were found.
        """
        count = min(count, len(self.rows))
        cosines = np.empty((len(features), count), np.float32)
        positions = np.empty((len(features), count), np.int64)
        # Candidates are read row by row, so their number is what takes memory.
        step = max(1, min(_QUERIES, 4 * block_rows(self.features.shape[1:]) // (count + _BESIDE)))
        for start in range(0, len(features), step):
            place = slice(start, start + step)
            queries = directions(features[place], self.mean)
            cosines[place], positions[place] = self._nearest(queries, count)
        return cosines, positions

    def _nearest(
        self, queries: npt.NDArray[np.float32], count: int
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        projected = queries if self.projection is None else self.projection.apply(queries)
        found = self.lists.search(projected, min(count + _BESIDE, len(self.rows)))[1]
        numbers, inverse = np.unique(found[found >= 0], return_inverse=True)
        vectors = directions(np.asarray(self.features[self.rows[numbers]]), self.mean)
        exact = np.full(found.shape, -1, np.float32)
        at = np.repeat(np.arange(len(queries)), (found >= 0).sum(axis=1))
        exact[found >= 0] = np.einsum("ij,ij->i", queries[at], vectors[inverse])
        order = np.lexsort((found, -exact), axis=1)[:, :count]
        return np.take_along_axis(exact, order, 1), np.take_along_axis(found, order, 1)


def inverted_lists(sample: npt.NDArray[np.float32], n_vectors: int, probed: int) -> Any:
    """Return an index of FAISS, for inner products, to which vectors can be added.

    Args:
        sample: (n_samples, n_columns) what the middles of its lists are found from.
        n_vectors: How many will be added; they are dealt to four times the root of it.
        probed: How many lists a query is compared with.
    """
    # Not needed for most data.
    import faiss

    n_lists = 2 ** round(np.log2(_LISTS_PER_ROOT * n_vectors**0.5))
    n_lists = max(1, min(n_lists, len(sample) // _FEWEST_PER_LIST))
    lists = faiss.IndexIVFFlat(
        faiss.IndexFlatIP(sample.shape[1]), sample.shape[1], n_lists, faiss.METRIC_INNER_PRODUCT
    )
    lists.nprobe = probed
    # Of fewer vectors per list it would warn.
    lists.cp.min_points_per_centroid = 1
    lists.cp.niter = _ROUNDS
    lists.train(sample)
    return lists


def index_for(
    features: npt.NDArray[np.float32], rows: npt.NDArray[np.int64], n_queries: int
) -> NeighborIndex | ApproximateIndex:
    """Return an index of rows for so many queries: exact where that takes seconds.

    Args:
        features: (n_all_rows, *feature_shape), usually a map of the feature file.
        rows: (n_vectors,) those to search.
        n_queries: How many times it will be asked.
    """
    if len(rows) * n_queries <= EXACT_PAIRS:
        return NeighborIndex.of(features, rows)
    return ApproximateIndex.of(features, rows)
