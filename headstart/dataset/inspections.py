"""What checking a photo has found, kept under the state of its file, so that none is read twice.

A run over a million photos that was killed goes on where it was, and one with ten new ones reads
ten.
"""

import hashlib
import os
import sqlite3
import struct
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from headstart.common.cache import INSPECTIONS, changing, open_cache
from headstart.common.system_errors import WriteError
from headstart.dataset.duplicates import DESCRIPTION_LENGTH
from headstart.dataset.file_states import FileState, digest_of_checking

_DATABASE = "photos.sqlite"
_CHECKSUM_BYTES = 8
_HEAD = struct.Struct("<32sII")
_COMMIT_SECONDS = 2.0


class Inspected(NamedTuple):
    """A photo that can be used.

    Attributes:
        sha256: Hexadecimal digest of the file's bytes.
        width: In pixels, orientation applied.
        height: In pixels, orientation applied.
        description: Of `headstart.dataset.duplicates.describe`.
        remark: What is odd about it; empty for nothing.
    """

    sha256: str
    width: int
    height: int
    description: NDArray[np.float16]
    remark: str


class Inspections:
    """The outcomes that are kept; a folder that cannot be written to, or is damaged, keeps none.

    Args:
        cache: The cache folder, unless it is the user's own.
        patience: How long to wait for another process that writes, in seconds.
    """

    def __init__(self, cache: Path | None = None, patience: float = 10.0) -> None:
        self._patience = patience
        root = open_cache(cache)
        self._folder = root / INSPECTIONS / digest_of_checking()
        self._database: sqlite3.Connection | None = None
        self._committed = time.monotonic()
        with suppress(OSError, WriteError), changing(root):
            self._folder.mkdir(parents=True, exist_ok=True)
            # Tells `headstart cache prune` that it is in use.
            os.utime(self._folder)
        try:
            self._connect()
        except sqlite3.OperationalError:
            self._database = None
        except sqlite3.DatabaseError:
            self._start_anew()

    def _connect(self) -> None:
        self._database = sqlite3.connect(self._folder / _DATABASE, timeout=self._patience)
        # A power cut may damage the file, which then begins anew; a kill cannot.
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS photos (state BLOB PRIMARY KEY, found BLOB) WITHOUT ROWID"
        )

    def _start_anew(self) -> None:
        self._database = None
        with suppress(OSError, sqlite3.Error):
            (self._folder / _DATABASE).unlink(missing_ok=True)
            self._connect()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._database is not None:
            with suppress(sqlite3.Error):
                self._database.commit()
                self._database.close()

    def find(self, states: Sequence[FileState]) -> dict[FileState, Inspected]:
        """Return what is known of files in these states."""
        if self._database is None:
            return {}
        keys = {_key(state): state for state in states}
        marks = ",".join("?" * len(keys))
        try:
            rows = self._database.execute(
                f"SELECT state, found FROM photos WHERE state IN ({marks})", tuple(keys)
            ).fetchall()
        except sqlite3.OperationalError:
            self._database = None
            return {}
        except sqlite3.DatabaseError:
            self._start_anew()
            return {}
        unpacked = {keys[key]: _unpack(key, found) for key, found in rows if key in keys}
        return {state: found for state, found in unpacked.items() if found is not None}

    def add(self, found: dict[FileState, Inspected]) -> None:
        """Keep what files in these states have been found to be."""
        if self._database is None or not found:
            return
        rows = [(key := _key(state), _pack(key, one)) for state, one in found.items()]
        try:
            self._database.executemany("INSERT OR REPLACE INTO photos VALUES (?, ?)", rows)
            if time.monotonic() - self._committed > _COMMIT_SECONDS:
                self._database.commit()
                self._committed = time.monotonic()
        except sqlite3.OperationalError:  # a full disk, another process that holds it for long
            self._database = None
        except sqlite3.DatabaseError:
            self._start_anew()


def _key(state: FileState) -> bytes:
    return hashlib.sha256(repr(state).encode()).digest()[:16]


def _checksum(key: bytes, content: bytes) -> bytes:
    return hashlib.sha256(key + content).digest()[:_CHECKSUM_BYTES]


def _pack(key: bytes, found: Inspected) -> bytes:
    head = _HEAD.pack(bytes.fromhex(found.sha256), found.width, found.height)
    content = head + found.description.astype("<f2").tobytes() + found.remark.encode()
    return _checksum(key, content) + content


def _unpack(key: bytes, packed: object) -> Inspected | None:
    if not isinstance(packed, bytes):
        return None
    content = packed[_CHECKSUM_BYTES:]
    if packed[:_CHECKSUM_BYTES] != _checksum(key, content):
        return None
    sha256, width, height = _HEAD.unpack_from(content)
    end = _HEAD.size + 2 * DESCRIPTION_LENGTH
    description = np.frombuffer(content[_HEAD.size : end], "<f2").astype(np.float16)
    return Inspected(sha256.hex(), width, height, description, content[end:].decode())
