"""Converted models, kept beside the feature store so that a later start needs no TensorFlow."""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from headstart.common.cache import Keep, read_card
from headstart.common.files import digest_of
from headstart.extraction.bottleneck import Bottleneck
from headstart.extraction.network_size import remember
from headstart.extraction.store import FeatureStore

BATCH_SIZE = 1
_MODEL = "model.xml"

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


def obtain(bottleneck: Bottleneck, store: FeatureStore) -> ConvertedModel:
    """Return the converted model, made now if it is not kept yet.

    Args:
        bottleneck: What it computes.
        store: Converted models are kept beside it.

    Raises:
        InputError: the weights do not fit, a tap's layer is no cut of the backbone, or the cache
            may not be written to.
    """
    keep = Keep("models", store.root)
    key = _key(bottleneck)
    folder = keep.find(key)
    if folder is None:
        # This imports TensorFlow, which a start with a kept model can do without.
        from headstart.extraction.engines.openvino_conversion import convert

        about = {
            "taps": [tap.as_dict() for tap in bottleneck.taps],
            "versions": {name: version(name) for name in ("keras", "openvino", "tensorflow")},
        }
        names = [output_name(index) for index in range(len(bottleneck.taps))]
        with keep.create(key, **about) as new:
            sizes = convert(bottleneck, names, BATCH_SIZE, new / _MODEL)
        for tap, size in zip(bottleneck.taps, sizes, strict=True):
            remember(tap, size, store)
        folder = keep.root / key
    return ConvertedModel(folder / _MODEL, read_card(folder)["versions"])


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
