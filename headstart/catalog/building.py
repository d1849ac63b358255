"""From a catalog entry to a Keras model with its weights."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from headstart.catalog import alexnet, efficientnet_lite, googlenet, lenet, loading, unet
from headstart.catalog.hub import loading as hub_loading
from headstart.catalog.hub import networks
from headstart.catalog.naming import rename_as_in_a_fresh_session
from headstart.catalog.spec import BackboneSpec, Preprocessing
from headstart.catalog.weights import WeightsIdentity
from headstart.common.tensorflow_runtime import keras


def build(
    spec: BackboneSpec,
    image_size: tuple[int, int],
    weights: WeightsIdentity,
    *,
    include_top: bool = False,
) -> keras.Model:
    """Build a backbone and give it its weights.

    Args:
        spec: The catalog entry.
        image_size: (height, width) in pixels, as `spec.image_size` permits.
        weights: What `headstart.catalog.weights.resolve` found.
        include_top: Whether to end in the ImageNet classifier. Keras' downloads come without one.

    Returns:
        A functional model from preprocessed images (batch, height, width, spec.channels) float32 to
        the last feature map (batch, h, w, spec.feature_dim), to tokens (batch, tokens,
        spec.feature_dim), to a vector, or to the probabilities (batch, 1000). Nothing is pooled.
        Layers are named as in a fresh Keras session, whatever was built before in this one.

    Raises:
        InputError: the weights do not fit; the message names the layers.
    """
    seed = 0 if weights.seed is None else weights.seed
    if weights.kind == "folder" and weights.path is not None:
        with _initializers_seeded(seed):
            return hub_loading.build(spec, spec.image_size(image_size), weights.path)
    model = build_architecture(spec, image_size, seed=seed, include_top=include_top)
    if weights.path is not None:
        loading.load(model, spec, weights)
    return model


def build_architecture(
    spec: BackboneSpec,
    image_size: tuple[int, int],
    *,
    seed: int,
    include_top: bool = False,
    classes: int = 1000,
) -> keras.Model:
    """Build a backbone with random weights.

    Args:
        spec: The catalog entry.
        image_size: (height, width) in pixels.
        seed: Decides the weights; the same seed gives the same numbers in any process.
        include_top: Whether to end in a classifier; KerasHub's networks have none.
        classes: Number of outputs of that classifier.
    """
    input_shape = (*spec.image_size(image_size), spec.channels)
    with _initializers_seeded(seed):
        if spec.network is not None:
            size = input_shape[:2]
            return networks.chain(spec, size, networks.hub_model(spec, size))
        model = _build_network(spec.name, input_shape, include_top, classes)
    rename_as_in_a_fresh_session(model)
    return model


def _build_network(
    name: str, input_shape: tuple[int, int, int], include_top: bool, classes: int
) -> keras.Model:
    match name:
        case "AlexNet":
            return alexnet.build(input_shape, include_top, classes)
        case "GoogLeNet":
            return googlenet.build(input_shape, include_top, classes)
        case "LeNet5":
            return lenet.build(input_shape, include_top, classes)
        case "UNet":
            return unet.build(input_shape, include_top, classes)
        case "EfficientNetLite0" | "EfficientNetLite1" | "EfficientNetLite2":
            scaling = efficientnet_lite.SCALINGS[name]
            return efficientnet_lite.build(scaling, input_shape, include_top, classes)
    # Keras' own; by default they would download weights.
    builder = getattr(keras.applications, name)
    return builder(weights=None, input_shape=input_shape, include_top=include_top, classes=classes)


def preprocess(images: Any, rule: Preprocessing) -> Any:
    """Apply a preprocessing rule in a Keras graph.

    Args:
        images: (batch, height, width, 3) float32 (symbolic) tensor, RGB in [0, 255].
        rule: The preprocessing of the backbone that follows.

    Returns:
        (batch, height, width, rule.channels) float32.
    """
    matrix, offset = rule.affine()
    if rule.channel_order == "grey":
        return keras.ops.matmul(images, matrix) + offset
    if rule.channel_order == "bgr":
        images = keras.ops.flip(images, axis=-1)
        matrix = matrix[::-1]
    return images * matrix.diagonal() + offset


@contextmanager
def _initializers_seeded(seed: int) -> Iterator[None]:
    # An initializer without a seed takes one from Python's generator when it is made. Seeding
    # that generator alone, and restoring it, decides all weights and disturbs nobody else.
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
