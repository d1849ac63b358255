"""Keras' own format: one file that any Keras 3 with TensorFlow loads, without this project."""

from collections.abc import Sequence
from pathlib import Path
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray

from headstart.commands.export.formats import FORMATS, LABELS_FILE, Calibration, Predict
from headstart.common.tensorflow_runtime import keras

_FILE = FORMATS["keras"].file


def write(
    model: keras.Model, folder: Path, class_names: Sequence[str], calibration: Calibration | None
) -> None:
    """See `headstart.commands.export.formats.Writer`."""
    if calibration is not None:
        raise ValueError("Keras has no 8-bit convolutions")
    model.save(folder / _FILE)
    with ZipFile(folder / _FILE, "a") as archive:
        archive.writestr(LABELS_FILE, "\n".join(class_names) + "\n")


def load(folder: Path) -> Predict:
    """See `headstart.commands.export.formats.Writer`."""
    model = keras.saving.load_model(folder / _FILE)

    def predict(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.asarray(model(images, training=False))

    return predict
