"""Converted models, kept beside the feature store so that a later start needs no TensorFlow."""

import contextlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from headstart.common.files import digest_of, sha256_of, write_json
from headstart.common.progress import notify
from headstart.extraction.bottleneck import Bottleneck

BATCH_SIZE = 1
_CARD, _MODEL, _WEIGHTS = "card.json", "model.xml", "model.bin"

# What an identity says that the converted model does not depend on: it always holds float32
# weights and takes images of its own size.
_IMMATERIAL = ("weights", "precision", "engine", "resize", "interpolation")


@dataclass(frozen=True, slots=True)
class ConvertedModel:
    """A model in OpenVINO's format.

    Attributes:
        model: The .xml file; its weights lie beside it.
        versions: Versions of the libraries that made it; OpenVINO's is that which reads it, too.
    """

    model: Path
    versions: dict[str, str]


def output_name(index: int) -> str:
    """Return the name of the output that belongs to tap number `index`."""
    return f"tap{index}"


def obtain(bottleneck: Bottleneck, folder: Path) -> ConvertedModel:
    """Return the converted model, made now if it is not kept yet.

    Args:
        bottleneck: What it computes.
        folder: Where converted models are kept, each in a sub-folder of its own.

    Raises:
        InputError: the weights do not fit, or a tap's layer is no cut of the backbone.
    """
    place = folder / _key(bottleneck)
    if not is_sound(place):
        _convert(bottleneck, place)
    card = _read_card(place)
    # Tells `prune` that it is in use. A store that may only be read is fine.
    with contextlib.suppress(OSError):
        os.utime(place)
    return ConvertedModel(place / _MODEL, card["versions"])


def is_sound(place: Path) -> bool:
    """Check a kept model against its checksums; a damaged one is deleted, with a message."""
    try:
        digests = _read_card(place)["sha256"]
        if any(sha256_of(place / name) != digests[name] for name in (_MODEL, _WEIGHTS)):
            raise ValueError("a checksum does not fit")
    except (OSError, ValueError, KeyError, TypeError) as error:
        if place.exists():
            notify(f"warning: {place}: a converted model is damaged: {error}; it is made anew.")
            shutil.rmtree(place, ignore_errors=True)
        return False
    return True


def _key(bottleneck: Bottleneck) -> str:
    taps = []
    for tap in bottleneck.taps:
        content = tap.as_dict()
        for name in _IMMATERIAL:
            del content[name]
        taps.append(content)
    # Another release may read the format differently.
    content = {"taps": taps, "batch_size": BATCH_SIZE, "openvino": version("openvino")}
    return digest_of(content)


def _read_card(place: Path) -> dict[str, Any]:
    card: dict[str, Any] = json.loads((place / _CARD).read_text(encoding="utf-8"))
    return card


def _convert(bottleneck: Bottleneck, place: Path) -> None:
    # This imports TensorFlow, which a start with a kept model can do without.
    from headstart.extraction.engines.openvino_conversion import convert

    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=place.parent, prefix="."))
    try:
        convert(bottleneck, BATCH_SIZE, temporary / _MODEL)
        card = {
            "taps": [tap.as_dict() for tap in bottleneck.taps],
            "versions": {name: version(name) for name in ("keras", "openvino", "tensorflow")},
            "sha256": {name: sha256_of(temporary / name) for name in (_MODEL, _WEIGHTS)},
        }
        write_json(temporary / _CARD, card)
        # Another process may have been quicker; its model is as good.
        if not place.exists():
            temporary.rename(place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
