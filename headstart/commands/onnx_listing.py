"""What an ONNX file holds, for `headstart backbones`: its interface, and where it can be cut."""

from typing import Any

from headstart.catalog.onnx import network
from headstart.catalog.onnx.file import OnnxFile, Shape
from headstart.catalog.onnx.options import OnnxOptions


def facts(file: OnnxFile) -> dict[str, Any]:
    """Return what a file says of its network, as JSON types; an axis that is open is null."""
    return {
        "file": str(file.path),
        "producer": file.producer,
        "parameters": file.parameters,
        "inputs": {tensor.name: tensor.shape for tensor in file.inputs},
        "outputs": {tensor.name: tensor.shape for tensor in file.outputs},
        "sha256": file.sha256,
    }


def cuts(file: OnnxFile, image_size: list[int] | None) -> list[dict[str, Any]]:
    """Return the named tensors that every path from the image to the first output crosses.

    Args:
        file: The network. Its input has the layout in which it has 3 channels.
        image_size: One side, or height and width; None for what the file fixes.

    Returns:
        Of each the name, the shape of what `pooling: none` makes of it, and the multiply-adds and
        parameters below.

    Raises:
        InputError: the network cannot be used.
    """
    # Here, because importing OpenVINO takes half a second.
    from headstart.extraction.engines import onnx_graph

    options = network.resolved(file, OnnxOptions(layout=_layout(file)))
    size = network.image_size(file, options, "auto" if image_size is None else (image_size * 2)[:2])
    model = onnx_graph.read_graph(file.path, options, size)
    last = onnx_graph.find_tensor(model, file.path, network.resolve_layer(file, "auto"))
    found = []
    for tensor in onnx_graph.crossed_by_all(model, last):
        names = sorted(set(file.tensors) & tensor.get_names())
        if names and not onnx_graph.unusable(tensor):
            below = onnx_graph.size_up_to(tensor)
            found.append(
                {
                    "name": names[0],
                    "shape": _feature_shape(tensor, options),
                    "multiply_adds_below": below.multiply_adds,
                    "parameters_below": below.parameters,
                }
            )
    return found


def shape_text(shape: Shape | None) -> str:
    """Return a shape as people write it."""
    if shape is None:
        return "of any shape"
    return " x ".join("any" if size is None else str(size) for size in shape)


def _layout(file: OnnxFile) -> Any:
    shape = file.inputs[0].shape if file.inputs else None
    if shape is None or len(shape) != 4:
        return "nchw"
    return next((name for name, axes in network.AXES.items() if shape[axes[2]] == 3), "nchw")


def _feature_shape(tensor: Any, options: OnnxOptions) -> list[int]:
    from headstart.extraction.engines import onnx_graph

    shape = list(tensor.get_shape())
    if len(shape) == 4:
        channels = shape.pop(onnx_graph.channel_axis(tensor, options))
        return [*shape[1:], channels]
    return shape[1:]
