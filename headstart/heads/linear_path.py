"""Linear heads: weights on raw features, found along a path of regularization."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from headstart.features.matrix import Matrix
from headstart.features.moments import moments
from headstart.heads.data import TrainingData
from headstart.heads.descent import descend
from headstart.heads.folds import Rows
from headstart.heads.linear import Linear
from headstart.heads.losses import Loss
from headstart.heads.selection import PathHead, SettingFit, logits_of


class LinearHead(PathHead):
    """A head whose logits are linear in the raw features.

    Attributes:
        grid: The settings to try, from the strongest regularization to the weakest.
    """

    model_type = Linear
    grid: ClassVar[tuple[float, ...]]
    _model: Linear

    def as_linear(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return weights (n_columns, n_classes) and bias (n_classes,) of the logits.

        On raw features (maps averaged to vectors), standardization folded in; dividing the
        logits by the card's temperature gives the calibrated ones.
        """
        return self._model.weights, self._model.bias

    def _settings(self, data: TrainingData) -> tuple[float | None, ...]:
        wanted = getattr(self.options, self.setting_name)
        return self.grid if wanted == "auto" else (wanted,)


class DescentHead(LinearHead):
    """A linear head that minimizes a convex loss.

    Attributes:
        scaled: Whether features are standardized, or only centered.
    """

    scaled: ClassVar[bool]

    @abstractmethod
    def _loss(self, data: TrainingData) -> tuple[Loss, npt.NDArray[np.float64]]:
        """Return what is minimized besides the penalty, and what each class counts in it."""

    @abstractmethod
    def _penalty(self, setting: float, n_classes: int) -> float:
        """Return the factor of |W|^2 / 2 beside the summed loss."""

    def _start(self, data: TrainingData, train: Rows) -> Linear | None:
        """Return the classifier that the penalty draws to, if not to zero."""
        return None

    def _path(
        self, data: TrainingData, train: Rows, held_out: Rows, settings: Sequence[float | None]
    ) -> Iterator[SettingFit]:
        matrix = Matrix(data.features, train, data.streaming_above)
        judged = Matrix(data.features, held_out, data.streaming_above)
        loss, class_weight = self._loss(data)
        weights = class_weight[data.label[train]]
        measured = moments(matrix, weights, scaled=self.scaled)
        values = [setting for setting in settings if setting is not None]
        models = descend(
            matrix,
            data.label[train],
            weights,
            measured,
            loss,
            [self._penalty(value, data.n_classes) for value in values],
            data.n_classes,
            self._start(data, train),
        )
        for value, model in zip(values, models, strict=True):
            yield SettingFit(value, logits_of(model, judged, data.n_classes), model)
