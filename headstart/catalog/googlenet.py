"""GoogLeNet, the first Inception network.

Source: Szegedy et al., "Going Deeper with Convolutions" (2015), table 1 and section 5. The two
auxiliary classifiers, which only served training, are left out; weights are initialized as in He et
al. 2015.
"""

from typing import Any, NamedTuple

from headstart.catalog.response_normalization import normalize_responses
from headstart.common.tensorflow_runtime import keras

layers = keras.layers


class _Inception(NamedTuple):
    """Filters of one module, in the columns of the paper's table 1."""

    name: str
    single: int
    reduce3: int
    conv3: int
    reduce5: int
    conv5: int
    pool: int


_STAGES = (
    (
        _Inception("inception_3a", 64, 96, 128, 16, 32, 32),
        _Inception("inception_3b", 128, 128, 192, 32, 96, 64),
    ),
    (
        _Inception("inception_4a", 192, 96, 208, 16, 48, 64),
        _Inception("inception_4b", 160, 112, 224, 24, 64, 64),
        _Inception("inception_4c", 128, 128, 256, 24, 64, 64),
        _Inception("inception_4d", 112, 144, 288, 32, 64, 64),
        _Inception("inception_4e", 256, 160, 320, 32, 128, 128),
    ),
    (
        _Inception("inception_5a", 256, 160, 320, 32, 128, 128),
        _Inception("inception_5b", 384, 192, 384, 48, 128, 128),
    ),
)


def build(input_shape: tuple[int, int, int], include_top: bool, classes: int) -> keras.Model:
    """Build GoogLeNet.

    Args:
        input_shape: (height, width, channels) of the preprocessed image.
        include_top: Whether to add pooling, dropout and the main classifier.
        classes: Number of outputs of the classifier.

    Returns:
        The last module's maps (batch, height / 32, width / 32, 1024), or probabilities
        (batch, classes).
    """
    inputs = keras.Input(input_shape)
    x = _convolution(inputs, 64, 7, "conv1", strides=2)
    x = normalize_responses(_pool(x, "pool1"), "norm1")
    x = _convolution(x, 64, 1, "conv2_reduce")
    x = normalize_responses(_convolution(x, 192, 3, "conv2"), "norm2")
    for number, stage in enumerate(_STAGES, start=2):
        x = _pool(x, f"pool{number}")
        for module in stage:
            x = _inception(x, module)
    if include_top:
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        x = layers.Dropout(0.4, name="dropout")(x)
        x = layers.Dense(classes, activation="softmax", name="predictions")(x)
    return keras.Model(inputs, x, name="googlenet")


def _inception(x: Any, module: _Inception) -> Any:
    name = module.name
    conv3 = _convolution(x, module.reduce3, 1, f"{name}_3x3_reduce")
    conv5 = _convolution(x, module.reduce5, 1, f"{name}_5x5_reduce")
    pool = layers.MaxPooling2D(3, 1, padding="same", name=f"{name}_pool")(x)
    branches = [
        _convolution(x, module.single, 1, f"{name}_1x1"),
        _convolution(conv3, module.conv3, 3, f"{name}_3x3"),
        _convolution(conv5, module.conv5, 5, f"{name}_5x5"),
        _convolution(pool, module.pool, 1, f"{name}_pool_proj"),
    ]
    return layers.Concatenate(name=name)(branches)


def _pool(x: Any, name: str) -> Any:
    return layers.MaxPooling2D(3, 2, padding="same", name=name)(x)


def _convolution(x: Any, filters: int, kernel: int, name: str, strides: int = 1) -> Any:
    return layers.Conv2D(
        filters,
        kernel,
        strides,
        padding="same",
        activation="relu",
        kernel_initializer="he_normal",
        name=name,
    )(x)
