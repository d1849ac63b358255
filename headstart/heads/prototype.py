"""Nearest class mean by cosine: for a handful of images per class."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headstart.features.matrix import Matrix
from headstart.features.moments import class_sums, weighted_mean
from headstart.features.neighbors import directions
from headstart.heads.data import TrainingData
from headstart.heads.folds import Rows
from headstart.heads.options import PrototypeOptions
from headstart.heads.selection import PathHead, SettingFit, logits_of


@dataclass(frozen=True, slots=True)
class Prototypes:
    """One direction per class.

    Attributes:
        mean: (n_columns,) float32, of the training features.
        prototypes: (n_columns, n_classes) float32, all of one length.
        bias: (n_classes,) float32; 0, or -2 for a class without images, below any cosine.
    """

    mean: npt.NDArray[np.float32]
    prototypes: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]

    def logits(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the cosines with the prototypes times their length, (n_samples, n_classes)."""
        return directions(features, self.mean) @ self.prototypes + self.bias

    def arrays(self) -> dict[str, npt.NDArray[np.float32]]:
        """What has to be kept to build it again."""
        return {"mean": self.mean, "prototypes": self.prototypes, "bias": self.bias}

    @property
    def parameters(self) -> int:
        """Number of learned values."""
        return self.mean.size + self.prototypes.size


class CosineHead(PathHead):
    """A head whose logits are cosines with one direction per class; nothing to choose."""

    model_type = Prototypes
    _model: Prototypes

    def as_prototypes(self) -> Prototypes:
        """Return what the logits are computed from, before the card's temperature."""
        return self._model

    def _settings(self, data: TrainingData) -> tuple[float | None, ...]:
        return (None,)


class PrototypeHead(CosineHead):
    """Centered features of length 1, nearest class mean.

    A class weight changes nothing: it would multiply all of a class's images alike.

    Source: Wang et al., SimpleShot, 2019 (its CL2N variant).
    """

    kind = "prototype"
    options_type = PrototypeOptions

    def _path(
        self, data: TrainingData, train: Rows, held_out: Rows, settings: Sequence[float | None]
    ) -> Iterator[SettingFit]:
        matrix = Matrix(data.features, train, data.streaming_above)
        mean = weighted_mean(matrix, np.ones(len(train))).astype(np.float32)
        labels = data.label[train]
        sums = class_sums(
            matrix, labels, data.n_classes, lambda _, block: directions(block, mean)
        ).T
        lengths = np.linalg.norm(sums, axis=0)
        counts = np.bincount(labels, minlength=data.n_classes)
        model = Prototypes(
            mean=mean,
            prototypes=(sums / np.maximum(lengths, 1e-12)).astype(np.float32),
            bias=np.where(counts > 0, 0, -2).astype(np.float32),
        )
        judged = Matrix(data.features, held_out, data.streaming_above)
        yield SettingFit(None, logits_of(model, judged, data.n_classes), model)
