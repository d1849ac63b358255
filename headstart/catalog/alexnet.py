"""AlexNet.

Source: Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep Convolutional Neural
Networks" (2012), section 3. The halves of the two GPUs are convolutions in two groups. Weights are
initialized as in He et al. 2015, since a Gaussian of 0.01 hardly learns without the paper's 90
epochs.
"""

from typing import Any

from headstart.catalog.response_normalization import normalize_responses
from headstart.common.tensorflow_runtime import keras

layers = keras.layers


def build(input_shape: tuple[int, int, int], include_top: bool, classes: int) -> keras.Model:
    """Build AlexNet.

    Args:
        input_shape: (height, width, channels) of the preprocessed image, at least 67 x 67.
        include_top: Whether to add the fully connected layers and the classifier.
        classes: Number of outputs of the classifier.

    Returns:
        The maps after the last pooling (batch, h, w, 256), 6 x 6 at 227 x 227, or probabilities
        (batch, classes).
    """
    inputs = keras.Input(input_shape)
    x: Any = inputs
    x = _convolution(x, 96, 11, "conv1", strides=4, padding="valid")
    x = normalize_responses(x, "norm1")
    x = layers.MaxPooling2D(3, 2, name="pool1")(x)
    x = _convolution(x, 256, 5, "conv2", groups=2)
    x = normalize_responses(x, "norm2")
    x = layers.MaxPooling2D(3, 2, name="pool2")(x)
    x = _convolution(x, 384, 3, "conv3")
    x = _convolution(x, 384, 3, "conv4", groups=2)
    x = _convolution(x, 256, 3, "conv5", groups=2)
    x = layers.MaxPooling2D(3, 2, name="pool5")(x)
    if include_top:
        x = layers.Flatten(name="flatten")(x)
        for name in ("fc6", "fc7"):
            x = layers.Dense(4096, activation="relu", kernel_initializer="he_normal", name=name)(x)
            x = layers.Dropout(0.5, name=f"{name}_dropout")(x)
        x = layers.Dense(classes, activation="softmax", name="predictions")(x)
    return keras.Model(inputs, x, name="alexnet")


def _convolution(
    x: Any,
    filters: int,
    kernel: int,
    name: str,
    *,
    strides: int = 1,
    padding: str = "same",
    groups: int = 1,
) -> Any:
    return layers.Conv2D(
        filters,
        kernel,
        strides,
        padding=padding,
        groups=groups,
        activation="relu",
        kernel_initializer="he_normal",
        name=name,
    )(x)
