"""The score that the advice goes by, image by image."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from headstart.scoring.calibration import fit_temperature, softmax
from headstart.scoring.intervals import paired_interval
from headstart.scoring.metrics import negative_log_likelihood

_PART = 2**20
"""Probabilities in memory at a time."""


class Quality(NamedTuple):
    """How good predictions are; all of shape (n_images,).

    Attributes:
        score: In [0, 1]: the mean of being right, 0 or 1, and of one minus the Brier score.
        right: Whether each image was called what it is.
        loss: Negative log-likelihood in nats.
    """

    score: npt.NDArray[np.float64]
    right: npt.NDArray[np.bool_]
    loss: npt.NDArray[np.float64]


def quality(
    logits: npt.NDArray[np.floating[Any]],
    labels: npt.NDArray[np.int64],
    units: npt.NDArray[np.int64],
) -> Quality:
    """Score held-out logits at the temperature that suits them.

    Accuracy is what is wanted, but on a hundred images it tells models apart only where they err
    on different ones; the Brier score sees by how much, and has the same bounds, so that no single
    image decides, as one could in the log loss. Errors of the two are of about one size: half each
    is near the best weight for forty to some hundred images.

    Args:
        logits: (n_images, n_classes), of images that the weights were not fitted to.
        labels: (n_images,).
        units: (n_images,) images of one number belong together.

    Source: Brier, Monthly Weather Review 78, 1950, halved to lie in [0, 1].
    """
    temperature = fit_temperature(logits, labels, units) or 1.0
    score, loss = np.empty((2, len(labels)))
    right = np.empty(len(labels), np.bool_)
    step = max(1, _PART // logits.shape[1])
    for start in range(0, len(labels), step):
        part = slice(start, start + step)
        probabilities = softmax(logits[part], temperature)
        true = probabilities[np.arange(len(probabilities)), labels[part]]
        right[part] = probabilities.argmax(axis=1) == labels[part]
        brier = ((probabilities**2).sum(axis=1) - 2 * true + 1) / 2
        score[part] = (right[part] + 1 - brier) / 2
        loss[part] = negative_log_likelihood(labels[part], probabilities)
    return Quality(score, right, loss)


def gain_interval(
    gains: npt.NDArray[np.float64], units: npt.NDArray[np.int64]
) -> tuple[float, float]:
    """Return the 95 % interval of a mean gain.

    Args:
        gains: (n_images,) differences of two scores, times what the image counts.
        units: (n_images,) images of one number belong together.
    """
    # An image that counts for several may gain more than 1.
    largest = max(1.0, float(np.abs(gains).max()))
    low, high = paired_interval(gains / largest, units)
    return low * largest, high * largest


def standard_error(gains: npt.NDArray[np.float64], units: npt.NDArray[np.int64]) -> float:
    """Return that of a mean gain; of a single unit 1, as much as there could be.

    Source: Liang and Zeger, Biometrika 73, 1986: the variance of sums over independent units.
    """
    deviations = np.bincount(np.unique(units, return_inverse=True)[1], gains - gains.mean())
    n_units = len(deviations)
    if n_units == 1:
        return 1.0
    return float(np.sqrt(deviations @ deviations * n_units / (n_units - 1)) / len(gains))
