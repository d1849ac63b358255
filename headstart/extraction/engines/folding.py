"""Folding BatchNormalization into the convolutions before it, for inference."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.common.tensorflow_runtime import keras

layers = keras.layers

# Reshapes one factor per output channel to multiply the layer's last kernel.
_PLACE_FACTOR: dict[type, Callable[[NDArray[Any], tuple[int, ...]], NDArray[Any]]] = {
    layers.Conv2D: lambda factor, shape: factor,
    layers.Dense: lambda factor, shape: factor,
    layers.SeparableConv2D: lambda factor, shape: factor,
    layers.DepthwiseConv2D: lambda factor, shape: factor.reshape(shape[-2:]),
    layers.Conv2DTranspose: lambda factor, shape: factor[:, np.newaxis],
}


def fold_batch_normalization(model: keras.Model) -> keras.Model:
    """Return a model that computes the same in inference, with fewer operations.

    In inference BatchNormalization multiplies each channel by a constant and adds another. Where
    it alone follows a linear layer, both go into that layer's kernel and bias. The result is exact
    up to rounding. Other BatchNormalizations stay.

    Args:
        model: A functional model. It stays as it is; layers that do not change are shared.

    Source: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
        Integer-Arithmetic-Only Inference", section 3.2.
    """
    replacements: dict[int, Any] = {}
    for node, normalization in _foldable_pairs(model):
        replacements[id(node.operation)] = _folded(node, normalization)
        replacements[id(normalization)] = None
    return keras.models.clone_model(
        model,
        clone_function=lambda layer: replacements.get(id(layer), layer),
        call_function=_call,
    )


def _call(layer: Any, inputs: Any, *arguments: Any, **options: Any) -> Any:
    return inputs if layer is None else layer(inputs, *arguments, **options)


def _foldable_pairs(model: keras.Model) -> list[tuple[Any, Any]]:
    """Return the nodes of linear layers, each with the BatchNormalization that follows it."""
    # The only record of a functional model's graph: one node per call of a layer.
    nodes = [node for level in model._nodes_by_depth.values() for node in level]
    calls = Counter(id(node.operation) for node in nodes)
    uses = Counter(id(tensor) for tensor in model.outputs)
    uses.update(id(tensor) for node in nodes for tensor in node.arguments.keras_tensors)
    made_by = {id(tensor): node for node in nodes for tensor in node.outputs}
    pairs = []
    for node in nodes:
        normalization = node.operation
        if type(normalization) is not layers.BatchNormalization:
            continue
        (tensor,) = node.arguments.keras_tensors
        linear = made_by[id(tensor)].operation
        if (
            type(linear) in _PLACE_FACTOR
            and linear.activation is keras.activations.linear
            and normalization.axis in (-1, len(tensor.shape) - 1)
            and uses[id(tensor)] == 1
            and calls[id(linear)] == calls[id(normalization)] == 1
        ):
            pairs.append((made_by[id(tensor)], normalization))
    return pairs


def _folded(node: Any, normalization: Any) -> Any:
    linear = node.operation
    variance = np.asarray(normalization.moving_variance, np.float64)
    factor = 1 / np.sqrt(variance + normalization.epsilon)
    if normalization.scale:
        factor = factor * np.asarray(normalization.gamma, np.float64)
    offset = -np.asarray(normalization.moving_mean, np.float64) * factor
    if normalization.center:
        offset = offset + np.asarray(normalization.beta, np.float64)

    weights = [np.asarray(weight) for weight in linear.get_weights()]
    kernels, bias = (weights[:-1], weights[-1]) if linear.use_bias else (weights, 0.0)
    last = kernels[-1]
    kernels[-1] = last * _PLACE_FACTOR[type(linear)](factor, last.shape)

    replacement = type(linear).from_config({**linear.get_config(), "use_bias": True})
    replacement.build(node.arguments.keras_tensors[0].shape)
    replacement.set_weights([*kernels, bias * factor + offset])
    return replacement
