"""Taking the map before the pooling from a converted model, so that no second one is converted."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headstart.common.openvino_runtime import openvino

_MARK = ("headstart", "pooled")
# Axes over which a pooling of (batch, height, width, channels) reduces, as the network has it and
# as OpenVINO prefers it, and what brings the map back into the first order.
_ORDERS = {(1, 2): (0, 1, 2, 3), (2, 3): (0, 2, 3, 1)}


def mark_pooled(model: Any, output_name: str) -> None:
    """Write into a converted model that the last step to an output pools a map.

    A network may end in a pooling of its own, which is none of ours to undo.
    """
    model.set_rt_info("yes", [*_MARK, output_name])


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
        pooling = model.output(name).get_node().input_value(0).get_node()
        axes = _axes(pooling)
        if not model.has_rt_info([*_MARK, name]) or axes not in _ORDERS:
            return None
        order = openvino.opset13.constant(np.array(_ORDERS[axes], np.int64))
        pooling.output(0).set_names(set())
        maps.append(openvino.opset13.transpose(pooling.input_value(0), order).output(0))
        maps[-1].set_names({name})
    return openvino.Model(maps, model.get_parameters())


def _axes(node: Any) -> tuple[int, ...]:
    """Return the axes that a node reduces by their mean or maximum; none for any other node."""
    if node.get_type_name() not in ("ReduceMean", "ReduceMax"):
        return ()
    axes = node.input_value(1).get_node()
    return tuple(axes.get_data().tolist()) if axes.get_type_name() == "Constant" else ()
