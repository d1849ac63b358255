"""Taking the map before the pooling from a converted model, so that no second one is converted."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headstart.common.openvino_runtime import openvino

_MARK = ("headstart", "pooled")
# Axes over which a pooling of (batch, height, width, channels) reduces, as the network has it and
# as OpenVINO prefers it, or one of (batch, patches, channels), and what brings the map back into
# the first order.
_ORDERS = {(1, 2): (0, 1, 2, 3), (2, 3): (0, 2, 3, 1), (1,): (0, 1, 2)}


def mark_pooled(model: Any, output_name: str, grid: tuple[int, int]) -> None:
    """Write into a converted model that the last step to an output pools a map.

    A network may end in a pooling of its own, which is none of ours to undo.

    Args:
        model: OpenVINO's.
        output_name: Of the output, which may have class tokens before what was pooled.
        grid: (height, width) of the map.
    """
    model.set_rt_info("{} {}".format(*grid), [*_MARK, output_name])


def without_pooling(pooled: Path, output_names: Sequence[str]) -> Any | None:
    """Return a converted model that gives the maps before the pooling, with the same weights.

    Args:
        pooled: The .xml file of a model that gives them pooled.
        output_names: Of all its outputs.

    Returns:
        OpenVINO's model; None where it is not known of every output that it is pooled, and how.
    """
    model = openvino.Core().read_model(pooled)
    maps = []
    for name in output_names:
        pooling, grid = _pooling(model, name), _grid(model, name)
        axes = _axes(pooling)
        if grid is None or axes not in _ORDERS:
            return None
        model.output(name).get_node().input_value(0).set_names(set())
        order = openvino.opset13.constant(np.array(_ORDERS[axes], np.int64))
        ordered = openvino.opset13.transpose(pooling.input_value(0), order)
        width = ordered.get_output_shape(0)[-1]
        shape = openvino.opset13.constant(np.array([-1, *grid, width], np.int64))
        maps.append(openvino.opset13.reshape(ordered, shape, False).output(0))
        maps[-1].set_names({name})
    return openvino.Model(maps, model.get_parameters())


def _pooling(model: Any, name: str) -> Any:
    """Return what leads to an output, or the last part of it where parts are joined."""
    node = model.output(name).get_node().input_value(0).get_node()
    if node.get_type_name() == "Concat":
        return node.input_value(node.get_input_size() - 1).get_node()
    return node


def _grid(model: Any, name: str) -> tuple[int, int] | None:
    """Return (height, width) of the map that was pooled, where that was marked."""
    path = [*_MARK, name]
    sides = model.get_rt_info(path).astype(str).split() if model.has_rt_info(path) else []
    return (int(sides[0]), int(sides[1])) if len(sides) == 2 else None


def _axes(node: Any) -> tuple[int, ...]:
    """Return the axes that a node reduces by their mean or maximum; none for any other node."""
    if node.get_type_name() not in ("ReduceMean", "ReduceMax"):
        return ()
    axes = node.input_value(1).get_node()
    if axes.get_type_name() != "Constant":
        return ()
    return tuple(np.atleast_1d(axes.get_data()).tolist())
