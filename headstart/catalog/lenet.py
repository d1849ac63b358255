"""LeNet-5.

Source: LeCun, Bottou, Bengio and Haffner, "Gradient-Based Learning Applied to Document
Recognition" (1998), section II.B. As in today's teaching, C3 sees all maps of S2, subsampling has
no weights, and the output is a softmax rather than radial basis functions: 61,706 parameters for
10 classes at 32 x 32.
"""

from typing import Any

from headstart.common.tensorflow_runtime import keras

layers = keras.layers


def build(input_shape: tuple[int, int, int], include_top: bool, classes: int) -> keras.Model:
    """Build LeNet-5.

    Args:
        input_shape: (height, width, channels) of the preprocessed image, at least 32 x 32.
        include_top: Whether to add F6 and the classifier.
        classes: Number of outputs of the classifier.

    Returns:
        The maps of C5 (batch, h, w, 120), 1 x 1 at 32 x 32, or probabilities (batch, classes).
    """
    inputs = keras.Input(input_shape)
    x: Any = inputs
    x = layers.Conv2D(6, 5, activation="tanh", name="c1")(x)
    x = layers.AveragePooling2D(2, name="s2")(x)
    x = layers.Conv2D(16, 5, activation="tanh", name="c3")(x)
    x = layers.AveragePooling2D(2, name="s4")(x)
    x = layers.Conv2D(120, 5, activation="tanh", name="c5")(x)
    if include_top:
        x = layers.Flatten(name="flatten")(x)
        x = layers.Dense(84, activation="tanh", name="f6")(x)
        x = layers.Dense(classes, activation="softmax", name="predictions")(x)
    return keras.Model(inputs, x, name="lenet5")
