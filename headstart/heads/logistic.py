"""Multinomial logistic regression over the whole path of L2 penalties: the linear probe."""

import numpy as np
import numpy.typing as npt

from headstart.features.matrix import Matrix
from headstart.features.moments import Moments, moments
from headstart.heads.data import TrainingData
from headstart.heads.descent import descend
from headstart.heads.folds import Rows
from headstart.heads.linear import Linear
from headstart.heads.linear_path import DescentHead
from headstart.heads.losses import CrossEntropy, Loss
from headstart.heads.options import DEFAULT_L2, LogisticOptions
from headstart.heads.text_start import default_penalty, text_start
from headstart.scoring.calibration import FEWEST_UNITS

L2_PATH = tuple(float(10 ** (5 - 0.25 * step)) for step in range(45))
"""45 penalties from 1e5 down to 1e-6.

Source: Kornblith et al., Do Better ImageNet Models Transfer Better?, CVPR 2019, appendix A.4.
"""


class LogisticHead(DescentHead):
    """Minimizes the summed cross-entropy + l2 / 2 |W|^2: scikit-learn's C is 1 / l2.

    With `start: text` the penalty is on |W - W_text|^2: a strong one leaves the zero-shot head's
    decisions, a weak one those of the images wherever images say anything.

    Source: of drawing a few-shot probe to the text vectors, Silva-Rodriguez et al., A Closer Look
        at the Few-Shot Adaptation of Large Vision-Language Models, CVPR 2024 (CLAP). The path and
        the fitted sureness of the texts take the place of its penalty per class.
    """

    kind = "logistic"
    options_type = LogisticOptions
    options: LogisticOptions
    setting_name = "l2"
    default_setting = DEFAULT_L2
    grid = L2_PATH
    scaled = False

    def _settings(self, data: TrainingData) -> tuple[float | None, ...]:
        # Of so few no temperature can be told, and without one the log loss prefers what is least
        # sure of itself: from texts on, what has learned least of the images.
        if self._from_text and self.options.l2 == "auto" and _held_out_units(data) < FEWEST_UNITS:
            return (default_penalty(data),)
        return super()._settings(data)

    def _start(self, data: TrainingData, train: Rows) -> Linear | None:
        return text_start(data, train) if self._from_text else None

    @property
    def _from_text(self) -> bool:
        return self.options.start == "text"

    def _loss(self, data: TrainingData) -> tuple[Loss, npt.NDArray[np.float64]]:
        return CrossEntropy(data.log_prior), data.loss_weight

    def _penalty(self, setting: float, n_classes: int) -> float:
        return _factor(setting, n_classes)


def fit_logistic(
    matrix: Matrix,
    labels: npt.NDArray[np.int64],
    n_classes: int,
    l2: float,
    measured: Moments | None = None,
) -> Linear:
    """Fit at one penalty, as the head does where all images count alike.

    Args:
        matrix: Raw features.
        labels: (n_rows,) class indices; a class may be absent.
        n_classes: Number of classes.
        l2: As of the head.
        measured: Moments of the features, centered only, if they are known.
    """
    ones = np.ones(len(labels))
    known = moments(matrix, ones, scaled=False) if measured is None else measured
    loss = CrossEntropy(np.zeros(n_classes))
    penalty = _factor(l2, n_classes)
    (linear,) = descend(matrix, labels, ones, known, loss, [penalty], n_classes)
    return linear


def _factor(l2: float, n_classes: int) -> float:
    # Two classes have one weight vector w, written as w / 2 and -w / 2: |w|^2 / 2 together.
    return 2 * l2 if n_classes == 2 else l2


def _held_out_units(data: TrainingData) -> int:
    folds = data.folds(cheap=True)
    return len(np.unique(data.unit[np.concatenate([data.train[:0], *(f.held_out for f in folds)])]))
