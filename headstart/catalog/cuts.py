"""Where a backbone can be cut, found from its graph.

A cut is a tensor that every path from input to output crosses, so that what lies above it needs
nothing else from below.
"""

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from headstart.catalog.hub.block import Block
from headstart.common.errors import InputError
from headstart.common.tensorflow_runtime import keras

_LISTED = 5
"""How many near cuts an error names."""

_MISSPELLED = 0.75
"""From which likeness on a name is a word with a slip."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A place to cut at, and what the cut divides.

    Attributes:
        name: Name of the layer whose output it is.
        shape: Of one image's activation there: (height, width, channels), or (tokens, channels).
        parameters_below: Number of parameters of the layers up to the cut.
        parameters_above: Number of those after it.
        multiply_adds_below: Multiply-adds per image up to the cut.
        multiply_adds_above: Multiply-adds per image after it.
        merges: Whether branches end here by addition or concatenation, as at the end of a
            residual or inception block.
    """

    name: str
    shape: tuple[int, ...]
    parameters_below: int
    parameters_above: int
    multiply_adds_below: int
    multiply_adds_above: int
    merges: bool


def find_cuts(model: keras.Model) -> tuple[Cut, ...]:
    """Return all cuts from the input's side to the output, which is the last of them.

    Args:
        model: A functional model with one input and one output.
    """
    nodes = _nodes(model)
    position = {id(tensor): index for index, node in enumerate(nodes) for tensor in node.outputs}
    # In a topological order, a tensor is crossed by every path when no edge jumps over it.
    reach = [0] * len(nodes)
    for index, node in enumerate(nodes):
        for tensor in node.arguments.keras_tensors:
            reach[position[id(tensor)]] = index
    # A layer that is called twice has its weights once.
    counted: set[int] = set()
    parameters = []
    for node in nodes:
        new = _is_layer(node) and id(node.operation) not in counted
        parameters.append(node.operation.count_params() if new else 0)
        counted.add(id(node.operation))
    multiply_adds_of = [_multiply_adds(node) for node in nodes]
    all_parameters, all_multiply_adds = sum(parameters), sum(multiply_adds_of)

    cuts = []
    farthest = below_parameters = below_multiply_adds = 0
    for index, node in enumerate(nodes):
        below_parameters += parameters[index]
        below_multiply_adds += multiply_adds_of[index]
        if index and farthest <= index:
            cuts.append(
                Cut(
                    name=node.operation.name,
                    shape=tuple(node.outputs[0].shape[1:]),
                    parameters_below=below_parameters,
                    parameters_above=all_parameters - below_parameters,
                    multiply_adds_below=below_multiply_adds,
                    multiply_adds_above=all_multiply_adds - below_multiply_adds,
                    merges=_merges(node),
                )
            )
        farthest = max(farthest, reach[index])
    return tuple(cuts)


def get_cut(
    model: keras.Model, name: str, key: str = "layer", words: Sequence[str] = ("auto",)
) -> Cut:
    """Return the cut of that name; "auto" is the last.

    Args:
        model: A functional model.
        name: Of the cut.
        key: Where in params.yaml the name stands.
        words: What else may stand there, for those who have misspelled it.

    Raises:
        InputError: no cut has that name; the message gives the nearest ones.
    """
    cuts = find_cuts(model)
    if name == "auto":
        return cuts[-1]
    by_name = {cut.name: cut for cut in cuts}
    if name in by_name:
        return by_name[name]
    raise InputError(
        f"{key}: {_why_not(model, name)}; {_hint(model, name, list(by_name), words)} (headstart "
        f"backbones NAME --cuts lists all {len(cuts)})"
    )


def tensor_at(model: keras.Model, name: str) -> Any:
    """Return the symbolic output of the operation of that name.

    Args:
        model: A functional model.
        name: Of a cut that `find_cuts` found.
    """
    return next(node.outputs[0] for node in _nodes(model) if node.operation.name == name)


def multiply_adds(model: keras.Model) -> int:
    """Return the multiply-adds of one image's pass through convolutions and dense layers.

    Normalization, activations, pooling and element-wise arithmetic are not counted, as is common;
    of attention, the products of queries, keys and values are.
    """
    return sum(_multiply_adds(node) for node in _nodes(model))


def _why_not(model: keras.Model, name: str) -> str:
    if any(operation.name == name for operation in model.operations):
        return f"{name!r} is a layer, but other paths lead past it, so it is no cut"
    return f"there is no layer {name!r}"


def _hint(model: keras.Model, name: str, cuts: list[str], words: Sequence[str]) -> str:
    meant = difflib.get_close_matches(name, words, n=1, cutoff=_MISSPELLED)
    if meant:
        return f"did you mean {meant[0]}?"
    return f"cuts near it: {', '.join(_near(model, name, cuts))}"


def _near(model: keras.Model, name: str, cuts: list[str]) -> list[str]:
    order = [node.operation.name for node in _nodes(model)]
    if name in order:
        # The cuts right before and after it.
        place = order.index(name)
        before = [cut for cut in cuts if order.index(cut) < place][-2:]
        return before + [cut for cut in cuts if order.index(cut) > place][:2]
    near = difflib.get_close_matches(name, cuts, n=_LISTED, cutoff=0.4)
    return near or cuts[-_LISTED:]


def _nodes(model: keras.Model) -> list[Any]:
    """Return the model's nodes (one call of an operation each) in topological order."""
    graph = model._functional if isinstance(model, keras.Sequential) else model
    by_depth = graph._nodes_by_depth  # The only record of a functional model's graph.
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]


def _is_layer(node: Any) -> bool:
    return isinstance(node.operation, keras.layers.Layer)


def _merges(node: Any) -> bool:
    if isinstance(node.operation, Block):
        return bool(node.operation.merges)
    # A product of two tensors is a gate (squeeze-and-excitation, hard swish), not a merge.
    several = len({id(tensor) for tensor in node.arguments.keras_tensors}) > 1
    return several and type(node.operation).__name__ != "Multiply"


def _multiply_adds(node: Any) -> int:
    layer = node.operation
    if isinstance(layer, keras.Model):
        return multiply_adds(layer)
    if isinstance(layer, Block):
        taken, given = node.arguments.keras_tensors[0].shape, node.outputs[0].shape
        return layer.multiply_adds(tuple(taken[1:]), tuple(given[1:]))
    kernels: list[int] = [
        math.prod(weight.shape)
        for weight in (layer.weights if _is_layer(node) else ())
        if len(weight.shape) > 1
    ]
    if not kernels:
        return 0
    # A kernel is applied once per output position; a transposed convolution's per input position.
    transposed = isinstance(layer, keras.layers.Conv2DTranspose)
    tensor = node.arguments.keras_tensors[0] if transposed else node.outputs[0]
    positions = int(math.prod(tensor.shape[1:-1]))
    return positions * sum(kernels)
