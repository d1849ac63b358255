"""Many small results in one file of the cache folder, each under a key of its own."""

import hashlib
import os
import sqlite3
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from headstart.common.cache import changing, open_cache
from headstart.common.system_errors import WriteError

_DATABASE = "table.sqlite"
_CHECKSUM_BYTES = 8
_KEY_BYTES = 16
_COMMIT_SECONDS = 2.0
_MEMORY_KIB = 65_536
# SQLite allows 32,766 values in a statement.
_ASKED_AT_ONCE = 10_000


def key_of(content: Any) -> bytes:
    """Return the key of what decides a result, any value that `repr` tells from all others."""
    return hashlib.sha256(repr(content).encode()).digest()[:_KEY_BYTES]


class CacheTable:
    """Bytes under keys; a folder that cannot be written to, or is damaged, keeps none.

    Args:
        kind: A sub-folder of the cache folder, of `headstart.common.cache.UNSEALED`.
        digest: Of all that decides the content besides the key.
        cache: The cache folder, unless it is the user's own.
        patience: How long to wait for another process that writes, in seconds.
    """

    def __init__(
        self, kind: str, digest: str, cache: Path | None = None, patience: float = 10.0
    ) -> None:
        self._patience = patience
        root = open_cache(cache)
        self._folder = root / kind / digest
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
        # Contents lie in the order in which they come, and the index of the keys, which come in any
        # order, stays in memory: 30 bytes each.
        self._database.execute(f"PRAGMA cache_size = -{_MEMORY_KIB}")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS results (key BLOB PRIMARY KEY, content BLOB)"
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

    def find(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return what is kept under these keys, as it was added, to the bit."""
        found: dict[bytes, bytes] = {}
        for first in range(0, len(keys), _ASKED_AT_ONCE):
            for key, packed in self._select(keys[first : first + _ASKED_AT_ONCE]):
                # Whatever damage has made of the file, nothing else is returned.
                if isinstance(key, bytes) and isinstance(packed, bytes):
                    content = packed[_CHECKSUM_BYTES:]
                    if packed[:_CHECKSUM_BYTES] == _checksum(key, content):
                        found[key] = content
        return {key: found[key] for key in keys if key in found}

    def _select(self, keys: Sequence[bytes]) -> list[tuple[object, object]]:
        if self._database is None:
            return []
        marks = ",".join("?" * len(keys))
        try:
            return self._database.execute(
                f"SELECT key, content FROM results WHERE key IN ({marks})", tuple(keys)
            ).fetchall()
        except sqlite3.OperationalError:
            self._database = None
        except sqlite3.DatabaseError:
            self._start_anew()
        return []

    def add(self, contents: Mapping[bytes, bytes]) -> None:
        """Keep contents under their keys."""
        if self._database is None or not contents:
            return
        rows = [(key, _checksum(key, content) + content) for key, content in contents.items()]
        try:
            self._database.executemany("INSERT OR REPLACE INTO results VALUES (?, ?)", rows)
            if time.monotonic() - self._committed > _COMMIT_SECONDS:
                self._database.commit()
                self._committed = time.monotonic()
        except sqlite3.OperationalError:  # a full disk, another process that holds it for long
            self._database = None
        except sqlite3.DatabaseError:
            self._start_anew()

    def forget(self, keys: Sequence[bytes]) -> None:
        """Keep nothing under these keys any more."""
        if self._database is None:
            return
        try:
            self._database.executemany("DELETE FROM results WHERE key = ?", [(k,) for k in keys])
        except sqlite3.OperationalError:
            self._database = None
        except sqlite3.DatabaseError:
            self._start_anew()


def _checksum(key: bytes, content: bytes) -> bytes:
    return hashlib.sha256(key + content).digest()[:_CHECKSUM_BYTES]
