"""Which layer of a weights file is which of a backbone: by name, then by order and shape."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from headstart.catalog.weights_file import CONTAINERS, FileLayer, FileLayers

Shapes = tuple[tuple[int, ...], ...]
_Lane = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LayerKey:
    """How to find a layer's weights in a file.

    Attributes:
        name: The layer's name.
        path: Its structural key in Keras 3 files: class and number among its siblings, one part
            per level of nesting, such as ("conv2d_3",).
        kind: Snake-case class name, the automatic name's prefix.
        shapes: Of its weights.
    """

    name: str
    path: tuple[str, ...]
    kind: str
    shapes: Shapes

    @property
    def is_automatic(self) -> bool:
        """Whether Keras chose the name, so that its number may be another one in a file."""
        return _is_numbered(self.kind, self.name)

    def fits(self, layer: FileLayer | None) -> bool:
        """Return whether a layer of a file has its shapes."""
        return layer is not None and shapes_of(layer) == self.shapes


class Match(NamedTuple):
    """What was found for the layers of a backbone.

    Attributes:
        layers: One per layer of the backbone. If `complete`, each has its shapes; otherwise what
            has its name, or None.
        complete: Whether all were found.
        by_name: How many of them have the name; the others were found by order and shape.
        ambiguous: A layer that order and shape leave more than one place for; None if there is
            none.
    """

    layers: list[FileLayer | None]
    complete: bool
    by_name: int = 0
    ambiguous: LayerKey | None = None


def match(layers: Sequence[LayerKey], file: FileLayers) -> Match:
    """Find each layer of a backbone in a file.

    By name: layers of automatic names, and all where a file tells none, by the order within their
    class. Where not all fit so, those that have their name and shapes are taken, and the rest in
    the file's order: what is left of the backbone must be a run without gaps in what is left of
    the file, there may be one such run only, and what was found by name must lie in between as in
    the backbone. So a classifier or a preprocessing layer of the file is passed over, and layers
    inserted in the middle, another order, or a second place are refused.

    Args:
        layers: Those of the backbone that have weights, in its order.
        file: What the file has.
    """
    named = _by_name(layers, file.layers) if file.named else _by_path(layers, file.layers)
    if all(layer.fits(found) for layer, found in zip(layers, named, strict=True)):
        count = sum(
            found is not None and (not file.named or found.name == layer.name)
            for layer, found in zip(layers, named, strict=True)
        )
        return Match(named, complete=True, by_name=count)
    return _by_order(layers, file) or Match(named, complete=False)


def shapes_of(layer: FileLayer) -> Shapes:
    """Return the shapes of a layer's weights."""
    return tuple(tuple(array.shape) for array in layer.arrays)


def _by_name(layers: Sequence[LayerKey], found: Sequence[FileLayer]) -> list[FileLayer | None]:
    """Match explicit names by name, and automatic ones by their order within their class."""
    names = _unique_names(found)
    numbered = {
        kind: iter([one for one in found if _is_numbered(kind, one.name)])
        for kind in {layer.kind for layer in layers if layer.is_automatic}
    }
    return [
        next(numbered[layer.kind], None) if layer.is_automatic else names.get(layer.name)
        for layer in layers
    ]


def _by_path(layers: Sequence[LayerKey], found: Sequence[FileLayer]) -> list[FileLayer | None]:
    # The backbone may be a layer of the saved model, as in Sequential([backbone, ..., Dense]).
    paths = {one.path: one for one in found}
    prefixes = {
        path[: index + 1] for path in paths for index, part in enumerate(path) if part in CONTAINERS
    }
    candidates = [
        [paths.get((*prefix, *_interleave(layer.path, prefix[-1]))) for layer in layers]
        for prefix in sorted(prefixes, key=lambda prefix: (len(prefix), prefix))
    ]
    nothing: list[FileLayer | None] = [None] * len(layers)
    return max(candidates, key=lambda one: len(one) - one.count(None), default=nothing)


def _interleave(path: tuple[str, ...], container: str) -> tuple[str, ...]:
    parts = [path[0]]
    for part in path[1:]:
        parts += [container, part]
    return tuple(parts)


def _by_order(layers: Sequence[LayerKey], file: FileLayers) -> Match | None:
    """Match what has its name and shapes, and the rest by order and shape; None if it is not so."""
    lanes = _lanes(file)
    names = _unique_names(file.layers)
    chosen = {
        index: names[layer.name]
        for index, layer in enumerate(layers)
        # A number that Keras chose is no name.
        if not layer.is_automatic and layer.fits(names.get(layer.name))
    }
    by_name, taken = len(chosen), {id(one) for one in chosen.values()}
    rest: dict[_Lane, list[int]] = defaultdict(list)
    for index, layer in enumerate(layers):
        if index not in chosen:
            rest[() if file.named else tuple(map(_stem, layer.path))].append(index)
    for own, indices in rest.items():
        runs = [
            run
            for lane, members in lanes.items()
            if file.named or _may_hold(lane, own)
            for run in _runs(
                [layers[index].shapes for index in indices],
                [one for one in members if id(one) not in taken],
            )
        ]
        if len(runs) > 1:
            return Match([None] * len(layers), complete=False, ambiguous=layers[indices[0]])
        if not runs:
            return None
        chosen |= zip(indices, runs[0], strict=True)
    found = [chosen[index] for index in range(len(layers))]
    if not all(_in_order(members, found) for members in lanes.values()):
        return None
    return Match([*found], complete=True, by_name=by_name)


def _unique_names(layers: Sequence[FileLayer]) -> dict[str, FileLayer]:
    counts = Counter(one.name for one in layers)
    return {one.name: one for one in layers if counts[one.name] == 1}


def _lanes(file: FileLayers) -> dict[_Lane, list[FileLayer]]:
    """Return the layers whose order the file tells: all, or those that differ in numbers only."""
    if file.named:
        return {(): file.layers}
    lanes: dict[_Lane, list[FileLayer]] = defaultdict(list)
    # HDF5 lists them by the alphabet: conv2d_10 before conv2d_2.
    for one in sorted(file.layers, key=lambda one: [_number(part) for part in one.path]):
        lanes[tuple(map(_stem, one.path))].append(one)
    return lanes


def _stem(part: str) -> str:
    return re.sub(r"_?\d+$", "", part)


def _number(part: str) -> int:
    digits = re.search(r"\d+$", part)
    return int(digits[0]) if digits else 0


def _may_hold(lane: _Lane, own: _Lane) -> bool:
    """Return whether layers of a lane can be those of a lane of the backbone.

    Below a container they are named after their class; elsewhere after attributes of a class of
    the user's, which may be called anything.
    """
    container = lane[-2] if len(lane) > 1 else ""
    if container not in CONTAINERS:
        return len(own) == 1
    inside = _interleave(own, container)
    return lane[-len(inside) :] == inside


def _runs(shapes: Sequence[Shapes], found: Sequence[FileLayer]) -> Iterator[Sequence[FileLayer]]:
    """Yield each run of layers without gaps that has these shapes."""
    theirs = [shapes_of(one) for one in found]
    for start in range(len(found) - len(shapes) + 1):
        if theirs[start : start + len(shapes)] == list(shapes):
            yield found[start : start + len(shapes)]


def _in_order(members: Sequence[FileLayer], found: Sequence[FileLayer]) -> bool:
    """Return whether the layers of a lane were chosen in its order."""
    places = {id(one): place for place, one in enumerate(members)}
    chosen = [places[id(one)] for one in found if id(one) in places]
    return chosen == sorted(set(chosen))


def _is_numbered(kind: str, name: str) -> bool:
    return re.fullmatch(rf"{kind}(_\d+)?", name) is not None
