"""Layers of the golden networks, in NumPy and float64: what `tests.golden_transformers` chains."""

from collections.abc import Callable

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.special import erf

from tests.hub_arrays import Arrays

Floats = NDArray[np.float64]


class Weights:
    """The building blocks, each by the name of its arrays."""

    def __init__(self, arrays: Arrays) -> None:
        self._arrays = arrays

    def __getitem__(self, name: str) -> Floats:
        return self._arrays[name].astype(np.float64)

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def dense(self, x: Floats, name: str) -> Floats:
        return self._shift(x @ self[f"{name}.weight"].T, name)

    def _shift(self, x: Floats, name: str) -> Floats:
        bias = f"{name}.bias"
        return x + self[bias] if bias in self else x

    def norm(self, x: Floats, name: str, epsilon: float) -> Floats:
        centred = x - x.mean(axis=-1, keepdims=True)
        spread = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + epsilon)
        return centred / spread * self[f"{name}.weight"] + self[f"{name}.bias"]

    def mlp(
        self, x: Floats, first: str, second: str, activation: Callable[[Floats], Floats]
    ) -> Floats:
        return self.dense(activation(self.dense(x, first)), second)

    def patches(self, pixels: Floats, name: str) -> Floats:
        """Cut squares and project each: (n, h, w, 3) to (n, tokens, channels), row by row."""
        kernel = self[f"{name}.weight"]
        side = kernel.shape[-1]
        count, height, width, _ = pixels.shape
        grid = pixels.reshape(count, height // side, side, width // side, side, 3)
        tokens = np.einsum("nhiwjc,ocij->nhwo", grid, kernel).reshape(count, -1, len(kernel))
        return self._shift(tokens, name)

    def convolution(self, x: Floats, name: str, norm: str, stride: int = 1) -> Floats:
        """A convolution of 'same' size at stride 1, and batch normalization by its statistics."""
        kernel = self[f"{name}.weight"]
        seen = windows(x, kernel.shape[-1], stride, 0.0)
        y: Floats = np.einsum("nhwcij,ocij->nhwo", seen, kernel, optimize=True)
        scale = self[f"{norm}.weight"] / np.sqrt(self[f"{norm}.running_var"] + 1e-5)
        return (y - self[f"{norm}.running_mean"]) * scale + self[f"{norm}.bias"]


def windows(x: Floats, side: int, stride: int, fill: float) -> Floats:
    """Windows around each pixel: (n, h, w, c) to (n, h / stride, w / stride, c, side, side)."""
    edge = (side - 1) // 2
    padded = np.pad(x, ((0, 0), (edge, edge), (edge, edge), (0, 0)), constant_values=fill)
    return sliding_window_view(padded, (side, side), axis=(1, 2))[:, ::stride, ::stride]


def gelu(x: Floats) -> Floats:
    return x * 0.5 * (1 + erf(x / np.sqrt(2)))


def gelu_tanh(x: Floats) -> Floats:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def quick_gelu(x: Floats) -> Floats:
    return x / (1 + np.exp(-1.702 * x))


def silu(x: Floats) -> Floats:
    return x / (1 + np.exp(-x))


def relu(x: Floats) -> Floats:
    return np.maximum(x, 0)


def attend(
    query: Floats, key: Floats, value: Floats, heads: int, bias: Floats | float = 0.0
) -> Floats:
    """softmax(Q K' / sqrt(d) + bias) V in each head; (n, tokens, channels).

    Args:
        query: (n, n_queries, channels).
        key: (n, n_keys, channels).
        value: (n, n_keys, channels).
        heads: Number of heads, each a slice of the channels.
        bias: (heads, n_queries, n_keys); minus infinity forbids a pair.
    """

    def split(x: Floats) -> Floats:
        return x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)

    q, k, v = split(query), split(key), split(value)
    logits = q @ k.transpose(0, 1, 3, 2) / np.sqrt(q.shape[-1]) + bias
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    mixed = weights / weights.sum(axis=-1, keepdims=True) @ v
    return mixed.transpose(0, 2, 1, 3).reshape(query.shape)


def prepend(tokens: Floats, *before: Floats) -> Floats:
    return np.concatenate([*(np.repeat(t, len(tokens), axis=0) for t in before), tokens], axis=1)


def insert(tokens: Floats, extra: Floats) -> Floats:
    """Put `extra` (1, n_extra, channels) behind the class token of every image."""
    return np.concatenate([tokens[:, :1], prepend(tokens[:, 1:], extra)], axis=1)


def resized_cubic(cells: Floats, size: tuple[int, int], antialias: bool) -> Floats:
    """Resize (height, width, channels) by Keys' cubic (a = -0.5), pixel centers at halves.

    Beyond the edge there is nothing: the weights of what is inside are scaled up to sum to 1.
    Source: Keys, Cubic Convolution Interpolation, 1981; the edges as in Pillow and TensorFlow.
    """
    rows, columns = (
        _cubic(source, target, antialias)
        for source, target in zip(cells.shape[:2], size, strict=True)
    )
    return np.einsum("hi,wj,ijc->hwc", rows, columns, cells)


def _cubic(source: int, target: int, antialias: bool) -> Floats:
    step = source / target
    reach = max(step, 1.0) if antialias else 1.0
    centers = (np.arange(target) + 0.5) * step - 0.5
    x = np.abs(np.arange(source) - centers[:, None]) / reach
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    weights = np.where(x <= 1, near, np.where(x < 2, far, 0.0))
    scaled: Floats = weights / weights.sum(axis=1, keepdims=True)
    return scaled
