"""What the labelled images say of the others: a logistic regression on their features."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from headstart.features.matrix import Matrix
from headstart.features.moments import moments
from headstart.heads.folds import FOLDS, NEVER, Rows, stratified_folds
from headstart.heads.linear import Linear
from headstart.heads.logistic import fit_logistic
from headstart.scoring.calibration import fit_temperature, softmax

L2 = 1 / 300
"""Penalty in units of the images' mean squared distance from their mean.

On sets of bench/sets.py accuracy is flat from a tenth to ten times of it, at 20
labels as at 1,000, so nothing is gained by choosing it.
"""


class Classifier(NamedTuple):
    """A linear classifier of raw features.

    Attributes:
        linear: Its weights; a column per class.
        temperature: What its logits are divided by.
        classes: (n_columns,) class index of each column.
    """

    linear: Linear
    temperature: float
    classes: npt.NDArray[np.int64]

    def probabilities(self, vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return (n, n_columns) of (n, n_features) raw features."""
        return softmax(self.linear.logits(vectors), self.temperature)


def fit(
    features: npt.NDArray[np.float32],
    rows: Rows,
    labels: npt.NDArray[np.int64],
    unit: npt.NDArray[np.int64],
    *,
    streaming_above: float = np.inf,
    seed: int = 0,
) -> Classifier | None:
    """Fit a classifier to labelled images, and its temperature to folds of them.

    Args:
        features: (n_all_rows, *feature_shape), usually a map of the feature file.
        rows: (n,) those to learn from.
        labels: (n,) class index of each.
        unit: (n,) images of one number are never torn apart.
        streaming_above: As for `Matrix`.
        seed: Of the folds.

    Returns:
        The classifier of the classes that occur; None where there are fewer than two.
    """
    classes, label = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        return None

    def fitted(part: npt.NDArray[np.bool_]) -> Linear:
        return _fit(Matrix(features, rows[part], streaming_above), label[part], len(classes))

    fold = stratified_folds(label, unit, FOLDS, seed)
    held_out = [np.flatnonzero(fold == number) for number in range(fold.max() + 1)]
    logits = [
        fitted(fold != number).logits(features[rows[place]])
        for number, place in enumerate(held_out)
    ]
    temperature = None
    if (fold > NEVER).any():
        place = np.concatenate(held_out)
        temperature = fit_temperature(np.concatenate(logits), label[place], unit[place])
    return Classifier(fitted(np.ones(len(rows), dtype=bool)), temperature or 1.0, classes)


def _fit(matrix: Matrix, labels: npt.NDArray[np.int64], n_classes: int) -> Linear:
    measured = moments(matrix, np.ones(len(labels)), scaled=False)
    spread = float(measured.variances.sum()) / len(labels)
    return fit_logistic(matrix, labels, n_classes, L2 * max(spread, 1e-30), measured)
