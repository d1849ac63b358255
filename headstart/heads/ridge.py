"""Ridge regression on one-hot labels: the whole path of penalties from one eigendecomposition."""

from collections.abc import Iterator, Sequence

import numpy as np

from headstart.features.matrix import Matrix
from headstart.features.moments import class_sums, decompose, weighted_mean
from headstart.heads.data import TrainingData
from headstart.heads.folds import Rows
from headstart.heads.linear import Linear
from headstart.heads.linear_path import LinearHead
from headstart.heads.options import DEFAULT_L2, RidgeOptions
from headstart.heads.selection import SettingFit, logits_of

L2_PATH = tuple(float(10 ** (8 - 0.25 * step)) for step in range(57))
"""From 1e8 down to 1e-6, four per decade: least squares feels the features' scale squared."""


class RidgeHead(LinearHead):
    """Minimizes sum_i |y_i - W' x_i - b|^2 + l2 |W|^2 with y in {-1, 1}.

    The weights are those of scikit-learn's `RidgeClassifier(alpha=l2)`. Features are read once,
    block by block, whatever their size.
    """

    kind = "ridge"
    options_type = RidgeOptions
    setting_name = "l2"
    default_setting = DEFAULT_L2
    grid = L2_PATH

    def _path(
        self, data: TrainingData, train: Rows, held_out: Rows, settings: Sequence[float | None]
    ) -> Iterator[SettingFit]:
        matrix = Matrix(data.features, train, data.streaming_above)
        judged = Matrix(data.features, held_out, data.streaming_above)
        weights = data.weights(train)
        mean = weighted_mean(matrix, weights)
        ones = np.ones_like(mean)
        matrix.standardize(mean, ones)
        values, basis = decompose(matrix, weights, np.float64)
        labels = data.label[train]
        center = 2 * np.bincount(labels, weights, data.n_classes) / weights.sum() - 1
        # The products with targets in {-1, 1} less their mean.
        sums = class_sums(
            matrix, labels, data.n_classes, lambda place, block: weights[place, None] * block
        )
        rotated = basis.T @ (2 * sums - (1 + center[:, None]) * sums.sum(axis=0)).T
        for setting in settings:
            if setting is not None:
                solution = basis @ (rotated / (values + setting)[:, None])
                model = Linear.from_standardized(solution, center, mean, ones)
                yield SettingFit(setting, logits_of(model, judged, data.n_classes), model)
