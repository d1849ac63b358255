"""The layers of small networks in NumPy: what they compute, and the gradients they pass down.

They compute what Keras' layers of the same names compute, which tests compare. Starting TensorFlow
and tracing a training loop takes ten seconds; training on a few thousand vectors takes one.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Arrays = dict[str, Floats]

ActivationName = Literal["relu", "gelu", "selu", "tanh", "swish"]


class Layer(ABC):
    """Rows in, rows out.

    Attributes:
        weights: What is kept of it, by name, in Keras' order.
        trained: Names of the weights that learn.
        gradients: Of the trained weights, from the latest `backward`.
        decay: Factor of the summed squares of its kernel in the loss.
    """

    decay = 0.0

    def __init__(self) -> None:
        self.weights: Arrays = {}
        self.trained: tuple[str, ...] = ()
        self.gradients: Arrays = {}

    @abstractmethod
    def __call__(self, x: Floats) -> Floats:
        """Return the output in inference; (n, n_in) to (n, n_out)."""

    @abstractmethod
    def forward(self, x: Floats, rng: np.random.Generator) -> Floats:
        """Return the output in training and remember what `backward` needs."""

    @abstractmethod
    def backward(self, gradient: Floats, *, further: bool) -> Floats:
        """Set `gradients` and return the loss's gradient by the input.

        Args:
            gradient: (n, n_out) the loss's gradient by the output; may be overwritten.
            further: Whether the gradient by the input is wanted; if not, anything is returned.
        """


class Dense(Layer):
    """x W + b.

    Args:
        n_in: Columns of the input.
        n_out: Columns of the output.
        use_bias: Whether there is a b.
        decay: See `Layer`.
        rng: Draws W.

    Source: Glorot and Bengio 2010, "Understanding the Difficulty of Training Deep Feedforward
        Neural Networks", formula 16, for W.
    """

    def __init__(
        self, n_in: int, n_out: int, rng: np.random.Generator, *, use_bias: bool, decay: float
    ) -> None:
        super().__init__()
        limit = np.float32(math.sqrt(6 / (n_in + n_out)))
        kernel = rng.random((n_in, n_out), np.float32)
        kernel *= 2 * limit
        kernel -= limit
        self.weights = {"kernel": kernel}
        if use_bias:
            self.weights["bias"] = np.zeros(n_out, np.float32)
        self.trained = tuple(self.weights)
        self.decay = decay
        self._input = np.empty((0, n_in), np.float32)

    def __call__(self, x: Floats) -> Floats:
        """See `Layer`."""
        y = x @ self.weights["kernel"]
        if "bias" in self.weights:
            y += self.weights["bias"]
        return y

    def forward(self, x: Floats, rng: np.random.Generator) -> Floats:
        """See `Layer`."""
        self._input = x
        return self(x)

    def backward(self, gradient: Floats, *, further: bool) -> Floats:
        """See `Layer`."""
        kernel = self.weights["kernel"]
        by_kernel = self._input.T @ gradient
        if self.decay:
            by_kernel += np.float32(2 * self.decay) * kernel
        self.gradients = {"kernel": by_kernel}
        if "bias" in self.weights:
            self.gradients["bias"] = gradient.sum(axis=0)
        return gradient @ kernel.T if further else gradient


class BatchNormalization(Layer):
    """Normalizes each column over the batch; in inference, by moving statistics.

    Source: Keras 3, `keras.layers.BatchNormalization` with its defaults.
    """

    _MOMENTUM = np.float32(0.99)
    _EPSILON = np.float32(1e-3)

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weights = {
            "gamma": np.ones(size, np.float32),
            "beta": np.zeros(size, np.float32),
            "moving_mean": np.zeros(size, np.float32),
            "moving_variance": np.ones(size, np.float32),
        }
        self.trained = ("gamma", "beta")

    def __call__(self, x: Floats) -> Floats:
        """See `Layer`."""
        own = self.weights
        factor = own["gamma"] / np.sqrt(own["moving_variance"] + self._EPSILON)
        return np.asarray(x * factor + (own["beta"] - own["moving_mean"] * factor), np.float32)

    def forward(self, x: Floats, rng: np.random.Generator) -> Floats:
        """See `Layer`."""
        own = self.weights
        mean, variance = x.mean(axis=0), x.var(axis=0)
        for name, value in (("moving_mean", mean), ("moving_variance", variance)):
            own[name] *= self._MOMENTUM
            own[name] += (1 - self._MOMENTUM) * value
        self._factor = 1 / np.sqrt(variance + self._EPSILON)
        self._normalized = (x - mean) * self._factor
        return np.asarray(self._normalized * own["gamma"] + own["beta"], np.float32)

    def backward(self, gradient: Floats, *, further: bool) -> Floats:
        """See `Layer`."""
        by_gamma = (gradient * self._normalized).sum(axis=0)
        by_beta = gradient.sum(axis=0)
        self.gradients = {"gamma": by_gamma, "beta": by_beta}
        centered = gradient - (by_beta + self._normalized * by_gamma) / np.float32(len(gradient))
        return np.asarray(centered * (self.weights["gamma"] * self._factor), np.float32)


class Activation(Layer):
    """A function of each value."""

    def __init__(self, name: ActivationName) -> None:
        super().__init__()
        self._function, self._derivative = _ACTIVATIONS[name]

    def __call__(self, x: Floats) -> Floats:
        """See `Layer`."""
        return self._function(x)

    def forward(self, x: Floats, rng: np.random.Generator) -> Floats:
        """See `Layer`."""
        self._input = x
        self._output = self._function(x)
        return self._output

    def backward(self, gradient: Floats, *, further: bool) -> Floats:
        """See `Layer`."""
        gradient *= self._derivative(self._input, self._output)
        return gradient


class Dropout(Layer):
    """Sets a share of the values to 0 in training, and scales the others up."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self._rate = rate

    def __call__(self, x: Floats) -> Floats:
        """See `Layer`."""
        return x

    def forward(self, x: Floats, rng: np.random.Generator) -> Floats:
        """See `Layer`."""
        kept = rng.random(x.shape, np.float32) >= self._rate
        self._factor = kept * np.float32(1 / (1 - self._rate))
        return x * self._factor

    def backward(self, gradient: Floats, *, further: bool) -> Floats:
        """See `Layer`."""
        gradient *= self._factor
        return gradient


class Network:
    """Layers one after the other, from vectors to logits.

    Args:
        layers: By name, in order.
    """

    def __init__(self, layers: dict[str, Layer]) -> None:
        self._layers = layers

    def logits(self, x: Floats) -> Floats:
        """Return (n, n_classes) in inference, of (n, n_columns)."""
        for layer in self._layers.values():
            x = layer(x)
        return x

    def learn(
        self,
        x: Floats,
        targets: Floats,
        weights: Floats,
        rng: np.random.Generator,
        log_prior: Floats,
    ) -> Floats:
        """Compute the gradients of a batch's loss: mean weighted cross-entropy, and the decay.

        Args:
            x: (n, n_columns).
            targets: (n, n_classes) probabilities.
            weights: (n,) what each row counts.
            rng: Draws what is dropped.
            log_prior: (n_classes,) added to the logits in the loss; 0 adjusts nothing.

        Returns:
            (n, n_classes) logits in training.
        """
        for layer in self._layers.values():
            x = layer.forward(x, rng)
        gradient = np.exp(log_softmax(x + log_prior))
        gradient -= targets
        gradient *= weights[:, None] / np.float32(len(x))
        first = next(iter(self._layers))
        for name, layer in reversed(self._layers.items()):
            gradient = layer.backward(gradient, further=name != first)
        return x

    def trained(self) -> Iterator[tuple[str, Floats, Floats]]:
        """Yield (name, values, gradient) of every trained weight."""
        for name, layer in self._layers.items():
            for weight in layer.trained:
                yield f"{name}/{weight}", layer.weights[weight], layer.gradients[weight]

    @property
    def arrays(self) -> Arrays:
        """All weights by "layer/weight", in Keras' order; the arrays themselves, not copies."""
        return {
            f"{name}/{weight}": values
            for name, layer in self._layers.items()
            for weight, values in layer.weights.items()
        }

    def set_arrays(self, values: Sequence[npt.NDArray[Any]]) -> None:
        """Overwrite all weights, given in the order of `arrays`.

        Raises:
            ValueError: another number of them, or other shapes.
        """
        for own, new in zip(self.arrays.values(), values, strict=True):
            if own.shape != new.shape:
                raise ValueError(f"expected weights of shape {own.shape}, received {new.shape}")
            own[...] = new


def log_softmax(logits: Floats) -> Floats:
    """Return the logarithms of the probabilities, (n, n_classes)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)), np.float32)


def _sigmoid(x: Floats) -> Floats:
    # By the hyperbolic tangent, which does not overflow.
    return np.asarray(np.float32(0.5) * np.tanh(np.float32(0.5) * x) + np.float32(0.5), np.float32)


def _normal_cdf(x: Floats) -> Floats:
    # Only GELU needs it, and importing it takes a quarter of a second.
    from scipy.special import ndtr

    return np.asarray(ndtr(x), np.float32)


def _gelu_derivative(x: Floats, y: Floats) -> Floats:
    density = np.exp(np.float32(-0.5) * x * x) * np.float32(1 / math.sqrt(2 * math.pi))
    return np.asarray(_normal_cdf(x) + x * density, np.float32)


def _swish_derivative(x: Floats, y: Floats) -> Floats:
    return np.asarray(y + _sigmoid(x) * (1 - y), np.float32)


# Source: Klambauer et al. 2017, "Self-Normalizing Neural Networks", formula 14, digits as in Keras.
_SELU_ALPHA = np.float32(1.6732632423543772848170429916717)
_SELU_SCALE = np.float32(1.0507009873554804934193349852946)


def _selu(x: Floats) -> Floats:
    negative = _SELU_ALPHA * np.expm1(np.minimum(x, 0))
    return np.asarray(_SELU_SCALE * np.where(x > 0, x, negative), np.float32)


def _selu_derivative(x: Floats, y: Floats) -> Floats:
    return np.asarray(np.where(x > 0, _SELU_SCALE, y + _SELU_SCALE * _SELU_ALPHA), np.float32)


# Each with its derivative, of input and output.
_ACTIVATIONS: dict[
    ActivationName, tuple[Callable[[Floats], Floats], Callable[[Floats, Floats], Floats]]
] = {
    "relu": (lambda x: np.maximum(x, 0), lambda x, y: np.asarray(y > 0, np.float32)),
    # Source: Hendrycks and Gimpel 2016, "Gaussian Error Linear Units", the exact form.
    "gelu": (lambda x: x * _normal_cdf(x), _gelu_derivative),
    "selu": (_selu, _selu_derivative),
    "tanh": (np.tanh, lambda x, y: 1 - y * y),
    "swish": (lambda x: x * _sigmoid(x), _swish_derivative),
}
