"""Reading weights files as data: Keras 3 `.weights.h5`, legacy Keras `.h5`, and `.keras`.

Arrays are read from HDF5 and matched by names and shapes. Nothing else in a file is looked at: the
layers that a `.keras` archive describes are never built, so no code of theirs can run.
"""

import re
import shutil
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from headstart.common.errors import InputError

_WEIGHTS_MEMBER = "model.weights.h5"
"""Where a `.keras` archive keeps what `save_weights` would write."""

# Names of the groups that hold a model's layers: Keras 3, and TensorFlow 2.13 to 2.15.
_CONTAINERS = ("layers", "_layer_checkpoint_dependencies")


@dataclass(frozen=True, slots=True)
class LayerKey:
    """How to find a layer's weights in a file.

    Attributes:
        name: The layer's name.
        path: Its structural key in Keras 3 files: class and number among its siblings, one part
            per level of nesting, such as ("conv2d_3",).
        kind: Snake-case class name, the automatic name's prefix.
    """

    name: str
    path: tuple[str, ...]
    kind: str

    @property
    def is_automatic(self) -> bool:
        """Whether Keras chose the name, so that its number may be another one in a file."""
        return _is_numbered(self.kind, self.name)


Arrays = list[h5py.Dataset]
"""One layer's weights, not read yet: shapes can be checked first."""


@contextmanager
def open_weights(path: Path, layers: Sequence[LayerKey]) -> Iterator[list[Arrays | None]]:
    """Find the weights of `layers` in a file.

    Args:
        path: A `.weights.h5`, legacy `.h5` or `.keras` file, recognized by its content.
        layers: The layers to look for.

    Yields:
        For each layer its arrays in Keras' order, or None if the file does not have it. They can
        be read until the block ends.

    Raises:
        InputError: the file is of another kind or damaged.
    """
    try:
        with _hdf5(path) as file:
            yield _find_all(path, file, layers)
    except (OSError, zipfile.BadZipFile, EOFError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"{path}: expected Keras weights (.weights.h5, legacy .h5 or .keras), received a file "
            f"that cannot be read as such ({reason}); write it again"
        ) from None


@contextmanager
def _hdf5(path: Path) -> Iterator[h5py.File]:
    if not zipfile.is_zipfile(path):
        with h5py.File(path, "r") as file:
            yield file
        return
    with zipfile.ZipFile(path) as archive, tempfile.TemporaryFile() as copy:
        if _WEIGHTS_MEMBER not in archive.namelist():
            raise InputError(
                f"{path}: expected a .keras file (a zip with {_WEIGHTS_MEMBER}), received a zip "
                f"with {', '.join(archive.namelist()[:3]) or 'nothing'}"
            )
        # To disk, not to memory: a backbone's weights may take more than a gigabyte.
        with archive.open(_WEIGHTS_MEMBER) as member:
            shutil.copyfileobj(member, copy)
        with h5py.File(copy, "r") as file:
            yield file


def _find_all(path: Path, file: h5py.File, layers: Sequence[LayerKey]) -> list[Arrays | None]:
    legacy = file.get("model_weights", file)
    if "layer_names" in legacy.attrs:
        return _find_legacy(_legacy_units(legacy), layers)
    groups = _variable_groups(file)
    if not groups:
        raise InputError(
            f"{path}: expected Keras weights, received an HDF5 file without any "
            f"(it holds {', '.join(list(file)[:3]) or 'nothing'})"
        )
    return _find_structural(groups, layers)


def _variable_groups(file: h5py.File) -> dict[tuple[str, ...], Arrays]:
    """Return each layer's arrays by its structural key; links out of the file are not followed."""
    groups: dict[tuple[str, ...], Arrays] = defaultdict(list)

    def visit(name: str, item: Any) -> None:
        *parts, variables, number = ("", *name.split("/"))
        if isinstance(item, h5py.Dataset) and variables == "vars" and number.isdigit():
            groups[tuple(part for part in parts if part)].append(item)

    file.visititems(visit)
    for arrays in groups.values():
        arrays.sort(key=lambda array: int(array.name.rsplit("/", 1)[1]))
    return groups


def _find_structural(
    groups: dict[tuple[str, ...], Arrays], layers: Sequence[LayerKey]
) -> list[Arrays | None]:
    # The backbone may be a layer of the saved model, as in Sequential([backbone, ..., Dense]).
    best: list[Arrays | None] = [None] * len(layers)
    for prefix in sorted(_prefixes(groups), key=lambda prefix: (len(prefix), prefix)):
        container = prefix[-1]
        found = [groups.get((*prefix, *_interleave(layer.path, container))) for layer in layers]
        if _fit(found) > _fit(best):
            best = found
    return best


def _prefixes(groups: dict[tuple[str, ...], Arrays]) -> set[tuple[str, ...]]:
    return {
        path[: index + 1]
        for path in groups
        for index, part in enumerate(path)
        if part in _CONTAINERS
    }


def _interleave(path: tuple[str, ...], container: str) -> tuple[str, ...]:
    parts = [path[0]]
    for part in path[1:]:
        parts += [container, part]
    return tuple(parts)


def _fit(found: Sequence[Arrays | None]) -> int:
    return sum(arrays is not None for arrays in found)


def _legacy_units(group: h5py.Group) -> list[tuple[str, Arrays]]:
    """Return (name, arrays) per layer in the file's order, also of the layers of nested models."""
    units: dict[str, Arrays] = {}
    for layer in _texts(group.attrs["layer_names"]):
        members = _inside(group, layer)
        if members is None:
            continue
        for weight in _texts(members.attrs.get("weight_names", [])):
            array = _inside(members, weight)
            if isinstance(array, h5py.Dataset):
                # "block1_conv1/kernel:0" belongs to block1_conv1; a bare "kernel:0" to its group.
                owner = weight.split("/")[-2] if "/" in weight else layer
                units.setdefault(owner, []).append(array)
    return list(units.items())


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


def _find_legacy(
    units: list[tuple[str, Arrays]], layers: Sequence[LayerKey]
) -> list[Arrays | None]:
    """Match explicit names by name, and automatic ones by their order within their class."""
    by_name = dict(units)
    numbered: dict[str, Iterator[Arrays]] = {
        kind: iter([arrays for name, arrays in units if _is_numbered(kind, name)])
        for kind in {layer.kind for layer in layers if layer.is_automatic}
    }
    return [
        next(numbered[layer.kind], None) if layer.is_automatic else by_name.get(layer.name)
        for layer in layers
    ]


def _is_numbered(kind: str, name: str) -> bool:
    return re.fullmatch(rf"{kind}(_\d+)?", name) is not None
