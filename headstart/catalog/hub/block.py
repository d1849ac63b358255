"""A part of a network that KerasHub makes as one, as a node of ours."""

import math
from collections.abc import Callable
from typing import Any

from headstart.common.tensorflow_runtime import keras

# Attention of KerasHub's that is none of Keras' own.
_OWN_ATTENTION = ("DINOV3Attention", "WindowAttention")


class Block(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types.
    """A layer of KerasHub's with one input and one output, and what it takes to compute.

    Args:
        inner: The layer, built.
        call: How it is called: layer and tensor to tensor; by default it is just called.
        merges: Whether it ends in a residual connection.
    """

    def __init__(
        self,
        inner: Any,
        *,
        name: str,
        call: Callable[[Any, Any], Any] = lambda layer, x: layer(x),
        merges: bool = False,
    ) -> None:
        super().__init__(name=name)
        self.inner = inner
        self.merges = merges
        self._call = call
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Call the layer; whether it trains, it is told by Keras."""
        return self._call(self.inner, inputs)

    def multiply_adds(self, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> int:
        """Return the multiply-adds of one image.

        Args:
            inputs: Shape without the batch.
            outputs: The same of the result.
        """
        tokens = outputs[0] if len(outputs) > 1 else 1
        total = 0
        for layer in self._flatten_layers(include_self=False):
            kernel = getattr(layer, "kernel", None)
            if kernel is not None:
                # Keys and values are of all tokens, also where a single one asks.
                of_inputs = layer.name in ("key", "value") and len(outputs) == 1
                total += math.prod(kernel.shape) * (inputs[0] if of_inputs else tokens)
            kind = type(layer).__name__
            if isinstance(layer, keras.layers.MultiHeadAttention) or kind in _OWN_ATTENTION:
                window = getattr(layer, "window_size", None)
                seen = inputs[0] if window is None else math.prod(window)
                # Every query with every key, and every weight with every value.
                total += 2 * tokens * seen * outputs[-1]
        return total
