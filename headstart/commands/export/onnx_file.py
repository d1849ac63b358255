"""ONNX, run by ONNX Runtime; optionally with 8-bit weights and activations."""

import json
import logging
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from tf2onnx.handler import tf_op

from headstart.commands.export.assembling import INPUT, OUTPUT
from headstart.commands.export.formats import FORMATS, Calibration, Predict
from headstart.commands.export.onnx_canonical import canonical
from headstart.common.tensorflow_runtime import keras, tf

_FILE = FORMATS["onnx"].file


def write(
    model: keras.Model, folder: Path, class_names: Sequence[str], calibration: Calibration | None
) -> None:
    """See `headstart.commands.export.formats.Writer`; the class names are JSON in the metadata."""
    path = folder / _FILE
    with warnings.catch_warnings():
        # Keras uses an attribute that numpy has deprecated.
        warnings.simplefilter("ignore", FutureWarning)
        images = tf.TensorSpec((None, None, None, 3), tf.uint8, name=INPUT)
        model.export(path, format="onnx", verbose=False, input_signature=[images])
    graph = onnx.load(path)
    _name_interface(graph)
    graph = canonical(graph)
    onnx.helper.set_model_props(graph, {"class_names": json.dumps(list(class_names))})
    onnx.checker.check_model(graph, full_check=True)
    _save(graph, path)
    if calibration is not None:
        _quantize(path, graph, calibration)


def _save(model: onnx.ModelProto, path: Path) -> None:
    path.write_bytes(model.SerializeToString(deterministic=True))


def load(folder: Path) -> Predict:
    """See `headstart.commands.export.formats.Writer`."""
    session = onnxruntime.InferenceSession(folder / _FILE, providers=["CPUExecutionProvider"])

    def predict(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.asarray(session.run([OUTPUT], {INPUT: images})[0])

    return predict


def _name_interface(model: onnx.ModelProto) -> None:
    """Give the output and the dimensions meaningful names."""
    graph = model.graph
    (images,), (output,) = graph.input, graph.output
    for node in graph.node:
        node.output[:] = [OUTPUT if name == output.name else name for name in node.output]
        node.input[:] = [OUTPUT if name == output.name else name for name in node.input]
    output.name = OUTPUT
    for value, names in ((images, ("batch", "height", "width")), (output, ("batch",))):
        for dimension, name in zip(value.type.tensor_type.shape.dim, names, strict=False):
            dimension.dim_param = name


@tf_op("Erfc")
class _Erfc:
    """How tf2onnx is to write erfc(x), which GELU is made of and ONNX lacks: as 1 - erf(x)."""

    @classmethod
    def version_9(cls, ctx: Any, node: Any, **_: Any) -> None:
        (x,), outputs = node.input, node.output
        shape, dtype = ctx.get_shape(outputs[0]), ctx.get_dtype(outputs[0])
        ctx.remove_node(node.name)
        erf = ctx.make_node("Erf", [x], shapes=[shape], dtypes=[dtype])
        one = ctx.make_const(f"{node.name}_one", np.ones((), np.float32))
        ctx.make_node(
            "Sub",
            [one.output[0], erf.output[0]],
            outputs=outputs,
            shapes=[shape],
            dtypes=[dtype],
        )


class _Images(CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime is untyped
    """Calibration images, one by one."""

    def __init__(self, calibration: Calibration) -> None:
        self._images = calibration()

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        image = next(self._images, None)
        return None if image is None else {INPUT: image}


def _quantize(path: Path, model: onnx.ModelProto, calibration: Calibration) -> None:
    """Replace the model by one with 8-bit integers, one scale per output channel."""
    logger = logging.getLogger()
    level = logger.level
    # It recommends a preprocessing step for graphs of unknown shapes; ours are known.
    logger.setLevel(logging.ERROR)
    try:
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            quantized = Path(scratch) / path.name
            quantize_static(
                path,
                quantized,
                _Images(calibration),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                # 7 bits: CPUs without VNNI add pairs of 8-bit products in 16 bits, and saturate.
                reduce_range=True,
                nodes_to_exclude=_resizing_nodes(model),
            )
            _save(onnx.load(quantized), path)
    finally:
        logger.setLevel(level)


def _resizing_nodes(model: onnx.ModelProto) -> list[str]:
    """Return the names of the nodes that compute the resized uint8 pixels."""
    made_by = {name: node for node in model.graph.node for name in node.output}
    (pixels,) = (
        node
        for node in model.graph.node
        if node.op_type == "Cast"
        and any(
            attribute.name == "to" and attribute.i == onnx.TensorProto.UINT8
            for attribute in node.attribute
        )
    )
    found, pending = {}, [pixels]
    while pending:
        node = pending.pop()
        if node.name not in found:
            found[node.name] = node
            pending += [made_by[name] for name in node.input if name in made_by]
    return list(found)
