"""EfficientNet-Lite 0 to 2: EfficientNet without squeeze-and-excitation, with ReLU6.

Source: https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite, and Tan
and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (2019), table 1.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from headstart.common.tensorflow_runtime import keras

layers = keras.layers

_STEM, _HEAD = 32, 1280
"""Filters of the first and the last convolution, which Lite does not scale."""


class Scaling(NamedTuple):
    """What the sizes of the architecture differ in.

    Attributes:
        width: Factor on the number of filters.
        depth: Factor on the repeats of all but the first and the last stage.
        dropout: Share dropped before the classifier, while training.
    """

    width: float
    depth: float
    dropout: float


# Source: efficientnet_lite_builder.py, `efficientnet_lite_params`.
SCALINGS = {
    "EfficientNetLite0": Scaling(1.0, 1.0, 0.2),
    "EfficientNetLite1": Scaling(1.0, 1.1, 0.2),
    "EfficientNetLite2": Scaling(1.1, 1.2, 0.3),
}


class _Stage(NamedTuple):
    repeats: int
    kernel: int
    stride: int
    expansion: int
    filters: int


_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)


def build(
    scaling: Scaling, input_shape: tuple[int, int, int], include_top: bool, classes: int
) -> keras.Model:
    """Build an EfficientNet-Lite.

    Args:
        scaling: Which size.
        input_shape: (height, width, 3) of the preprocessed image.
        include_top: Whether to add pooling, dropout and the classifier.
        classes: Number of outputs of the classifier.

    Returns:
        (batch, height / 32, width / 32, 1280), or class probabilities (batch, classes).
    """
    inputs = keras.Input(input_shape)
    x = _convolution(inputs, _STEM, 3, 2, "stem_")
    for block in _blocks(scaling):
        x = _inverted_residual(x, **block)
    x = _convolution(x, _HEAD, 1, 1, "top_")
    if include_top:
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        x = layers.Dropout(scaling.dropout, name="top_dropout")(x)
        x = layers.Dense(classes, activation="softmax", name="predictions")(x)
    return keras.Model(inputs, x, name="efficientnet_lite")


def torch_prefixes(scaling: Scaling) -> dict[str, str]:
    """Return, for each layer that has weights, its name in the PyTorch package's state dict."""
    names = {"stem_conv": "_conv_stem", "stem_bn": "_bn0"}
    for index, block in enumerate(_blocks(scaling)):
        name, prefix = block["name"], f"_blocks.{index}."
        if block["expansion"] > 1:
            names |= {
                f"{name}expand_conv": f"{prefix}_expand_conv",
                f"{name}expand_bn": f"{prefix}_bn0",
            }
        names |= {
            f"{name}dwconv": f"{prefix}_depthwise_conv",
            f"{name}bn": f"{prefix}_bn1",
            f"{name}project_conv": f"{prefix}_project_conv",
            f"{name}project_bn": f"{prefix}_bn2",
        }
    return names | {"top_conv": "_conv_head", "top_bn": "_bn1", "predictions": "_fc"}


def _blocks(scaling: Scaling) -> Iterator[dict[str, Any]]:
    for number, stage in enumerate(_STAGES, start=1):
        fixed = number in (1, len(_STAGES))
        repeats = stage.repeats if fixed else math.ceil(scaling.depth * stage.repeats)
        for repeat in range(repeats):
            yield {
                "name": f"block{number}{chr(ord('a') + repeat)}_",
                "kernel": stage.kernel,
                "stride": stage.stride if repeat == 0 else 1,
                "expansion": stage.expansion,
                "filters": _round_filters(stage.filters * scaling.width),
            }


def _round_filters(filters: float) -> int:
    # Source: `round_filters` in efficientnet_model.py: to a multiple of 8, never down by over 10 %.
    rounded = max(8, int(filters + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * filters else rounded


def _convolution(x: Any, filters: int, kernel: int, stride: int, name: str) -> Any:
    x = layers.Conv2D(filters, kernel, stride, padding="same", use_bias=False, name=f"{name}conv")(
        x
    )
    x = layers.BatchNormalization(epsilon=1e-3, name=f"{name}bn")(x)
    return layers.ReLU(6.0, name=f"{name}activation")(x)


def _inverted_residual(
    x: Any, *, name: str, kernel: int, stride: int, expansion: int, filters: int
) -> Any:
    inputs, channels = x, x.shape[-1]
    if expansion > 1:
        x = _convolution(x, channels * expansion, 1, 1, f"{name}expand_")
    x = layers.DepthwiseConv2D(
        kernel, stride, padding="same", use_bias=False, name=f"{name}dwconv"
    )(x)
    x = layers.BatchNormalization(epsilon=1e-3, name=f"{name}bn")(x)
    x = layers.ReLU(6.0, name=f"{name}activation")(x)
    x = layers.Conv2D(filters, 1, use_bias=False, name=f"{name}project_conv")(x)
    x = layers.BatchNormalization(epsilon=1e-3, name=f"{name}project_bn")(x)
    if stride == 1 and channels == filters:
        x = layers.Add(name=f"{name}add")([x, inputs])
    return x
