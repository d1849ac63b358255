"""Probabilities from logits: the softmax and its temperature."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from headstart.scoring.metrics import Floats, Labels

_INVERSE_TEMPERATURES = (1e-6, 1e6)
_PRECISION = 1e-7
_MOST_STEPS = 100


def log_softmax(logits: Floats) -> npt.NDArray[np.float64]:
    """Return log-probabilities of (n_samples, n_classes) logits."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def softmax(logits: Floats, temperature: float = 1.0) -> npt.NDArray[np.float64]:
    """Return probabilities of (n_samples, n_classes) logits divided by `temperature`."""
    return np.asarray(np.exp(log_softmax(logits / temperature)))


def _mistake_mass(n_samples: int) -> float:
    """Return the share of probability that held-out labels leave to the other classes.

    Held-out images that are all right would drive the temperature to 0 and the next mistake's
    log loss to infinity; this counts one more image, and that one wrong.

    Source: Platt, Probabilistic Outputs for Support Vector Machines, 1999, section 2.2.
    """
    return 1 / (n_samples + 2)


def fit_temperature(logits: Floats, labels: Labels) -> float:
    """Return the temperature that makes held-out logits most likely.

    Args:
        logits: (n_samples, n_classes) of images that the weights were not fitted to; at least
            two classes.
        labels: (n_samples,).

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 4.2.
    """
    n_samples, n_classes = logits.shape
    centred = logits.astype(np.float64) - logits.mean(axis=1, keepdims=True)
    spread = float(np.abs(centred).max())
    if spread == 0.0:
        return 1.0
    # In units of their own spread, so that the bounds hold for scores of any scale.
    scaled = centred / spread
    mistaken = _mistake_mass(n_samples) / (n_classes - 1)
    true = scaled[np.arange(n_samples), labels]
    # Rows are centred: what the true class lacks of 1 is what all the others sum to.
    wanted = float(((1 - mistaken * n_classes) * true).mean())

    def slope(inverse: float) -> tuple[float, float]:
        probabilities = softmax(scaled * inverse)
        mean = (probabilities * scaled).sum(axis=1)
        variance = (probabilities * scaled**2).sum(axis=1) - mean**2
        return float(mean.mean()) - wanted, float(variance.mean())

    return spread / _rising_root(slope, *_INVERSE_TEMPERATURES)


def _rising_root(
    function: Callable[[float], tuple[float, float]], lowest: float, highest: float
) -> float:
    """Return where a rising function of a positive number is 0, or the end it tends to.

    Newton's steps, and bisection (of the logarithm) where they leave the bracket.

    Args:
        function: Gives value and derivative.
        lowest: Lower end of the bracket, above 0.
        highest: Upper end.
    """
    position = 1.0
    for _ in range(_MOST_STEPS):
        value, derivative = function(position)
        lowest, highest = (lowest, position) if value > 0 else (position, highest)
        step = position - value / derivative if derivative > 0 else lowest
        following = step if lowest < step < highest else float(np.sqrt(lowest * highest))
        if abs(following - position) <= _PRECISION * position:
            return following
        position = following
    return position
