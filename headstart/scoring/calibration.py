"""Probabilities from logits: the softmax and its temperature."""

import numpy as np
import numpy.typing as npt

from headstart.scoring.metrics import Floats, Labels

_EXPONENTS = (-6.0, 6.0)
"""Decimal exponents between which the inverse of a temperature is sought."""

FEWEST_UNITS = 10
"""Units that must be held out for a temperature to be fitted.

With fewer the one mistake that is counted on top (see `_mistake_mass`) decides, or a single image.
"""

_FLATTEST = 100.0
"""Largest temperature in units of the largest logit: there probabilities are within 2 % of even.

What lies beyond says that the logits tell nothing, or mislead, not how sure they are.
"""


def softmax(logits: Floats, temperature: float = 1.0) -> npt.NDArray[np.float64]:
    """Return probabilities of (n_samples, n_classes) logits divided by `temperature`."""
    scaled = logits.astype(np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _log_softmax(logits: Floats) -> npt.NDArray[np.float64]:
    """Return the logarithms of the probabilities of (n_samples, n_classes) logits."""
    below = logits.astype(np.float64)
    below -= below.max(axis=1, keepdims=True)
    return np.asarray(below - np.log(np.exp(below).sum(axis=1, keepdims=True)))


def _mistake_mass(n_samples: int) -> float:
    """Return the share of probability that held-out labels leave to the other classes.

    Held-out images that are all right would drive the temperature to 0 and the next mistake's
    log loss to infinity; this counts one more image, and that one wrong.

    Source: Platt, Probabilistic Outputs for Support Vector Machines, 1999, section 2.2.
    """
    return 1 / (n_samples + 2)


def cautious_log_loss(logits: Floats, labels: Labels) -> float:
    """Return the log loss of probabilities at temperature 1 if one more image were mistaken.

    Of settings that are all right on a few images it prefers one whose confidence such few can
    warrant, where the plain log loss prefers the surest one.

    Args:
        logits: (n_samples, n_classes).
        labels: (n_samples,).
    """
    n_samples, n_classes = logits.shape
    mistaken = _mistake_mass(n_samples)
    losses = -_log_softmax(logits)
    true = losses[np.arange(n_samples), labels]
    others = (losses.sum(axis=1) - true) / (n_classes - 1)
    return float(((1 - mistaken) * true + mistaken * others).mean())


def fit_temperature(logits: Floats, labels: Labels, unit: Labels | None = None) -> float | None:
    """Return the temperature that makes held-out logits most likely.

    Args:
        logits: (n_samples, n_classes) of images that the weights were not fitted to; at least
            two classes.
        labels: (n_samples,).
        unit: (n_samples,) images of one number belong together and count once; each by itself
            without.

    Returns:
        None where the images cannot tell: fewer units than `FEWEST_UNITS`, logits that are no
        numbers, or none but a boundless temperature would do. 1 is the one to take then.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 4.2.
    """
    n_samples, n_classes = logits.shape
    if (n_samples if unit is None else len(np.unique(unit))) < FEWEST_UNITS:
        return None
    centered = logits.astype(np.float64) - logits.mean(axis=1, keepdims=True)
    spread = float(np.abs(centered).max())
    if not np.isfinite(spread):
        return None
    if spread == 0.0:
        return 1.0
    # In units of their own spread, so that the bounds hold for scores of any scale.
    scaled = centered / spread
    mistaken = _mistake_mass(n_samples) / (n_classes - 1)
    true = scaled[np.arange(n_samples), labels]
    # Rows are centered: what the true class lacks of 1 is what all the others sum to.
    wanted = float(((1 - mistaken * n_classes) * true).mean())

    def slope(exponent: float) -> float:
        """Return by how much the mean logit at 10**exponent exceeds what is wanted; it rises."""
        probabilities = softmax(scaled * 10**exponent)
        return float((probabilities * scaled).sum(axis=1).mean()) - wanted

    # Here, since only fitting needs it, and it takes as long to import as all the rest.
    from scipy.optimize import brentq

    lowest, highest = _EXPONENTS
    if slope(lowest) >= 0 or slope(highest) <= 0:
        return None
    temperature = spread / 10 ** float(brentq(slope, lowest, highest, xtol=1e-8))
    return temperature if temperature <= _FLATTEST * spread else None
