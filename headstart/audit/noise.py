"""Labels as noisy readings of the truth: how many are wrong, and how likely each one is.

Pure functions of logits that have never seen the image they are of.
"""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import expit

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

_SCALES = (-4.0, 2.0)
"""Natural logarithms between which the factor on the logits is sought: they are calibrated on
labels with errors, so they are surer without them, but not by any factor.
"""

_HIGHEST_RATE = 0.5


def confident_errors(probabilities: Floats, labels: Labels) -> tuple[npt.NDArray[np.bool_], float]:
    """Return which labels are confidently contradicted, and an estimate of how many are wrong.

    An image counts as of the likeliest class among those whose probability is at least what images
    of that label have on the mean. Of each label the share that counts as of another class is what
    is taken to be wrong.

    Args:
        probabilities: (n_images, n_classes), rows summing to 1.
        labels: (n_images,) class indices as given.

    Returns:
        (n_images,) and a number of images.

    Source: Northcutt, Jiang and Chuang, Confident Learning: Estimating Uncertainty in Dataset
        Labels, JAIR 70, 2021, equations 1 to 3.
    """
    n_classes = probabilities.shape[1]
    of_label = np.bincount(labels, minlength=n_classes)
    own = probabilities[np.arange(len(labels)), labels]
    # Above 1 for a label that no image has: nothing counts as of it.
    threshold = np.where(
        of_label > 0, np.bincount(labels, own, n_classes) / np.maximum(of_label, 1), 2.0
    )
    # What is equal need not be so to the last bit.
    reached = np.where(probabilities >= threshold - 1e-9, probabilities, -1.0)
    counted = reached.max(axis=1) >= 0
    wrong = counted & (reached.argmax(axis=1) != labels)
    n_counted = np.bincount(labels[counted], minlength=n_classes)
    n_wrong = np.bincount(labels[wrong], minlength=n_classes)
    return wrong, float((n_wrong / np.maximum(n_counted, 1) * of_label).sum())


def odds_against(logits: Floats, labels: Labels, scale: float = 1.0) -> Floats:
    """Return the log odds that an image is of any class but its label, (n_images,).

    Args:
        logits: (n_images, n_classes).
        labels: (n_images,).
        scale: Factor on the logits.
    """
    rows = np.arange(len(labels))
    scaled = scale * logits
    own = scaled[rows, labels].copy()
    scaled[rows, labels] = -np.inf
    top = scaled.max(axis=1)
    return np.asarray(top + np.log(np.exp(scaled - top[:, None]).sum(axis=1)) - own)


def wrong_odds(logits: Floats, labels: Labels, n_wrong: float) -> Floats:
    """Return the log odds that each label is wrong, (n_images,).

    The labels are modelled as the true classes, which are as likely as the logits times a factor
    say, of which a share has been replaced by any other class alike. The factor is the likeliest
    given the labels. The share is bounded from two sides: the likelihood takes errors among classes
    that look alike for hard images, confident learning takes hard images for errors. The geometric
    mean of the two is taken.

    Args:
        logits: (n_images, n_classes).
        labels: (n_images,).
        n_wrong: What confident learning estimates.

    Source: of noise between the softmax and the labels, Mnih and Hinton, Learning to Label Aerial
        Images from Noisy Data, ICML 2012.
    """
    n_images, n_classes = logits.shape
    # As if half an image more were wrong, so that no rate is 0.
    least = 0.5 / (n_images + 1)
    scale = _likeliest_scale(lambda odds: _likeliest_rate(odds, n_classes, least), logits, labels)
    likeliest = _likeliest_rate(odds_against(logits, labels, scale), n_classes, least)
    counted = min((n_wrong + 0.5) / (n_images + 1), _HIGHEST_RATE)
    rate = math.sqrt(likeliest * counted)
    odds = odds_against(logits, labels, _likeliest_scale(lambda _: rate, logits, labels))
    return np.asarray(odds + math.log(rate / (n_classes - 1)) - math.log(1 - rate))


def _likelihoods(odds: Floats, n_classes: int, rate: float) -> Floats:
    """Return how likely each label is, given the log odds against it and the rate of errors."""
    right = expit(-odds)
    return np.asarray((1 - rate) * right + rate / (n_classes - 1) * expit(odds))


def _likeliest_rate(odds: Floats, n_classes: int, least: float) -> float:
    """Return the rate of errors that makes the labels likeliest: where the slope is 0."""
    change = expit(odds) / (n_classes - 1) - expit(-odds)
    low, high = least, _HIGHEST_RATE
    while high - low > 1e-6:
        middle = (low + high) / 2
        if (change / _likelihoods(odds, n_classes, middle)).sum() > 0:
            low = middle
        else:
            high = middle
    return low


def _likeliest_scale(rate: Callable[[Floats], float], logits: Floats, labels: Labels) -> float:
    """Return the factor on the logits that makes the labels likeliest, at the rate for it."""

    def loss(exponent: float) -> float:
        odds = odds_against(logits, labels, math.exp(exponent))
        likely = _likelihoods(odds, logits.shape[1], rate(odds))
        return -float(np.log(np.maximum(likely, np.finfo(np.float64).tiny)).mean())

    found = minimize_scalar(loss, bounds=_SCALES, method="bounded", options={"xatol": 1e-3})
    return math.exp(found.x)
