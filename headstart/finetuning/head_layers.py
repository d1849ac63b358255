"""A trained head as Keras layers, from bottleneck features to logits."""

from typing import Any

import numpy as np

from headstart.common.errors import InputError
from headstart.common.tensorflow_runtime import keras
from headstart.heads.base import Head
from headstart.heads.dense import DenseHead
from headstart.heads.gap import GapHead
from headstart.heads.linear_path import LinearHead
from headstart.heads.network import LOGITS, NetworkHead
from headstart.heads.options import DenseOptions, GapPooling
from headstart.heads.zero_shot import ZeroShotHead


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
    if not isinstance(head, NetworkHead | LinearHead | ZeroShotHead):
        raise InputError(
            f"finetune.head: a {head.kind} head has no equivalent layer to fine-tune; name a head "
            "of kind dense, gap, linear_svc, logistic, ridge or zero_shot"
        )
    card = head.card
    model = empty_layers(head, card.feature_shape, len(card.class_names))
    if keep_weights:
        model.set_weights(_weights(head))
        last = model.get_layer(LOGITS)
        last.set_weights([np.asarray(one) / np.float32(card.temperature) for one in last.weights])
    return model


def _weights(head: NetworkHead | LinearHead | ZeroShotHead) -> list[Any]:
    """Return a head's weights in the order of its layers'."""
    if isinstance(head, NetworkHead):
        return list(head.arrays.values())
    if isinstance(head, LinearHead):
        return list(head.as_linear())
    texts = head.as_prototypes()
    return [texts.prototypes, texts.bias]


def empty_layers(head: Head, feature_shape: tuple[int, ...], n_classes: int) -> keras.Model:
    """Return the layers of such a head, with new weights, which lie in the order of its own."""
    if isinstance(head, DenseHead):
        return _dense_layers(head.options, feature_shape, n_classes)
    if isinstance(head, ZeroShotHead):
        return _cosine_layers(feature_shape, n_classes)
    pooling = head.options.pooling if isinstance(head, GapHead) else "avg"
    decay = head.options.l2 if isinstance(head, GapHead) else 0.0
    return pooled_layers(feature_shape, n_classes, pooling, decay)


def _dense_layers(
    options: DenseOptions, feature_shape: tuple[int, ...], n_classes: int
) -> keras.Model:
    decay = keras.regularizers.L2(options.l2) if options.l2 else None
    inputs = keras.Input(feature_shape, name="features")
    x = keras.layers.Flatten(name="flatten")(inputs) if len(feature_shape) > 1 else inputs
    for index, units in enumerate(options.units):
        x = keras.layers.Dense(
            units,
            use_bias=not options.batch_normalization,
            kernel_regularizer=decay,
            name=f"hidden_{index}",
        )(x)
        if options.batch_normalization:
            x = keras.layers.BatchNormalization(name=f"normalization_{index}")(x)
        x = keras.layers.Activation(options.activation, name=f"activation_{index}")(x)
        if options.dropout:
            x = keras.layers.Dropout(options.dropout, name=f"dropout_{index}")(x)
    logits = keras.layers.Dense(n_classes, kernel_regularizer=decay, name=LOGITS)(x)
    return keras.Model(inputs, logits, name="dense")


def _cosine_layers(feature_shape: tuple[int, ...], n_classes: int) -> keras.Model:
    inputs = keras.Input(feature_shape, name="features")
    x = keras.layers.UnitNormalization(name="direction")(inputs)
    return keras.Model(inputs, keras.layers.Dense(n_classes, name=LOGITS)(x), name="zero_shot")


def pooled_layers(
    feature_shape: tuple[int, ...],
    n_classes: int,
    pooling: GapPooling = "avg",
    decay: float = 0.0,
) -> keras.Model:
    """Return one dense layer; maps are pooled over their positions first."""
    inputs: Any = keras.Input(feature_shape, name="features")
    x = inputs
    if len(feature_shape) > 1:
        average = keras.layers.GlobalAveragePooling2D(name="average")
        maximum = keras.layers.GlobalMaxPooling2D(name="maximum")
        match pooling:
            case "avg":
                x = average(inputs)
            case "max":
                x = maximum(inputs)
            case "both":
                x = keras.layers.Concatenate(name="both")([average(inputs), maximum(inputs)])
    regularizer = keras.regularizers.L2(decay) if decay else None
    logits = keras.layers.Dense(n_classes, kernel_regularizer=regularizer, name=LOGITS)(x)
    return keras.Model(inputs, logits, name="linear")
