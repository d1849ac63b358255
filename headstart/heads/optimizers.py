"""What moves the weights of a small network: Keras' optimizers, in NumPy.

Source: Keras 3, `keras.optimizers.Adam`, `SGD`, `RMSprop` and `schedules.CosineDecay`, with their
defaults; tests compare.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable

import numpy as np

from headstart.heads.layers import Floats
from headstart.heads.options import NetworkOptions

# Values updated at once: with gradient and moments they stay in a core's own cache.
_CHUNK = 16 * 1024
_NEVER_DECAYED = ("bias", "gamma", "beta")


class Optimizer(ABC):
    """Updates weights from gradients.

    Args:
        options: Learning rate, its schedule, and the decoupled decay.
        total_steps: Where the schedule ends.
    """

    slots = 1
    """Arrays kept beside each weight."""

    def __init__(self, options: NetworkOptions, total_steps: int) -> None:
        self._options = options
        self._total_steps = total_steps
        self._steps = 0
        self._state: dict[str, list[Floats]] = {}

    def step(self, weights: Iterable[tuple[str, Floats, Floats]]) -> None:
        """Update weights in place.

        Args:
            weights: (name, values, gradient) of each; gradients may be overwritten.
        """
        rate = np.float32(self._rate())
        self._steps += 1
        decay = rate * np.float32(self._options.weight_decay)
        for name, values, gradient in weights:
            if name not in self._state:
                self._state[name] = [np.zeros(values.size, np.float32) for _ in range(self.slots)]
            decayed = decay if not name.endswith(_NEVER_DECAYED) else np.float32(0)
            flat, slope = values.reshape(-1), gradient.reshape(-1)
            for start in range(0, flat.size, _CHUNK):
                part = slice(start, start + _CHUNK)
                own = flat[part]
                if decayed:
                    own -= decayed * own
                self._update(own, slope[part], [state[part] for state in self._state[name]], rate)

    def _rate(self) -> float:
        rate = self._options.learning_rate
        if self._options.schedule == "constant":
            return rate
        return rate * 0.5 * (1 + math.cos(math.pi * min(self._steps / self._total_steps, 1)))

    @abstractmethod
    def _update(
        self, values: Floats, gradient: Floats, state: list[Floats], rate: np.float32
    ) -> None:
        """Update values and state in place."""


class Adam(Optimizer):
    """Source: Kingma and Ba 2015, "Adam", the reordered form at the end of section 2."""

    slots = 2
    _MEAN, _SQUARE, _EPSILON = 0.9, 0.999, np.float32(1e-7)

    def _update(
        self, values: Floats, gradient: Floats, state: list[Floats], rate: np.float32
    ) -> None:
        mean, square = state
        correction = math.sqrt(1 - self._SQUARE**self._steps) / (1 - self._MEAN**self._steps)
        mean += (gradient - mean) * np.float32(1 - self._MEAN)
        gradient *= gradient
        gradient -= square
        gradient *= np.float32(1 - self._SQUARE)
        square += gradient
        np.sqrt(square, out=gradient)
        gradient += self._EPSILON
        np.divide(mean, gradient, out=gradient)
        gradient *= rate * np.float32(correction)
        values -= gradient


class SGD(Optimizer):
    """With Nesterov's momentum."""

    _MOMENTUM = np.float32(0.9)

    def _update(
        self, values: Floats, gradient: Floats, state: list[Floats], rate: np.float32
    ) -> None:
        (velocity,) = state
        gradient *= rate
        velocity *= self._MOMENTUM
        velocity -= gradient
        values += self._MOMENTUM * velocity
        values -= gradient


class RMSprop(Optimizer):
    """Without momentum, not centered."""

    _DISCOUNT, _EPSILON = 0.9, np.float32(1e-7)

    def _update(
        self, values: Floats, gradient: Floats, state: list[Floats], rate: np.float32
    ) -> None:
        (square,) = state
        square *= np.float32(self._DISCOUNT)
        square += np.float32(1 - self._DISCOUNT) * (gradient * gradient)
        gradient *= rate
        gradient /= np.sqrt(square + self._EPSILON)
        values -= gradient


def optimizer_for(options: NetworkOptions, total_steps: int) -> Optimizer:
    """Return the optimizer that the options name."""
    match options.optimizer:
        case "adam" | "adamw":
            # Keras' Adam decays weights by the rule of AdamW.
            return Adam(options, total_steps)
        case "sgd":
            return SGD(options, total_steps)
        case "rmsprop":
            return RMSprop(options, total_steps)
