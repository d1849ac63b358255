"""Local response normalization, for which Keras has no layer.

Made of Keras' operations instead of a layer of our own, so that a saved model loads anywhere.
"""

from typing import Any

import numpy as np

from headstart.common.tensorflow_runtime import keras

# Source: Krizhevsky, Sutskever and Hinton 2012, section 3.3 (k, n, alpha; beta is 3/4).
_BIAS, _WINDOW, _ALPHA = 2.0, 5, 1e-4


def normalize_responses(x: Any, name: str) -> Any:
    """Divide each activation by (k + alpha * sum of squares over 5 channels around it) ** (3/4).

    Args:
        x: Symbolic tensor (batch, height, width, channels).
        name: Of the last operation, so that one can cut there.

    Returns:
        The same shape.
    """
    channel = np.arange(x.shape[-1])
    near = np.abs(channel[:, None] - channel[None, :]) <= _WINDOW // 2
    # A product with this band matrix sums over the window many times faster than slices do.
    scale = keras.ops.matmul(keras.ops.square(x), _ALPHA * near.astype(np.float32)) + _BIAS
    root = keras.ops.rsqrt(scale)
    return keras.layers.Multiply(name=name)([x, root * keras.ops.sqrt(root)])
