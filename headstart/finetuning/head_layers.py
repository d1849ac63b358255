"""A trained head as Keras layers, from bottleneck features to logits."""

from typing import Any

import numpy as np

from headstart.common.errors import InputError
from headstart.common.tensorflow_runtime import keras
from headstart.heads.base import Head
from headstart.heads.linear_path import LinearHead
from headstart.heads.network import NetworkHead

_LOGITS = "logits"
"""Name of the layer that gives the logits, here and in the heads that Keras trains."""


def head_layers(head: Head, *, keep_weights: bool = True) -> keras.Model:
    """Turn a head into a Keras model whose softmax gives the head's own probabilities.

    The temperature of the head's calibration is folded into its last layer.

    Args:
        head: Fitted.
        keep_weights: Whether to carry its weights over, or to draw new ones.

    Returns:
        (batch, *feature_shape) float32 to logits (batch, n_classes).

    Raises:
        InputError: the kind of head is no layer, such as nearest neighbors.
    """
    card = head.card
    if isinstance(head, NetworkHead):
        network = head.build(card.feature_shape, len(card.class_names))
        if keep_weights:
            network.set_weights(head.network.get_weights())
            _divide(network.get_layer(_LOGITS), card.temperature)
        return network
    if isinstance(head, LinearHead):
        network = linear_layers(card.feature_shape, len(card.class_names))
        if keep_weights:
            network.get_layer(_LOGITS).set_weights(head.as_linear())
            _divide(network.get_layer(_LOGITS), card.temperature)
        return network
    raise InputError(
        f"finetune.head: a {head.kind} head has no equivalent layer to fine-tune; name a head of "
        "kind dense, gap, linear_svc, logistic or ridge"
    )


def linear_layers(feature_shape: tuple[int, ...], n_classes: int) -> keras.Model:
    """Return one dense layer; maps are averaged first, as linear heads see them."""
    inputs = keras.Input(feature_shape, name="features")
    x = inputs
    if len(feature_shape) > 1:
        x = keras.layers.GlobalAveragePooling2D(name="average")(x)
    return keras.Model(inputs, keras.layers.Dense(n_classes, name=_LOGITS)(x), name="linear")


def _divide(layer: Any, temperature: float) -> None:
    layer.set_weights([np.asarray(weight) / np.float32(temperature) for weight in layer.weights])
