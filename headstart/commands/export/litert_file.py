"""LiteRT (formerly TensorFlow Lite); optionally with 8-bit weights and activations."""

import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray

from headstart.commands.export import archive
from headstart.commands.export.assembling import INPUT, OUTPUT, RESIZING
from headstart.commands.export.formats import FORMATS, LABELS_FILE, Calibration, Predict
from headstart.common.tensorflow_runtime import keras, standard_error_silenced, tf

_FILE = FORMATS["litert"].file


def write(
    model: keras.Model, folder: Path, class_names: Sequence[str], calibration: Calibration | None
) -> None:
    """See `headstart.commands.export.formats.Writer`.

    The labels are an associated file inside the model, which is also a zip archive.
    """
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        exported = keras.export.ExportArchive()
        exported.add_endpoint(
            "serve",
            lambda images: {OUTPUT: model(images, training=False)},
            input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8, name=INPUT)],
        )
        exported.write_out(scratch, verbose=False)
        content = _converter(scratch).convert()
        if calibration is not None:
            content = _quantized(_converter(scratch), content, calibration)
    (folder / _FILE).write_bytes(content)
    with ZipFile(folder / _FILE, "a") as associated:
        archive.add(associated, LABELS_FILE, ("\n".join(class_names) + "\n").encode())


def load(folder: Path) -> Predict:
    """See `headstart.commands.export.formats.Writer`."""
    # Its C++ part logs which kernels it chose, whatever the log level.
    with standard_error_silenced():
        interpreter = _interpreter(model_path=str(folder / _FILE))
        interpreter.allocate_tensors()
    (place,) = interpreter.get_input_details()

    def predict(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        interpreter.resize_tensor_input(place["index"], images.shape)
        interpreter.allocate_tensors()
        return np.array(interpreter.get_signature_runner()(**{INPUT: images})[OUTPUT])

    return predict


def _converter(saved_model: str) -> Any:
    return tf.lite.TFLiteConverter.from_saved_model(saved_model, signature_keys=["serving_default"])


def _interpreter(**options: Any) -> Any:
    with warnings.catch_warnings():
        # TensorFlow warns that its interpreter will move to a package of its own.
        warnings.simplefilter("ignore", UserWarning)
        return tf.lite.Interpreter(**options)


def _quantized(converter: Any, in_floats: bytes, calibration: Calibration) -> bytes:
    """Convert all but the resizing to 8-bit integers, which would destroy its arithmetic."""

    def images() -> Iterator[list[NDArray[np.uint8]]]:
        for image in calibration():
            yield [image]

    details = _interpreter(model_content=in_floats).get_tensor_details()
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = images
    excluded = [tensor["name"] for tensor in details if RESIZING in tensor["name"]]
    with warnings.catch_warnings(), standard_error_silenced():
        warnings.simplefilter("ignore", UserWarning)
        # Made for finding the operations that quantization hurts; the only way to exclude some.
        quantizer = tf.lite.experimental.QuantizationDebugger(
            converter=converter,
            debug_dataset=images,
            debug_options=tf.lite.experimental.QuantizationDebugOptions(denylisted_nodes=excluded),
        )
        content: bytes = quantizer.get_nondebug_quantized_model()
    return content
