"""Keras' own format: one file that any Keras 3 with TensorFlow loads, without this project."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray

from headstart.commands.export import archive
from headstart.commands.export.formats import FORMATS, LABELS_FILE, Calibration, Predict
from headstart.common.errors import InputError
from headstart.common.tensorflow_runtime import keras

_FILE = FORMATS["keras"].file


def write(
    model: keras.Model, folder: Path, class_names: Sequence[str], calibration: Calibration | None
) -> None:
    """See `headstart.commands.export.formats.Writer`."""
    if calibration is not None:
        raise ValueError("Keras has no 8-bit convolutions")
    _check_layers(model)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        saved = Path(scratch) / _FILE
        model.save(saved)
        with ZipFile(saved) as source, ZipFile(folder / _FILE, "w") as target:
            for entry in source.infolist():
                content = _timeless(entry.filename, source.read(entry))
                archive.add(target, entry.filename, content, entry.compress_type)
            archive.add(target, LABELS_FILE, ("\n".join(class_names) + "\n").encode())


def _check_layers(model: keras.Model) -> None:
    """Refuse what only those could load who have the same libraries.

    Raises:
        InputError: it has layers that are not Keras' own.
    """
    libraries = {type(layer).__module__.partition(".")[0] for layer in model._flatten_layers()}
    if libraries != {"keras"}:
        others = ", ".join(name for name in FORMATS if name != "keras")
        raise InputError(
            "--format keras: a .keras file only names the layers that it is made of, and some of "
            "this backbone's are not Keras' own: whoever loads it would need KerasHub and this "
            f"project. Use one of {others}, which hold the arithmetic itself"
        )


def _timeless(name: str, content: bytes) -> bytes:
    """Return a file of the archive without the time of saving and addresses in memory."""
    if not name.endswith(".json"):
        return content
    known: dict[int, int] = {}

    def plain(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        entries = dict(pairs)
        if "shared_object_id" in entries:
            # Equal numbers stand for one object; Keras takes its address.
            number = entries["shared_object_id"]
            entries["shared_object_id"] = known.setdefault(number, len(known))
        if "date_saved" in entries:
            entries["date_saved"] = "1980-01-01@00:00:00"
        return entries

    return json.dumps(json.loads(content, object_pairs_hook=plain)).encode()


def load(folder: Path) -> Predict:
    """See `headstart.commands.export.formats.Writer`."""
    model = keras.saving.load_model(folder / _FILE)

    def predict(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.asarray(model(images, training=False))

    return predict
