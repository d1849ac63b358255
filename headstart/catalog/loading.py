"""Putting weights from a file into a backbone: as data only, nothing of the file is executed."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headstart.catalog import efficientnet_lite
from headstart.catalog.matching import LayerKey, Match, match, shapes_of
from headstart.catalog.naming import snake_case
from headstart.catalog.spec import BackboneSpec, PackageWeights
from headstart.catalog.torch_pickle import read_state_dict
from headstart.catalog.weights import WeightsIdentity
from headstart.catalog.weights_file import open_weights
from headstart.common.errors import InputError
from headstart.common.files import atomic_write
from headstart.common.progress import notify
from headstart.common.tensorflow_runtime import keras

# Source: keras/src/applications/efficientnet.py, IMAGENET_STDDEV_RGB.
_IMAGENET_STDDEV = np.array([0.229, 0.224, 0.225], dtype=np.float32)
_NAMED = 5
"""How many layers an error names before it only counts."""


class _Owner(NamedTuple):
    key: LayerKey
    layer: Any


def load(model: keras.Model, spec: BackboneSpec, weights: WeightsIdentity) -> None:
    """Load the file of `weights` into `model`, and tell how a user's file was matched.

    Raises:
        InputError: the file cannot be read, or layers are missing from it or differ in shape; the
            message names them. The model's weights then stay as they were.
    """
    if weights.path is None:
        raise ValueError("random weights have no file to load")
    if weights.kind == "pretrained" and isinstance(spec.pretrained, PackageWeights):
        _load_package(model, spec, weights)
        return
    owners = list(_owners(model))
    keys = [owner.key for owner in owners]
    with open_weights(weights.path) as file:
        matched = match(keys, file)
        if not matched.complete:
            raise _misfit(spec, weights, keys, matched)
        # All before the first is assigned: a damaged part shows only when it is read.
        read = [[np.asarray(array) for array in one.arrays] for one in matched.layers if one]
    for owner, arrays in zip(owners, read, strict=True):
        _assign(owner.layer, arrays)
    if weights.kind == "file":
        by_order = len(owners) - matched.by_name
        rest = f", {by_order} by order and shape" if by_order else ""
        notify(f"weights from {weights.path}: {matched.by_name} layers by name{rest}")
    if spec.family == "EfficientNet":
        _complete_normalization(model, published=weights.kind == "pretrained")


def save(backbone: keras.Model, path: Path) -> None:
    """Write a backbone's weights atomically; the same weights give the same bytes.

    Args:
        backbone: What `headstart.catalog.building` built.
        path: A file whose name ends in .weights.h5.
    """
    with atomic_write(path, room=4 * backbone.count_params()) as temporary:
        backbone.save_weights(temporary)


def _owners(model: keras.Model, path: tuple[str, ...] = ()) -> Iterator[_Owner]:
    """Yield every layer that has weights, with the keys that Keras saves it under."""
    counts: dict[str, int] = {}
    for layer in model.layers:
        kind = snake_case(type(layer).__name__)
        counts[kind] = counts.get(kind, -1) + 1
        place = (*path, f"{kind}_{counts[kind]}" if counts[kind] else kind)
        if isinstance(layer, keras.Model):
            yield from _owners(layer, place)
        elif layer.weights:
            shapes = tuple(tuple(variable.shape) for variable in layer.weights)
            yield _Owner(LayerKey(layer.name, place, kind, shapes), layer)


def _misfit(
    spec: BackboneSpec, weights: WeightsIdentity, keys: Sequence[LayerKey], matched: Match
) -> InputError:
    expected = f"{weights.path}: expected weights of {spec.name}"
    remedy = "name a file saved from this backbone, or the backbone it was saved from"
    if matched.ambiguous:
        return InputError(
            f"{expected}, received a file that has no single layer {matched.ambiguous.name} "
            f"({_shapes(matched.ambiguous.shapes)}), and whose order and shapes leave several "
            f"places for it; name a file saved from this backbone"
        )
    missing, differing = [], []
    for key, found in zip(keys, matched.layers, strict=True):
        if found is None:
            missing.append(key.name)
        elif not key.fits(found):
            differing.append(
                f"{key.name} (expected {_shapes(key.shapes)}, received {_shapes(shapes_of(found))})"
            )
    parts = []
    if missing:
        parts.append(
            f"{len(missing)} of {len(keys)} layers are missing from the file: {_few(missing)}"
        )
    if differing:
        parts.append(f"{len(differing)} of {len(keys)} differ in shape: {_few(differing)}")
    return InputError(
        f"{expected}; {'; '.join(parts)}; nor do they fit by order and shape; {remedy}"
    )


def _few(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _shapes(shapes: Sequence[tuple[int, ...]]) -> str:
    return " + ".join("x".join(map(str, shape)) or "scalar" for shape in shapes) or "none"


def _assign(layer: Any, arrays: Sequence[NDArray[Any]]) -> None:
    layer.set_weights(arrays)
    if isinstance(layer, keras.layers.Normalization):
        # It computes with tensors derived from its weights.
        layer.finalize_state()


def _complete_normalization(model: keras.Model, *, published: bool) -> None:
    # Keras' published EfficientNet weights hold the standard deviation where the layer expects
    # its square; Keras makes up for it with another Rescaling that only `weights="imagenet"`
    # builds (github.com/tensorflow/tensorflow/issues/49930). Folding that factor into the
    # variance gives the same function. A user's file needs it if it descends from those weights.
    layer = model.get_layer("normalization")
    mean, variance, count = (np.asarray(value) for value in layer.get_weights())
    if published or np.allclose(variance, _IMAGENET_STDDEV, rtol=1e-5, atol=0):
        _assign(layer, [mean, variance * _IMAGENET_STDDEV, count])


def _load_package(model: keras.Model, spec: BackboneSpec, weights: WeightsIdentity) -> None:
    assert weights.path is not None
    state = read_state_dict(weights.path)
    prefixes = efficientnet_lite.torch_prefixes(efficientnet_lite.SCALINGS[spec.name])
    for _, layer in _owners(model):
        _assign(layer, _from_torch(layer, prefixes[layer.name], state))


def _from_torch(layer: Any, prefix: str, state: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
    weight = state[f"{prefix}.weight"]
    match layer:
        case keras.layers.BatchNormalization():
            rest = ("bias", "running_mean", "running_var")
            return [weight, *(state[f"{prefix}.{name}"] for name in rest)]
        case keras.layers.DepthwiseConv2D():
            return [weight.transpose(2, 3, 0, 1)]
        case keras.layers.Conv2D():
            return [weight.transpose(2, 3, 1, 0)]
        case _:
            return [weight.T, state[f"{prefix}.bias"]]
