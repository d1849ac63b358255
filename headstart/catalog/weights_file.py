"""Reading weights files as data: Keras 3 `.weights.h5`, legacy Keras `.h5`, and `.keras`.

Arrays are read from HDF5, and from the description in a `.keras` archive the names of the layers
and their order. Nothing else in a file is looked at: no layer that it describes is ever built, so
no code of theirs can run.
"""

import json
import shutil
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from headstart.catalog.naming import snake_case
from headstart.common.errors import InputError

_WEIGHTS_MEMBER = "model.weights.h5"
"""Where a `.keras` archive keeps what `save_weights` would write."""

_CONFIG_MEMBER = "config.json"
"""Where it describes its layers."""

# Names of the groups that hold a model's layers: Keras 3, and TensorFlow 2.13 to 2.15.
CONTAINERS = ("layers", "_layer_checkpoint_dependencies")

Arrays = list[h5py.Dataset]
"""One layer's weights, not read yet: shapes can be checked first."""


@dataclass(frozen=True, slots=True)
class FileLayer:
    """A layer with weights in a file.

    Attributes:
        name: Its name, or where the file does not tell it, the last part of `path`.
        path: The groups that lead to it, such as ("layers", "conv2d_3"); () in a legacy file.
        arrays: Its weights in Keras' order.
    """

    name: str
    path: tuple[str, ...]
    arrays: Arrays


@dataclass(frozen=True, slots=True)
class FileLayers:
    """What a file holds.

    Attributes:
        layers: Those with weights.
        named: Whether they have their names and stand in the model's order. If not, a layer's path
            tells its class and number among its siblings of that class, and no more.
    """

    layers: list[FileLayer]
    named: bool


@contextmanager
def open_weights(path: Path) -> Iterator[FileLayers]:
    """Read what layers a file has.

    Args:
        path: A `.weights.h5`, legacy `.h5` or `.keras` file, recognized by its content.

    Yields:
        Its layers, whose arrays can be read until the block ends.

    Raises:
        InputError: the file is of another kind or damaged.
    """
    try:
        with _hdf5(path) as (file, config):
            yield _file_layers(path, file, config)
    except (OSError, zipfile.BadZipFile, EOFError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"{path}: expected Keras weights (.weights.h5, legacy .h5 or .keras), received a file "
            f"that cannot be read as such ({reason}); write it again"
        ) from None


@contextmanager
def _hdf5(path: Path) -> Iterator[tuple[h5py.File, Any]]:
    """Open the weights; also give the description of the layers, None where there is none."""
    if not zipfile.is_zipfile(path):
        with h5py.File(path, "r") as file:
            yield file, None
        return
    with zipfile.ZipFile(path) as archive, tempfile.TemporaryFile() as copy:
        names = archive.namelist()
        if _WEIGHTS_MEMBER not in names:
            raise InputError(
                f"{path}: expected a .keras file (a zip with {_WEIGHTS_MEMBER}), received a zip "
                f"with {', '.join(names[:3]) or 'nothing'}"
            )
        # To disk, not to memory: a backbone's weights may take more than a gigabyte.
        with archive.open(_WEIGHTS_MEMBER) as member:
            shutil.copyfileobj(member, copy)
        config = archive.read(_CONFIG_MEMBER) if _CONFIG_MEMBER in names else b"null"
        with h5py.File(copy, "r") as file:
            yield file, _parse(config)


def _parse(config: bytes) -> Any:
    try:
        return json.loads(config)
    except (ValueError, RecursionError):
        # The weights may still fit by their paths.
        return None


def _file_layers(path: Path, file: h5py.File, config: Any) -> FileLayers:
    legacy = file.get("model_weights", file)
    if "layer_names" in legacy.attrs:
        return FileLayers(_legacy_layers(legacy), named=True)
    groups = _variable_groups(file)
    if not groups:
        raise InputError(
            f"{path}: expected Keras weights, received an HDF5 file without any "
            f"(it holds {', '.join(list(file)[:3]) or 'nothing'})"
        )
    if described := list(_described(config, groups, _ancestors(groups))):
        return FileLayers(described, named=True)
    return FileLayers(
        [FileLayer(parts[-1] if parts else "", parts, groups[parts]) for parts in groups],
        named=False,
    )


def _variable_groups(file: h5py.File) -> dict[tuple[str, ...], Arrays]:
    """Return each layer's arrays by its path; links out of the file are not followed."""
    groups: dict[tuple[str, ...], Arrays] = defaultdict(list)

    def visit(name: str, item: Any) -> None:
        *parts, variables, number = ("", *name.split("/"))
        if _is_array(item) and variables == "vars" and number.isdigit():
            groups[tuple(part for part in parts if part)].append(item)

    file.visititems(visit)
    for arrays in groups.values():
        arrays.sort(key=lambda array: int(array.name.rsplit("/", 1)[1]))
    return groups


def _is_array(item: Any) -> bool:
    # Texts and objects of HDF5 are no weights.
    return isinstance(item, h5py.Dataset) and item.dtype.kind in "fiu"


def _ancestors(groups: dict[tuple[str, ...], Arrays]) -> set[tuple[str, ...]]:
    return {path[:length] for path in groups for length in range(1, len(path))}


def _described(
    model: Any,
    groups: dict[tuple[str, ...], Arrays],
    ancestors: set[tuple[str, ...]],
    prefix: tuple[str, ...] = (),
) -> Iterator[FileLayer]:
    """Yield the layers of a described model in its order, also those of models within it."""
    counts: dict[str, int] = {}
    for layer in _children(model):
        kind = snake_case(str(layer.get("class_name")))
        counts[kind] = counts.get(kind, -1) + 1
        own = f"{kind}_{counts[kind]}" if counts[kind] else kind
        for container in CONTAINERS:
            path = (*prefix, container, own)
            if arrays := groups.get(path):
                # Source: keras/src/models/functional.py, `get_config`; sequential.py has no names.
                name = layer.get("name") or layer["config"].get("name")
                yield FileLayer(str(name), path, arrays)
            if path in ancestors:
                yield from _described(layer, groups, ancestors, path)


def _children(model: Any) -> list[dict[str, Any]]:
    config = model.get("config") if isinstance(model, dict) else None
    layers = config.get("layers") if isinstance(config, dict) else None
    return [
        layer
        for layer in (layers if isinstance(layers, list) else [])
        if isinstance(layer, dict) and isinstance(layer.get("config"), dict)
    ]


def _legacy_layers(group: h5py.Group) -> list[FileLayer]:
    """Return the layers in the file's order, also those of models within the model."""
    units: dict[tuple[str, str], Arrays] = {}
    for layer in _texts(group.attrs["layer_names"]):
        members = _inside(group, layer)
        if members is None:
            continue
        for weight in _texts(members.attrs.get("weight_names", [])):
            array = _inside(members, weight)
            if _is_array(array):
                # "block1_conv1/kernel:0" belongs to block1_conv1; a bare "kernel:0" to its group.
                owner = weight.split("/")[-2] if "/" in weight else layer
                # Two models within the model may have layers of the same name.
                units.setdefault((layer, owner), []).append(array)
    return [FileLayer(name, (), arrays) for (_, name), arrays in units.items()]


def _inside(group: h5py.Group, name: str) -> Any:
    # A soft or external link could lead out of the file.
    *parents, last = name.split("/")
    for parent in parents:
        if not isinstance(group.get(parent, getlink=True), h5py.HardLink):
            return None
        group = group[parent]
    return group[last] if isinstance(group.get(last, getlink=True), h5py.HardLink) else None


def _texts(values: Any) -> list[str]:
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]
