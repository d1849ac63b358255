"""Probabilities from logits: the softmax and its temperature."""

import math
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from headstart.common.threads import in_order
from headstart.scoring.metrics import Floats, Labels

Result = TypeVar("Result")

_EXPONENTS = (math.log(1e-6), math.log(1e6))
"""Natural exponents between which the inverse of a temperature is sought."""

_PRECISION = 1e-9
"""Of the exponent."""

_HIGHEST_LOSS = -math.log(np.finfo(np.float64).eps)
"""Of one image, as in `negative_log_likelihood`."""

_PART = 2**17
"""Logits in memory at a time; as float64 about what a core's cache holds."""

FEWEST_UNITS = 10
"""Units that must be held out for a temperature to be fitted.

With fewer the one mistake that is counted on top (see `_mistake_mass`) decides, or a single image.
"""

_FLATTEST = 100.0
"""Largest temperature in units of the largest logit: there probabilities are within 2 % of even.

What lies beyond says that the logits tell nothing, or mislead, not how sure they are.
"""


def softmax(logits: Floats, temperature: float | Floats = 1.0) -> npt.NDArray[np.float64]:
    """Return probabilities of (n_samples, n_classes) logits divided by `temperature`.

    Args:
        logits: (n_samples, n_classes).
        temperature: One for all, or (n_samples, 1).
    """
    probabilities = logits.astype(np.float64)
    probabilities /= temperature
    probabilities -= probabilities.max(axis=1, keepdims=True)
    np.exp(probabilities, out=probabilities)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return probabilities


def _mistake_mass(n_samples: int) -> float:
    """Return the share of probability that held-out labels leave to the other classes.

    Held-out images that are all right would drive the temperature to 0 and the next mistake's
    log loss to infinity; this counts one more image, and that one wrong.

    Source: Platt, Probabilistic Outputs for Support Vector Machines, 1999, section 2.2.
    """
    return 1 / (n_samples + 2)


def losses_at(temperature: float, logits: Floats, labels: Labels) -> npt.NDArray[np.float64]:
    """Return each image's log loss at a temperature, (n_samples,), in nats.

    As of `softmax`, without having the probabilities in memory.

    Args:
        temperature: What the logits are divided by.
        logits: (n_samples, n_classes).
        labels: (n_samples,).
    """

    def part(logits: Floats, labels: Labels) -> npt.NDArray[np.float64]:
        scaled = logits / temperature
        scaled -= scaled.max(axis=0)
        true = scaled[labels, np.arange(len(labels))]
        losses = np.log(np.exp(scaled, out=scaled).sum(axis=0)) - true
        return np.asarray(np.minimum(losses, _HIGHEST_LOSS))

    return np.concatenate([np.empty(0), *_by_parts(part, logits, labels)])


def cautious_losses(logits: Floats, labels: Labels) -> npt.NDArray[np.float64]:
    """Return each image's log loss at temperature 1 if one more image were mistaken, (n_samples,).

    Of settings that are all right on a few images their mean prefers one whose confidence such few
    can warrant, where the plain log loss prefers the surest one.

    Args:
        logits: (n_samples, n_classes).
        labels: (n_samples,).
    """
    n_samples, n_classes = logits.shape
    mistaken = _mistake_mass(n_samples)

    def part(logits: Floats, labels: Labels) -> npt.NDArray[np.float64]:
        logits = logits - logits.max(axis=0)
        normalizer = np.log(np.exp(logits).sum(axis=0))
        true = normalizer - logits[labels, np.arange(len(labels))]
        others = (n_classes * normalizer - logits.sum(axis=0) - true) / (n_classes - 1)
        return np.asarray((1 - mistaken) * true + mistaken * others)

    return np.concatenate([np.empty(0), *_by_parts(part, logits, labels)])


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
    # Units of the logits' own spread, so that the bounds hold for scores of any scale.
    spreads = _by_parts(lambda logits, _: float(np.abs(logits).max()), logits, labels)
    spread = float(np.max(list(spreads)))
    if not np.isfinite(spread):
        return None
    if spread == 0.0:
        return 1.0
    mistaken = _mistake_mass(n_samples) / (n_classes - 1)

    def true_sum(logits: Floats, labels: Labels) -> float:
        return float(logits[labels, np.arange(len(labels))].sum())

    # Rows are centered: what the true class lacks of 1 is what all the others sum to.
    wanted = (1 - mistaken * n_classes) * sum(_by_parts(true_sum, logits, labels))

    def slope(exponent: float) -> tuple[float, float]:
        """Return by how much the logits' expectation exceeds what is wanted, and its derivative.

        Of the inverse temperature e**exponent; the first rises with it.
        """
        inverse = math.exp(exponent) / spread

        def part(logits: Floats, _: Labels) -> tuple[float, float]:
            shares = inverse * logits
            shares -= shares.max(axis=0)
            np.exp(shares, out=shares)
            shares /= shares.sum(axis=0)
            mean = np.einsum("ij,ij->j", shares, logits)
            square = np.einsum("ij,ij,ij->", shares, logits, logits)
            return float(mean.sum()), inverse * (float(square) - float(mean @ mean))

        mean, variance = np.sum(list(_by_parts(part, logits, labels)), axis=0).tolist()
        return mean - wanted, variance

    lowest, highest = _EXPONENTS
    if slope(lowest)[0] >= 0 or slope(highest)[0] <= 0:
        return None
    start = min(max(math.log(spread), lowest), highest)
    temperature = spread / math.exp(_root(slope, start, lowest, highest))
    return temperature if temperature <= _FLATTEST * spread else None


def _root(
    function: Callable[[float], tuple[float, float]], at: float, low: float, high: float
) -> float:
    """Return where a rising function, given with its derivative, is 0: Newton within bounds."""
    while high - low > _PRECISION:
        value, derivative = function(at)
        low, high = (at, high) if value < 0 else (low, at)
        step = value / derivative if derivative > 0 else math.inf
        if abs(step) < _PRECISION:
            return at - step
        # Halved where the derivative leads out of the bounds.
        at = at - step if low < at - step < high else (low + high) / 2
    return at


def _by_parts(
    function: Callable[[Floats, Labels], Result], logits: Floats, labels: Labels
) -> Iterator[Result]:
    """Yield `function` of centered logits, (n_classes, n) float64, and labels, part by part.

    Classes come first, so that numpy works along the samples whatever the number of classes.
    """
    step = max(1, _PART // logits.shape[1])

    def part(start: int) -> Result:
        place = slice(start, start + step)
        block = np.ascontiguousarray(logits[place].T, dtype=np.float64)
        return function(block - block.mean(axis=0), labels[place])

    return in_order(part, range(0, len(logits), step))
