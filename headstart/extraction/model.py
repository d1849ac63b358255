"""From a bottleneck to the Keras model that computes it."""

from collections.abc import Callable
from typing import Any

from headstart.catalog import building
from headstart.catalog.readout import Readout
from headstart.common.tensorflow_runtime import keras
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
        array per tap: (batch, channels), or (batch, h, w, channels) unpooled; see `Readout`.

    Raises:
        InputError: the weights do not fit, or a tap's layer is no cut of the backbone.
    """
    network = backbone or backbone_of(bottleneck)
    spec, size = bottleneck.spec, bottleneck.image_size
    readouts = [Readout.of(spec, tap.pooling, size) for tap in bottleneck.taps]
    activations = [
        readout.tensor(network, tap.layer)
        for readout, tap in zip(readouts, bottleneck.taps, strict=True)
    ]
    network = rewrite(keras.Model(network.inputs, activations))

    images = keras.Input((*bottleneck.image_size, 3), dtype="uint8")
    pixels = keras.ops.cast(images, "float32")
    pixels = building.preprocess(pixels, bottleneck.spec.preprocessing)
    outputs = [
        readout.pool(activation)
        for readout, activation in zip(readouts, keras.tree.flatten(network(pixels)), strict=True)
    ]
    return keras.Model(images, outputs)


def outputs_of(model: keras.Model, images: Any) -> tuple[Any, ...]:
    """Call an assembled model for inference; return one tensor per tap, also when that is one."""
    return tuple(keras.tree.flatten(model(images, training=False)))
