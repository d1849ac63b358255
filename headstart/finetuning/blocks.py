"""The blocks of a backbone, read from its graph, and which of them `finetune.unfreeze` means."""

from collections.abc import Sequence

from headstart.catalog import cuts
from headstart.catalog.cuts import Cut
from headstart.common.tensorflow_runtime import keras
from headstart.finetuning.options import WORDS


def block_starts(backbone: keras.Model) -> tuple[Cut, ...]:
    """Return the cuts at which blocks begin, from the top down.

    A block is what lies between the fork and the merge of a residual, dense or inception block; a
    stretch of plain layers with a spatial convolution is one too, without one it belongs to the
    block before it. In a network that never forks, a block is what works at one resolution.

    Args:
        backbone: A functional model; its output is the last cut.
    """
    starts = []
    remaining = list(cuts.find_cuts(backbone))
    while remaining and (start := _start_of_last(backbone, remaining)) is not None:
        starts.append(remaining[start])
        remaining = remaining[: start + 1]
    return tuple(starts)


def _start_of_last(backbone: keras.Model, below: Sequence[Cut]) -> int | None:
    """Return the index of the cut where the block that ends at the last of `below` begins."""
    merges = [
        index for index, cut in enumerate(below) if cut.merges and not _is_gate(backbone, cut.name)
    ]
    if not merges:
        return _start_of_last_resolution(below)
    tail = below[merges[-1] + 1 :]
    start = merges[-1] if any(_is_spatial(backbone, cut.name) for cut in tail) else merges[-1] - 1
    return start if start >= 0 else None


def _start_of_last_resolution(below: Sequence[Cut]) -> int | None:
    top = below[-1]
    for index in range(len(below) - 2, -1, -1):
        cut, following = below[index], below[index + 1]
        learns_above = cut.parameters_above > top.parameters_above
        if cut.shape[:2] == following.shape[:2] or not learns_above:
            continue
        # Pooling ends the block before it; a strided convolution begins the one after.
        pools = following.parameters_below == cut.parameters_below
        if not pools:
            return index
        if following.parameters_above > top.parameters_above:
            return index + 1
    return None


def _is_gate(backbone: keras.Model, name: str) -> bool:
    # Squeeze-and-excitation multiplies in the middle of a block; its merge ends none.
    return type(_operation(backbone, name)).__name__ == "Multiply"


def _is_spatial(backbone: keras.Model, name: str) -> bool:
    kernel_size = getattr(_operation(backbone, name), "kernel_size", ())
    return any(size > 1 for size in kernel_size)


def _operation(backbone: keras.Model, name: str) -> object:
    return next(operation for operation in backbone.operations if operation.name == name)


def block_of_layers(backbone: keras.Model) -> dict[str, int]:
    """Return how many blocks lie above each layer, by its name; 0 for the last block's layers."""
    # Operations are listed in topological order, so all that come after a cut lie above it.
    position = {operation.name: index for index, operation in enumerate(backbone.operations)}
    starts = [position[cut.name] for cut in block_starts(backbone)]
    return {name: sum(place <= start for start in starts) for name, place in position.items()}


def resolve_unfreeze(
    backbone: keras.Model, unfreeze: str | float, key: str = "finetune.unfreeze"
) -> Cut | None:
    """Return the cut above which everything learns.

    Args:
        backbone: Up to the layer that the features are taken from.
        unfreeze: "last_block", "all", "scratch", the name of a cut, or a share of the backbone's
            parameters that at most may learn (one layer learns if a single one has more).
        key: Where in params.yaml that stands, for an error.

    Returns:
        The cut; None when the whole backbone learns.

    Raises:
        InputError: there is no such cut.
    """
    if unfreeze in ("all", "scratch"):
        return None
    if unfreeze == "last_block":
        starts = block_starts(backbone)
        return starts[0] if starts else None
    if isinstance(unfreeze, str):
        return cuts.get_cut(backbone, unfreeze, key, WORDS)
    found = cuts.find_cuts(backbone)
    largest = unfreeze * (found[-1].parameters_below + found[-1].parameters_above)
    # Above the others lies no kernel, at most a normalization.
    learning = [cut for cut in found if cut.multiply_adds_above]
    lowest = next((cut for cut in learning if cut.parameters_above <= largest), learning[-1])
    # Of cuts that leave the same parameters above, the highest leaves the least to compute.
    return [cut for cut in found if cut.parameters_above == lowest.parameters_above][-1]
