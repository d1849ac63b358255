"""The graph of an ONNX file in OpenVINO, for one image of fixed size, and what its tensors are.

Nothing of a file is executed but operators of ONNX that OpenVINO has; libraries of further ones are
never loaded.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any

from headstart.catalog.onnx.network import AXES
from headstart.catalog.onnx.options import OnnxOptions
from headstart.common.errors import InputError
from headstart.common.openvino_runtime import openvino
from headstart.extraction.network_size import NetworkSize

# Whose result has its channels at axis 1, whatever the input has.
_CHANNELS_FIRST = frozenset(
    (
        "Convolution",
        "GroupConvolution",
        "ConvolutionBackpropData",
        "GroupConvolutionBackpropData",
        "MaxPool",
        "AvgPool",
        "BatchNormInference",
        "GroupNormalization",
        "DepthToSpace",
        "SpaceToDepth",
    )
)
_WEIGHTS = {"Convolution": 1, "GroupConvolution": 2}
"""Axes of a convolution's weights that its result's channels stand for."""

_FAILURES: tuple[type[Exception], ...] = (
    RuntimeError,
    openvino.frontend.GeneralFailure,
    openvino.frontend.InitializationFailure,
    openvino.frontend.NotImplementedFailure,
    openvino.frontend.OpConversionFailure,
    openvino.frontend.OpValidationFailure,
)

# What is left of OpenVINO's messages besides says where in its code a check stands.
_NOISE = ("Exception from", "Check '", "FrontEnd API", "Loading input", "Model wasn't", "Summary:")


def read_graph(path: Path, options: OnnxOptions, size: tuple[int, int]) -> Any:
    """Read a network and fix its input to one image.

    Args:
        path: The file.
        options: With the name of the input.
        size: (height, width) in pixels.

    Returns:
        OpenVINO's model.

    Raises:
        InputError: it has operators that OpenVINO does not know, or cannot take one such image.
    """
    # By name, so that no other format is tried.
    front_end = openvino.frontend.FrontEndManager().load_by_framework("onnx")
    try:
        model = front_end.convert(front_end.load(str(path)))
    except _FAILURES as error:
        raise InputError(
            f"weights: {path}: OpenVINO cannot read this network: {reason_of(error)}. Export it "
            "with operators of ONNX alone"
        ) from None
    height, width, channels = AXES[options.layout]
    shape = [1, 1, 1, 1]
    shape[height], shape[width], shape[channels] = *size, 3
    try:
        model.reshape({options.input: shape})
    except RuntimeError as error:
        raise InputError(
            f"weights: {path}: the network does not take one image of {size[0]} x {size[1]} "
            f"({options.input}: {' x '.join(map(str, shape))}): {reason_of(error)}. Check "
            "image_size and extract.onnx.layout, or export it with an open batch axis"
        ) from None
    return model


def find_tensor(model: Any, path: Path, name: str) -> Any:
    """Return the output of an operator that bears a name.

    Raises:
        InputError: there is none, or its shape or type cannot be features.
    """
    found = next(
        (output for output in computed(model) if name in output.get_names()),
        None,
    )
    if found is None:
        raise InputError(
            f"extract.layer: {path}: OpenVINO computes no tensor {name!r} from the image: it is a "
            f"constant or part of a larger step; `headstart backbones {path} --cuts` lists "
            "the others"
        )
    problem = unusable(found)
    if problem:
        raise InputError(
            f"extract.layer: {path}: {name} has the shape {describe(found.get_partial_shape())}, "
            f"{found.get_element_type().get_type_name()}; {problem}"
        )
    return found


def unusable(tensor: Any) -> str:
    """Return why a tensor cannot be features, and what to do; empty if it can."""
    shape = tensor.get_partial_shape()
    if shape.is_dynamic:
        return "expected one shape; export the network for a fixed image size"
    if not tensor.get_element_type().is_real():
        return "expected floating-point numbers; choose a tensor before it"
    if len(shape) not in (2, 3, 4):
        return "expected a vector, tokens or a map (2, 3 or 4 axes); choose another tensor"
    if shape[0].get_length() != 1:
        return "expected 1, the batch, first; export the network with an open batch axis"
    return ""


def computed(model: Any) -> Iterator[Any]:
    """Yield what each operator gives that computes with the image, in order."""
    touched = {id_of(parameter.output(0)) for parameter in model.get_parameters()}
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        # A shape is fixed by now, whatever image it is of.
        if kind in ("Parameter", "Result", "ShapeOf"):
            continue
        if any(id_of(value) in touched for value in node.input_values()):
            for output in node.outputs():
                touched.add(id_of(output))
                yield output


def crossed_by_all(model: Any, last: Any) -> Iterator[Any]:
    """Yield the tensors that every path from the image to the last one crosses, in order."""
    part = openvino.Model([last], model.get_parameters())
    tensors = {id_of(output): output for output in computed(part)}
    readers: dict[tuple[str, int], int] = dict.fromkeys(tensors, 0)
    nodes = {output.get_node().get_name(): output.get_node() for output in tensors.values()}
    for node in nodes.values():
        for value in {id_of(value) for value in node.input_values()} & tensors.keys():
            readers[value] += 1
    # What was computed and is still to be read, going through the operators in order.
    waiting: set[tuple[str, int]] = set()
    for node in nodes.values():
        for value in {id_of(value) for value in node.input_values()} & tensors.keys():
            readers[value] -= 1
            if not readers[value]:
                waiting.discard(value)
        own = [id_of(output) for output in node.outputs()]
        waiting |= {value for value in own if readers[value] or tensors[value] == last}
        if waiting == {own[0]}:
            yield tensors[own[0]]


def id_of(output: Any) -> tuple[str, int]:
    """Return what tells a tensor from all others of its graph."""
    return output.get_node().get_name(), output.get_index()


def channel_axis(output: Any, options: OnnxOptions) -> int:
    """Return which axis of a map holds its channels.

    Axis 1 after convolutions and poolings and the last after dense layers, carried on through
    element-wise steps, transpositions and the like; what stands nearest decides. Where there is
    none, it is as in the input.

    Args:
        output: Of 4 axes.
        options: With the input's layout.
    """
    pending: deque[tuple[Any, tuple[int, ...]]] = deque([(output, (0, 1, 2, 3))])
    seen = set()
    while pending:
        # `axes` tells, for each axis of the map, which one of this tensor it was.
        tensor, axes = pending.popleft()
        node = tensor.get_node()
        if id_of(tensor) in seen:
            continue
        seen.add(id_of(tensor))
        decided = _own_channels(node, options)
        if decided is not None:
            if decided in axes:
                return axes.index(decided)
            continue
        pending += _before(node, axes)
    return AXES[options.layout][2]


def size_up_to(output: Any) -> NetworkSize:
    """Count multiply-adds and parameters of what a tensor is computed from."""
    multiply_adds = parameters = 0
    pending, seen = [output.get_node()], set()
    while pending:
        node = pending.pop()
        if node.get_name() in seen:
            continue
        seen.add(node.get_name())
        pending += [value.get_node() for value in node.input_values()]
        kind = node.get_type_name()
        if kind == "Constant":
            is_number = node.get_element_type().is_real() or node.get_element_type().size == 1
            parameters += prod(node.get_output_shape(0)) if is_number else 0
        elif kind in _WEIGHTS:
            weights = node.input_value(1).get_shape()
            multiply_adds += prod(node.get_output_shape(0)) * prod(weights[_WEIGHTS[kind] :])
        elif kind == "MatMul" and _is_constant(node.input_value(1).get_node()):
            multiply_adds += prod(node.get_output_shape(0)) * node.get_input_shape(0)[-1]
    return NetworkSize(multiply_adds=multiply_adds, parameters=parameters)


def describe(shape: Sequence[Any]) -> str:
    """Return a shape in a few words."""
    return " x ".join(str(size).replace("?", "any") for size in shape)


def reason_of(error: Exception) -> str:
    """Return what OpenVINO says of a network, without where in its own code it found that."""
    lines = (line.strip(" -") for line in str(error).splitlines())
    told = [line for line in lines if line and not line.startswith(_NOISE)]
    return "; ".join(told).rstrip(".") or type(error).__name__


def _own_channels(node: Any, options: OnnxOptions) -> int | None:
    """Return the axis of the channels where the operator itself decides it."""
    kind = node.get_type_name()
    if kind == "Parameter":
        return AXES[options.layout][2]
    if kind in _CHANNELS_FIRST:
        return 1
    if kind == "MatMul" and _is_constant(node.input_value(1).get_node()):
        return len(node.get_output_shape(0)) - 1
    return None


def _before(node: Any, axes: tuple[int, ...]) -> list[tuple[Any, tuple[int, ...]]]:
    """Return what an operator takes, and where the axes of its result stand there; -1: nowhere."""
    kind = node.get_type_name()
    rank = len(node.get_output_partial_shape(0))
    if kind == "Transpose":
        order = node.input_value(1).get_node().get_data().tolist()
        return [(node.input_value(0), tuple(order[axis] if axis >= 0 else -1 for axis in axes))]
    if kind == "Reshape":
        before, after = node.input_value(0).get_shape(), node.get_output_shape(0)
        same = {rank - 1: len(before) - 1} if before[-1] == after[-1] else {}
        if len(before) > 1 and before[1] == after[1]:
            same[1] = 1
        return [(node.input_value(0), tuple(same.get(axis, -1) for axis in axes))]
    return [
        (value, axes)
        for value in node.input_values()
        if len(value.get_partial_shape()) == rank and not _is_constant(value.get_node())
    ]


def _is_constant(node: Any) -> bool:
    """Return whether no image changes it: weights, also such that are kept in another type."""
    if node.get_type_name() == "Constant":
        return True
    inputs = node.input_values()
    return bool(inputs) and all(_is_constant(value.get_node()) for value in inputs)
