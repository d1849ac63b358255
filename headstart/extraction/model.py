"""From a bottleneck to the Keras model that computes it."""

from collections.abc import Callable
from typing import Any

from headstart.catalog import building, cuts
from headstart.common.tensorflow_runtime import keras
from headstart.common.vocabulary import Pooling
from headstart.extraction.bottleneck import Bottleneck


def backbone_of(bottleneck: Bottleneck) -> keras.Model:
    """Build the backbone with its weights, uncut.

    Raises:
        InputError: the weights do not fit.
    """
    return building.build(bottleneck.spec, bottleneck.image_size, bottleneck.weights)


def assemble(
    bottleneck: Bottleneck,
    *,
    backbone: keras.Model | None = None,
    rewrite: Callable[[keras.Model], keras.Model] = lambda network: network,
) -> keras.Model:
    """Build backbone, cuts, preprocessing and pooling as one model.

    Args:
        bottleneck: What to compute.
        backbone: Its backbone, if it is built already.
        rewrite: Applied to the network from preprocessed images to the uncut maps; it may return
            another that computes the same.

    Returns:
        A functional model from RGB in [0, 255], (batch, height, width, 3) uint8, to one float32
        array per tap: (batch, channels), or (batch, h, w, channels) unpooled.

    Raises:
        InputError: the weights do not fit, or a tap's layer is no cut of the backbone.
    """
    network = backbone or backbone_of(bottleneck)
    for tap in bottleneck.taps:
        cuts.get_cut(network, tap.layer)
    maps = [cuts.tensor_at(network, tap.layer) for tap in bottleneck.taps]
    network = rewrite(keras.Model(network.inputs, maps))

    images = keras.Input((*bottleneck.image_size, 3), dtype="uint8")
    pixels = keras.ops.cast(images, "float32")
    pixels = building.preprocess(pixels, bottleneck.spec.preprocessing)
    outputs = [
        # Averaging is done in full precision, whatever the network computes in.
        _pool(keras.ops.cast(features, "float32"), tap.pooling)
        for features, tap in zip(keras.tree.flatten(network(pixels)), bottleneck.taps, strict=True)
    ]
    return keras.Model(images, outputs)


def outputs_of(model: keras.Model, images: Any) -> tuple[Any, ...]:
    """Call an assembled model for inference; return one tensor per tap, also when that is one."""
    return tuple(keras.tree.flatten(model(images, training=False)))


def _pool(features: Any, pooling: Pooling) -> Any:
    # A layer that gives a vector has nothing to pool.
    if pooling == "none" or len(features.shape) == 2:
        return features
    if pooling == "avg":
        return keras.ops.mean(features, axis=(1, 2))
    return keras.ops.max(features, axis=(1, 2))
