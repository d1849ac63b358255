"""U-Net: its contracting path is the backbone, its expanding path reconstructs images.

Source: Ronneberger, Fischer and Brox, "U-Net: Convolutional Networks for Biomedical Image
Segmentation" (2015), figure 1 and section 3. Convolutions are padded, so that the output has the
input's size; weights are initialized as the paper says, after He et al. 2015.
"""

from typing import Any

from headstart.common.tensorflow_runtime import keras

layers = keras.layers

_FILTERS = (64, 128, 256, 512, 1024)


def build(input_shape: tuple[int, int, int], include_top: bool, classes: int) -> keras.Model:
    """Build U-Net's contracting path, or the whole network.

    Args:
        input_shape: (height, width, channels); height and width are multiples of 16, so that all
            poolings see even sizes, as the paper asks.
        include_top: Whether to add the expanding path and the classifier of pixels.
        classes: Number of outputs per pixel.

    Returns:
        The lowest maps (batch, height / 16, width / 16, 1024), or probabilities
        (batch, height, width, classes).
    """
    inputs = keras.Input(input_shape)
    x: Any = inputs
    for level, filters in enumerate(_FILTERS, start=1):
        if level > 1:
            x = layers.MaxPooling2D(2, name=f"encoder{level - 1}_pool")(x)
        x = _two_convolutions(x, filters, f"encoder{level}")
    encoder = keras.Model(inputs, x, name="unet_encoder")
    if not include_top:
        return encoder
    x = layers.Conv2D(classes, 1, activation="softmax", name="predictions")(expand(encoder))
    return keras.Model(inputs, x, name="unet")


def expand(encoder: keras.Model) -> Any:
    """Add the expanding path to the contracting one, sharing its layers.

    Args:
        encoder: What `build` returns without top.

    Returns:
        Symbolic tensor (batch, height, width, 64) on `encoder.input`.
    """
    # The paper applies dropout at the end of the contracting path. Since it matters in training
    # only, it stands here, where no features are taken.
    x = layers.Dropout(0.5, name="dropout")(encoder.output)
    for level, filters in reversed(list(enumerate(_FILTERS[:-1], start=1))):
        x = layers.Conv2DTranspose(
            filters, 2, 2, kernel_initializer="he_normal", name=f"decoder{level}_up"
        )(x)
        skipped = encoder.get_layer(f"encoder{level}_conv2").output
        x = layers.Concatenate(name=f"decoder{level}_concat")([skipped, x])
        x = _two_convolutions(x, filters, f"decoder{level}")
    return x


def _two_convolutions(x: Any, filters: int, name: str) -> Any:
    for number in (1, 2):
        x = layers.Conv2D(
            filters,
            3,
            padding="same",
            activation="relu",
            kernel_initializer="he_normal",
            name=f"{name}_conv{number}",
        )(x)
    return x
