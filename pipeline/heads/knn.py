"""Nearest neighbours by cosine, their votes weighted by how near they are."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from pipeline.files import atomic_write
from pipeline.heads.data import Rows, TrainingData
from pipeline.heads.matrix import Matrix, block_rows, pooled
from pipeline.heads.moments import weighted_mean
from pipeline.heads.prototype import directions
from pipeline.heads.selection import Candidate, PathHead
from pipeline.options import KnnOptions

NEIGHBORS = (1, 3, 5, 10, 20, 50, 100, 200)

VOTE_TEMPERATURE = 0.07
"""A neighbour's vote is exp(cosine / 0.07).

Source: Wu et al., Unsupervised Feature Learning via Non-Parametric Instance Discrimination,
    CVPR 2018, section 3.4.
"""

_SIMILARITIES = 8 * 1024**2

Blocks = Iterator[tuple[slice, npt.NDArray[np.float32]]]


@dataclass(frozen=True, slots=True)
class Index:
    """Training vectors to search.

    Attributes:
        shape: (n_vectors, n_columns).
        blocks: Gives them from first to last, of length 1.
        mean: (n_columns,) what was subtracted before scaling.
        label: (n_vectors,) class indices.
        weight: (n_vectors,) what a vote counts.
        n_classes: Number of classes.
    """

    shape: tuple[int, int]
    blocks: Callable[[], Blocks]
    mean: npt.NDArray[np.float32]
    label: npt.NDArray[np.int64]
    weight: npt.NDArray[np.float64]
    n_classes: int

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

    def votes(
        self, cosines: npt.NDArray[np.float32], positions: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float64]:
        """Return log-shares (n_samples, n_classes) of the votes of (n_samples, k) neighbours.

        One more vote is spread evenly, so that no class is impossible.
        """
        count = cosines.shape[1]
        nearest = cosines[:, :1] if count else cosines
        votes = np.exp((cosines - nearest).astype(np.float64) / VOTE_TEMPERATURE)
        votes *= self.weight[positions]
        shares = np.zeros((len(cosines), self.n_classes))
        samples = np.broadcast_to(np.arange(len(cosines))[:, None], positions.shape)
        np.add.at(shares, (samples, self.label[positions]), votes)
        shares /= shares.sum(axis=1, keepdims=True)
        return np.asarray(np.log((shares * count + 1 / self.n_classes) / (count + 1)))


@dataclass(frozen=True, slots=True)
class Neighbours:
    """An index and how many of the nearest vote.

    Attributes:
        index: The training vectors.
        neighbors: Number of votes.
    """

    index: Index
    neighbors: int

    def logits(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return log-shares of the votes, (n_samples, n_classes)."""
        return self.index.votes(*self.index.search(features, self.neighbors))

    def arrays(self) -> dict[str, npt.NDArray[np.float32]]:
        """What has to be kept besides the vectors, which are written block by block."""
        return {}

    @property
    def parameters(self) -> int:
        """Number of kept values."""
        return self.index.shape[0] * self.index.shape[1]


class KnnHead(PathHead):
    """Keeps the training features; the number of neighbours is chosen on held-out images.

    The training vectors are searched block by block, in the file where they are large.
    """

    kind = "knn"
    options_type = KnnOptions
    options: KnnOptions
    setting_name = "neighbors"
    model_type = Neighbours
    _model: Neighbours

    def _settings(self, data: TrainingData) -> tuple[float | None, ...]:
        most = min(len(fold.train) for fold in data.folds(cheap=True))
        wanted = self.options.neighbors
        if wanted != "auto":
            return (min(wanted, most),)
        return tuple(count for count in NEIGHBORS if count <= most)

    def _path(
        self, data: TrainingData, train: Rows, held_out: Rows, settings: Sequence[float | None]
    ) -> Iterator[Candidate]:
        index = _index_of(data, train)
        counts = [int(setting) for setting in settings if setting is not None]
        found = [
            index.search(block, max(counts))
            for _, block in Matrix(data.features, held_out, data.streaming_above).blocks()
        ]
        for count in counts:
            votes = [index.votes(cosines[:, :count], where[:, :count]) for cosines, where in found]
            logits = np.concatenate(votes) if votes else np.empty((0, data.n_classes))
            yield Candidate(count, logits, Neighbours(index, count))

    def _save_weights(self, path: Path) -> None:
        index = self._model.index
        with atomic_write(path) as temporary, h5py.File(temporary, "w") as file:
            vectors = file.create_dataset("vectors", index.shape, np.float32, track_times=False)
            for place, block in index.blocks():
                vectors[place] = block
            columns = {"mean": index.mean, "label": index.label, "weight": index.weight}
            for name, values in columns.items():
                file.create_dataset(name, data=values, track_times=False)

    def _load_weights(self, path: Path) -> None:
        with h5py.File(path, "r") as file:
            offset, shape = file["vectors"].id.get_offset(), file["vectors"].shape
            columns = {name: file[name][:] for name in ("mean", "label", "weight")}
        vectors = np.memmap(path, np.float32, mode="r", offset=offset, shape=shape)
        step = block_rows(shape[1:])

        def blocks() -> Blocks:
            for start in range(0, shape[0], step):
                stop = min(start + step, shape[0])
                yield slice(start, stop), np.asarray(vectors[start:stop])

        index = Index(shape=shape, blocks=blocks, n_classes=len(self.card.class_names), **columns)
        self._model = Neighbours(index, int(self.card.setting["neighbors"]))


def _index_of(data: TrainingData, train: Rows) -> Index:
    matrix = Matrix(data.features, train, data.streaming_above)
    mean = weighted_mean(matrix, np.ones(len(train))).astype(np.float32)
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

    return Index(
        shape=matrix.shape,
        blocks=blocks,
        mean=mean,
        label=data.label[train],
        weight=data.weights(train),
        n_classes=data.n_classes,
    )
