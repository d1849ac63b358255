"""Multinomial logistic regression over the whole path of L2 penalties: the linear probe."""

import numpy as np
import numpy.typing as npt

from headstart.heads.data import TrainingData
from headstart.heads.linear_path import DescentHead
from headstart.heads.losses import CrossEntropy, Loss
from headstart.heads.options import DEFAULT_L2, LogisticOptions

L2_PATH = tuple(float(10 ** (5 - 0.25 * step)) for step in range(45))
"""45 penalties from 1e5 down to 1e-6.

Source: Kornblith et al., Do Better ImageNet Models Transfer Better?, CVPR 2019, appendix A.4.
"""


class LogisticHead(DescentHead):
    """Minimizes the summed cross-entropy + l2 / 2 |W|^2: scikit-learn's C is 1 / l2."""

    kind = "logistic"
    options_type = LogisticOptions
    setting_name = "l2"
    default_setting = DEFAULT_L2
    grid = L2_PATH
    scaled = False

    def _loss(self, data: TrainingData) -> tuple[Loss, npt.NDArray[np.float64]]:
        return CrossEntropy(data.log_prior), data.loss_weight

    def _penalty(self, setting: float, n_classes: int) -> float:
        # Two classes have one weight vector w, written as w / 2 and -w / 2: |w|^2 / 2 together.
        return 2 * setting if n_classes == 2 else setting
