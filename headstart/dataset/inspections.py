"""What checking a photo has found, kept under the state of its file, so that none is read twice.

A run over a million photos that was killed goes on where it was, and one with ten new ones reads
ten.
"""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from headstart.common.cache import INSPECTIONS
from headstart.common.cache_table import CacheTable, key_of
from headstart.dataset.file_states import FileState, digest_of_checking
from headstart.dataset.layout import DESCRIPTION_LENGTH

_HEAD = struct.Struct("<32sIIf")


class Inspected(NamedTuple):
    """A photo that can be used.

    Attributes:
        sha256: Hexadecimal digest of the file's bytes.
        width: In pixels, orientation applied.
        height: In pixels, orientation applied.
        description: Of `headstart.dataset.duplicates.describe`.
        sharpness: Of `headstart.dataset.duplicates.sharpness`, as float32 holds it.
        remark: What is odd about it; empty for nothing.
    """

    sha256: str
    width: int
    height: int
    description: NDArray[np.float16]
    sharpness: float
    remark: str


class Inspections:
    """The outcomes that are kept; a folder that cannot be written to, or is damaged, keeps none.

    Args:
        cache: The cache folder, unless it is the user's own.
        patience: How long to wait for another process that writes, in seconds.
    """

    def __init__(self, cache: Path | None = None, patience: float = 10.0) -> None:
        self._table = CacheTable(INSPECTIONS, digest_of_checking(), cache, patience)

    def __enter__(self) -> Self:
        self._table.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._table.__exit__(*error)

    def find(self, states: Sequence[FileState]) -> dict[FileState, Inspected]:
        """Return what is known of files in these states."""
        keys = {key_of(state): state for state in states}
        return {keys[key]: _unpack(found) for key, found in self._table.find(list(keys)).items()}

    def add(self, found: dict[FileState, Inspected]) -> None:
        """Keep what files in these states have been found to be."""
        self._table.add({key_of(state): _pack(one) for state, one in found.items()})

    def forget(self, states: Sequence[FileState]) -> None:
        """Keep nothing of files in these states."""
        self._table.forget([key_of(state) for state in states])


def _pack(found: Inspected) -> bytes:
    head = _HEAD.pack(bytes.fromhex(found.sha256), found.width, found.height, found.sharpness)
    return head + found.description.astype("<f2").tobytes() + found.remark.encode()


def _unpack(content: bytes) -> Inspected:
    sha256, width, height, sharpness = _HEAD.unpack_from(content)
    end = _HEAD.size + 2 * DESCRIPTION_LENGTH
    description = np.frombuffer(content[_HEAD.size : end], "<f2").astype(np.float16)
    return Inspected(sha256.hex(), width, height, description, sharpness, content[end:].decode())
