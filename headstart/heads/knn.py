"""Nearest neighbors by cosine, their votes weighted by how near they are."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from headstart.common.hdf5 import write_hdf5
from headstart.common.seal import open_h5
from headstart.features.matrix import Matrix, parts
from headstart.features.neighbors import Blocks, NeighborIndex
from headstart.heads.data import TrainingData
from headstart.heads.folds import Rows
from headstart.heads.options import DEFAULT_NEIGHBORS, KnnOptions
from headstart.heads.selection import PathHead, SettingFit

NEIGHBORS = (1, 3, 5, 10, 20, 50, 100, 200)

VOTE_TEMPERATURE = 0.07
"""A neighbor's vote is exp(cosine / 0.07).

Source: Wu et al., Unsupervised Feature Learning via Non-Parametric Instance Discrimination,
    CVPR 2018, section 3.4.
"""


@dataclass(frozen=True, slots=True)
class NeighborVotes:
    """Training vectors, and how many of the nearest vote.

    Attributes:
        index: The training vectors.
        label: (n_vectors,) their class indices.
        weight: (n_vectors,) what a vote counts.
        n_classes: Number of classes.
        neighbors: Number of votes.
    """

    index: NeighborIndex
    label: npt.NDArray[np.int64]
    weight: npt.NDArray[np.float64]
    n_classes: int
    neighbors: int

    def logits(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return log-shares of the votes, (n_samples, n_classes)."""
        return self.votes(*self.index.search(features, self.neighbors))

    def votes(
        self, cosines: npt.NDArray[np.float32], positions: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float32]:
        """Return log-shares of the votes, (n_samples, n_classes).

        One more vote is spread evenly, so that no class is impossible.

        Args:
            cosines: (n_samples, at least neighbors) with the nearest vectors, nearest first.
            positions: Which vectors these are.
        """
        shares = np.empty((len(cosines), self.n_classes), np.float32)
        # A part of the images at a time: what is between takes many times the memory of the rest.
        for at in parts(cosines.shape):
            shares[at] = self._votes(cosines[at], positions[at])
        return shares

    def _votes(
        self, cosines: npt.NDArray[np.float32], positions: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float32]:
        count = self.neighbors
        nearest = cosines[:, :1]
        votes = np.exp((cosines[:, :count] - nearest).astype(np.float64) / VOTE_TEMPERATURE)
        labels = self.label[positions[:, :count]]
        votes *= self.weight[positions[:, :count]]
        votes /= votes.sum(axis=1, keepdims=True)
        shares = np.zeros((len(cosines), self.n_classes), np.float32)
        samples = np.arange(len(cosines))
        # One neighbor of each image at a time, so that no cell gets two votes at once.
        for vote, label in zip(votes.T, labels.T, strict=True):
            shares[samples, label] += vote
        shares *= count / (count + 1)
        shares += 1 / (self.n_classes * (count + 1))
        return np.log(shares, out=shares)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What has to be kept besides the vectors, which are written block by block."""
        return {"mean": np.asarray(self.index.mean), "label": self.label, "weight": self.weight}

    @property
    def parameters(self) -> int:
        """Number of kept values."""
        return self.index.shape[0] * self.index.shape[1]


class KnnHead(PathHead):
    """Keeps the training features; the number of neighbors is chosen on held-out images.

    The training vectors are searched block by block, in the file where they are large.
    """

    kind = "knn"
    options_type = KnnOptions
    options: KnnOptions
    setting_name = "neighbors"
    default_setting = DEFAULT_NEIGHBORS
    model_type = NeighborVotes
    _model: NeighborVotes

    def _settings(self, data: TrainingData) -> tuple[float | None, ...]:
        sizes = (len(fold.train) for fold in data.folds(cheap=True))
        most = min(sizes, default=len(data.train))
        wanted = self.options.neighbors
        if wanted != "auto":
            return (min(wanted, most),)
        return tuple(count for count in NEIGHBORS if count <= most)

    def _path(
        self, data: TrainingData, train: Rows, held_out: Rows, settings: Sequence[float | None]
    ) -> Iterator[SettingFit]:
        index = NeighborIndex.of(data.features, train, data.streaming_above)
        counts = [int(setting) for setting in settings if setting is not None]
        most = max(counts)
        found = [
            index.search(np.empty((0, index.shape[1]), np.float32), most),
            *Matrix(data.features, held_out, data.streaming_above).map(
                lambda _, block: index.search(block, most)
            ),
        ]
        cosines, positions = (np.concatenate(part) for part in zip(*found, strict=True))
        del found
        label, weight = data.label[train], data.weights(train)
        for count in counts:
            model = NeighborVotes(index, label, weight, data.n_classes, count)
            yield SettingFit(count, model.votes(cosines, positions), model)

    def _save_weights(self, path: Path) -> None:
        index = self._model.index
        with write_hdf5(path) as file:
            vectors = file.create_dataset("vectors", index.shape, np.float32, track_times=False)
            for place, block in index.blocks():
                vectors[place] = block
            for name, values in self._model.arrays().items():
                file.create_dataset(name, data=values, track_times=False)

    def _load_weights(self, path: Path) -> None:
        with open_h5(path) as file:
            offset, shape = file["vectors"].id.get_offset(), file["vectors"].shape
            mean, label, weight = (file[name][:] for name in ("mean", "label", "weight"))
        vectors = np.memmap(path, np.float32, mode="r", offset=offset, shape=shape)

        def blocks() -> Blocks:
            return ((place, np.asarray(vectors[place])) for place in parts(shape))

        neighbors = int(self.card.setting["neighbors"])
        index = NeighborIndex(shape=shape, blocks=blocks, mean=mean)
        self._model = NeighborVotes(index, label, weight, len(self.card.class_names), neighbors)
