"""TensorFlow's SavedModel."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.commands.export.assembling import INPUT, OUTPUT
from headstart.commands.export.formats import FORMATS, LABELS_FILE, Calibration, Predict
from headstart.common.tensorflow_runtime import keras, tf

_FOLDER = FORMATS["savedmodel"].file


def write(
    model: keras.Model, folder: Path, class_names: Sequence[str], calibration: Calibration | None
) -> None:
    """See `headstart.commands.export.formats.Writer`.

    The signature gives `probabilities` (batch, n_classes) and `class_name` (batch,), the name of
    the likeliest class.
    """
    if calibration is not None:
        raise ValueError("a SavedModel has no 8-bit convolutions")

    def serve(images: Any) -> dict[str, Any]:
        probabilities = model(images, training=False)
        names = tf.constant(list(class_names))
        best = tf.argmax(probabilities, axis=1)
        return {OUTPUT: probabilities, "class_name": tf.gather(names, best)}

    # Not Keras' ExportArchive, which writes variables in the order of a set.
    module = tf.Module()
    module.variables_in_order = [variable.value for variable in model.variables]
    images = tf.TensorSpec((None, None, None, 3), tf.uint8, name=INPUT)
    module.serve = tf.function(serve, input_signature=[images])
    tf.saved_model.save(module, folder / _FOLDER, signatures=module.serve)
    # For statistics only, and a part of it is random.
    (folder / _FOLDER / "fingerprint.pb").unlink()
    # Where TensorFlow Serving expects files that belong to the model.
    extra = folder / _FOLDER / "assets.extra"
    extra.mkdir()
    (extra / LABELS_FILE).write_text("\n".join(class_names) + "\n", encoding="utf-8")


def load(folder: Path) -> Predict:
    """See `headstart.commands.export.formats.Writer`."""
    # The loaded object owns the variables; the signature alone would not keep them alive.
    loaded = tf.saved_model.load(str(folder / _FOLDER))

    def predict(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        serve = loaded.signatures["serving_default"]
        return np.asarray(serve(**{INPUT: tf.constant(images)})[OUTPUT])

    return predict
