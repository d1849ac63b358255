"""OpenVINO's intermediate representation."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.commands.export.assembling import INPUT, OUTPUT
from headstart.commands.export.formats import FORMATS, Calibration, Predict
from headstart.common.openvino_runtime import openvino
from headstart.common.tensorflow_runtime import keras, tf

_FILE = FORMATS["openvino"].file


def write(
    model: keras.Model | openvino.Model,
    folder: Path,
    class_names: Sequence[str],
    calibration: Calibration | None,
) -> None:
    """See `headstart.commands.export.formats.Writer`; the class names are JSON in the model's info.

    OpenVINO's own quantizer is a package with torch among its dependencies, so an 8-bit model is
    quantized by ONNX Runtime and converted.
    """
    if isinstance(model, openvino.Model):
        converted = model
    elif calibration is None:
        images = tf.TensorSpec((None, None, None, 3), tf.uint8, name=INPUT)
        serve = tf.function(
            lambda images: {OUTPUT: model(images, training=False)}, input_signature=[images]
        )
        converted = openvino.convert_model(serve.get_concrete_function())
    else:
        onnx_format = FORMATS["onnx"]
        onnx_format.check_packages()
        from headstart.commands.export import onnx_file

        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            onnx_file.write(model, Path(scratch), class_names, calibration)
            converted = openvino.convert_model(Path(scratch) / onnx_format.file)
    converted.set_rt_info(json.dumps(list(class_names)), ["class_names"])
    _name_anew(converted)
    openvino.save_model(converted, folder / _FILE, compress_to_fp16=False)


def _name_anew(model: openvino.Model) -> None:
    """Name operations by their place: OpenVINO and TensorFlow number them over a process' life."""
    for number, operation in enumerate(model.get_ordered_ops()):
        operation.set_friendly_name(f"{operation.get_type_name()}_{number}")
        for output in operation.outputs():
            output.get_tensor().set_names(output.get_tensor().get_names() & {INPUT, OUTPUT})
    for parameter in model.get_parameters():
        parameter.set_friendly_name(INPUT)


def load(folder: Path) -> Predict:
    """See `headstart.commands.export.formats.Writer`."""
    hint = {"INFERENCE_PRECISION_HINT": "f32"}
    model = openvino.Core().compile_model(folder / _FILE, "CPU", hint)

    def predict(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.array(model(images)[OUTPUT])

    return predict
