"""From a catalogue entry to a Keras model with its weights."""

import importlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from headstart.backbones import loading
from headstart.backbones.naming import rename_as_in_a_fresh_session
from headstart.backbones.spec import BackboneSpec, Preprocessing
from headstart.backbones.weights import WeightsIdentity
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
        spec: The catalogue entry.
        image_size: (height, width) in pixels, as `spec.image_size` permits.
        weights: What `headstart.backbones.weights.resolve` found.
        include_top: Whether to end in the ImageNet classifier. Keras' downloads come without one.

    Returns:
        A functional model from preprocessed images (batch, height, width, spec.channels) float32
        to the last feature map (batch, h, w, spec.feature_dim), or to the probabilities
        (batch, 1000). Nothing is pooled. Layer names are those of a fresh Keras session, whatever
        was built before in this one.

    Raises:
        InputError: the weights do not fit; the message names the layers.
    """
    model = build_architecture(
        spec, image_size, seed=0 if weights.seed is None else weights.seed, include_top=include_top
    )
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
        spec: The catalogue entry.
        image_size: (height, width) in pixels.
        seed: Of the weights; the same seed gives the same numbers in any process.
        include_top: Whether to end in a classifier.
        classes: Its number of outputs.
    """
    module, function = spec.builder.split(":")
    builder = getattr(importlib.import_module(module), function)
    height, width = spec.image_size(image_size)
    with _initializers_seeded(seed):
        model: keras.Model = builder(
            input_shape=(height, width, spec.channels),
            include_top=include_top,
            classes=classes,
            **dict(spec.builder_options),
        )
    rename_as_in_a_fresh_session(model)
    return model


def preprocess(images: Any, rule: Preprocessing) -> Any:
    """Apply a preprocessing rule in a Keras graph.

    Args:
        images: (batch, height, width, 3) float32 (symbolic) tensor, RGB in [0, 255].
        rule: Of the backbone that follows.

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
    # An initializer without a seed takes one from Python's generator when it is made; seeding
    # that alone, and putting it back, decides all weights and touches nobody else's randomness.
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
