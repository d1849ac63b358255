"""Converted models, kept beside the feature store so that a later start needs no TensorFlow."""

from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from headstart.catalog.weights import hub_version
from headstart.common.cache import Keep, read_card
from headstart.common.files import digest_of, expect_room
from headstart.common.openvino_runtime import openvino
from headstart.common.vocabulary import Pooling
from headstart.extraction.bottleneck import Bottleneck
from headstart.extraction.engines.openvino_unpooling import without_pooling
from headstart.extraction.network_size import NetworkSize, remember
from headstart.extraction.store import FeatureStore

BATCH_SIZE = 1
_MODEL = "model.xml"
_POOLINGS: tuple[Pooling, ...] = ("avg", "max", "cls+avg", "last4")

# What an identity says that the converted model does not depend on: it always holds float32
# weights and takes images of its own size.
_IMMATERIAL = ("weights", "precision", "engine", "resize", "interpolation", "store_dtype")


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
    folder = keep.find(key) or _unpooled(bottleneck, keep)
    if folder is None:
        libraries = (
            ("keras", "openvino", "tensorflow") if bottleneck.onnx is None else ("openvino",)
        )
        about: dict[str, Any] = {
            "taps": [tap.as_dict() for tap in bottleneck.taps],
            "versions": {name: version(name) for name in libraries},
        }
        if bottleneck.spec.network is not None:
            about["versions"]["keras-hub"] = hub_version()
        with keep.create(key, **about) as new:
            sizes = _convert(bottleneck, new / _MODEL)
        for tap, size in zip(bottleneck.taps, sizes, strict=True):
            remember(tap, size, store)
        folder = keep.root / key
    return ConvertedModel(folder / _MODEL, read_card(folder)["versions"])


def _convert(bottleneck: Bottleneck, path: Path) -> tuple[NetworkSize, ...]:
    names = _names(bottleneck)
    if bottleneck.onnx is not None:
        from headstart.extraction.engines import onnx_conversion

        return onnx_conversion.convert(bottleneck, names, path)
    # This imports TensorFlow, which a start with a kept model can do without.
    from headstart.extraction.engines import openvino_conversion

    return openvino_conversion.convert(bottleneck, names, BATCH_SIZE, path)


def _names(bottleneck: Bottleneck) -> list[str]:
    return [output_name(index) for index in range(len(bottleneck.taps))]


def _unpooled(bottleneck: Bottleneck, keep: Keep) -> Path | None:
    """Keep a model of maps made from one that gives the same maps pooled, if that is kept."""
    if any(tap.pooling != "none" for tap in bottleneck.taps):
        return None
    for pooling in _POOLINGS:
        taps = tuple(replace(tap, pooling=pooling) for tap in bottleneck.taps)
        pooled = keep.find(_key(replace(bottleneck, taps=taps)))
        model = without_pooling(pooled / _MODEL, _names(bottleneck)) if pooled else None
        if pooled is not None and model is not None:
            key = _key(bottleneck)
            about = {
                "taps": [tap.as_dict() for tap in bottleneck.taps],
                "versions": read_card(pooled)["versions"],
            }
            with keep.create(key, **about) as new:
                expect_room(new, (pooled / _MODEL).with_suffix(".bin").stat().st_size)
                openvino.save_model(model, new / _MODEL, compress_to_fp16=False)
            return keep.root / key
    return None


def _key(bottleneck: Bottleneck) -> str:
    taps = []
    for tap in bottleneck.taps:
        content = tap.as_dict()
        taps.append({name: content[name] for name in content if name not in _IMMATERIAL})
    # Another release may read the format differently.
    content = {"taps": taps, "batch_size": BATCH_SIZE, "openvino": version("openvino")}
    return digest_of(content)
