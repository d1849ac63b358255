"""What is put on a backbone to train it: a classifier, or a decoder back to the image.

What is put on starts from Keras' global seed, which the caller sets.
"""

from typing import Any

from headstart.catalog import unet
from headstart.catalog.building import build_architecture, preprocess
from headstart.catalog.spec import BackboneSpec
from headstart.common.tensorflow_runtime import keras

layers = keras.layers

_MOST_FILTERS, _LEAST_FILTERS = 256, 16


def classifier(
    spec: BackboneSpec, image_size: tuple[int, int], n_classes: int, seed: int
) -> tuple[keras.Model, keras.Model]:
    """Build a backbone with pooling and a linear classifier.

    Args:
        spec: The backbone.
        image_size: (height, width) in pixels.
        n_classes: Number of classes.
        seed: Of the backbone's weights.

    Returns:
        The backbone, and a model that shares it, from RGB in [0, 255] (batch, height, width, 3)
        uint8 to logits (batch, n_classes).
    """
    backbone = build_architecture(spec, image_size, seed=seed)
    # The features that transfer are pooled averages, so these are what is trained.
    x = layers.GlobalAveragePooling2D(name="pooling")(backbone.output)
    x = layers.Dense(n_classes, name="logits")(x)
    return backbone, _on_images(spec, image_size, keras.Model(backbone.input, x))


def autoencoder(
    spec: BackboneSpec, image_size: tuple[int, int], seed: int
) -> tuple[keras.Model, keras.Model]:
    """Build a backbone with a decoder: U-Net's own, or a small one.

    Args:
        spec: The backbone.
        image_size: (height, width) in pixels.
        seed: Of the backbone's weights.

    Returns:
        The backbone, and a model that shares it, from RGB in [0, 255] (batch, height, width, 3)
        uint8 to values in [0, 1] (batch, height, width, spec.channels): RGB, or gray.
    """
    backbone = build_architecture(spec, image_size, seed=seed)
    x = unet.expand(backbone) if spec.family == "UNet" else _decode(backbone.output, image_size)
    x = layers.Conv2D(spec.channels, 3, padding="same", activation="sigmoid", name="image")(x)
    return backbone, _on_images(spec, image_size, keras.Model(backbone.input, x))


def _decode(x: Any, image_size: tuple[int, int]) -> Any:
    filters = min(x.shape[-1], _MOST_FILTERS)
    step = 0
    while min(x.shape[1] / image_size[0], x.shape[2] / image_size[1]) <= 0.5:
        step += 1
        x = layers.Conv2DTranspose(
            filters,
            3,
            2,
            padding="same",
            activation="relu",
            kernel_initializer="he_normal",
            name=f"decoder_{step}",
        )(x)
        filters = max(filters // 2, _LEAST_FILTERS)
    return layers.Resizing(*image_size, name="decoder_resizing")(x)


def _on_images(
    spec: BackboneSpec, image_size: tuple[int, int], network: keras.Model
) -> keras.Model:
    images = keras.Input((*image_size, 3), dtype="uint8", name="images")
    pixels = keras.ops.cast(images, "float32")
    return keras.Model(images, network(preprocess(pixels, spec.preprocessing)))
