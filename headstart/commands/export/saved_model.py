"""TensorFlow's SavedModel, with one signature for pixels and one for JPEG files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.commands.export.assembling import INPUT, OUTPUT, Parts
from headstart.commands.export.formats import FORMATS, LABELS_FILE, Calibration, Predict
from headstart.commands.export.jpeg import decode_oriented
from headstart.common.tensorflow_runtime import keras, tf

_FOLDER = FORMATS["savedmodel"].file
_JPEG_SIGNATURE, _JPEG_INPUT = "serve_jpeg", "jpeg"


def write(
    parts: Parts, folder: Path, class_names: Sequence[str], calibration: Calibration | None
) -> None:
    """See `headstart.commands.export.formats.Writer`.

    Both signatures give `probabilities` (batch, n_classes) and `class_name` (batch,), the name of
    the likeliest class.
    """
    if calibration is not None:
        raise ValueError("a SavedModel has no 8-bit convolutions")
    height, width = parts.classifier.input_shape[1:3]
    pixels = tf.TensorSpec((height, width, 3), tf.uint8)

    def named(probabilities: Any) -> dict[str, Any]:
        names = tf.constant(list(class_names))
        best = tf.argmax(probabilities, axis=1)
        return {OUTPUT: probabilities, "class_name": tf.gather(names, best)}

    def serve(images: Any) -> dict[str, Any]:
        return named(parts.whole(images, training=False))

    def serve_jpeg(jpeg: Any) -> dict[str, Any]:
        # The files differ in size, so each is brought to the network's by itself.
        images = tf.map_fn(
            lambda data: parts.resizing(decode_oriented(data)[tf.newaxis], training=False)[0],
            jpeg,
            fn_output_signature=pixels,
        )
        return named(parts.classifier(images, training=False))

    # Its `track` would write all variables a second time; the functions bring theirs along.
    archive = keras.export.ExportArchive()
    images = tf.TensorSpec((None, None, None, 3), tf.uint8, name=INPUT)
    archive.add_endpoint("serve", serve, input_signature=[images])
    jpeg = tf.TensorSpec((None,), tf.string, name=_JPEG_INPUT)
    archive.add_endpoint(_JPEG_SIGNATURE, serve_jpeg, input_signature=[jpeg])
    archive.write_out(folder / _FOLDER, verbose=False)
    # Where TensorFlow Serving expects files that come along.
    extra = folder / _FOLDER / "assets.extra"
    extra.mkdir()
    (extra / LABELS_FILE).write_text("\n".join(class_names) + "\n", encoding="utf-8")


def load(folder: Path) -> Predict:
    """See `headstart.commands.export.formats.Writer`."""
    # The loaded object owns the variables; the signature alone would not keep them.
    loaded = tf.saved_model.load(str(folder / _FOLDER))

    def predict(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        serve = loaded.signatures["serving_default"]
        return np.asarray(serve(**{INPUT: tf.constant(images)})[OUTPUT])

    return predict


def load_jpeg(folder: Path) -> Any:
    """Return the function from the bytes of a JPEG file to probabilities (1, n_classes)."""
    loaded = tf.saved_model.load(str(folder / _FOLDER))

    def predict(data: bytes) -> NDArray[np.float32]:
        serve = loaded.signatures[_JPEG_SIGNATURE]
        return np.asarray(serve(**{_JPEG_INPUT: tf.constant([data])})[OUTPUT])

    return predict
