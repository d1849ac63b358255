"""Merging a collection's small shards into large ones, while others read and write there.

A merged shard is there as a whole before its parts go, so that a kill leaves both, which is
harmless, and a reader who misses a part finds its vectors once it lists the folder again.
"""

import math
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headstart.common.cache import changing, claim
from headstart.common.errors import InputError
from headstart.common.system_errors import WriteError, writing
from headstart.extraction.shard import (
    KEY_BYTES,
    SUFFIX,
    DamagedShard,
    Shard,
    open_shard,
    stored_dtype,
    stream_shard,
)
from headstart.extraction.store import Collection, set_aside
from headstart.features.identity import FeatureIdentity

MERGED_ROWS = 65_536
MERGED_BYTES = 256 * 2**20
"""A merged shard is closed at the first of these; one of half of it is merged no more."""

# By itself an extraction merges no more than it soon gains. A shard costs every reader half a
# millisecond, a page of the disk here and there, and an entry in a folder: nothing beside the time
# that reading 4 MiB of vectors takes, and much beside that of a few kilobytes, which is what a slow
# backbone or a short run leaves. 257 such shards hold 1 GiB at most, and took minutes to compute:
# those of 1.3 MB are merged in 2.6 s, and then read in 0.7 s instead of 1.1 (2 cores, local disk).
_MANY = 256
_SMALL_BYTES = 4 * 2**20
# What a shard holds of a vector besides.
_ABOUT_BYTES = 40


@dataclass(slots=True)
class Compaction:
    """What was merged in a collection.

    Attributes:
        identity: The extractor; None where nothing was merged.
        parts: Shards that were merged into others.
        merged: Those others.
        rows: Vectors in them.
        duplicates: Vectors that were there twice.
        freed: Bytes that the folder's shards take less.
    """

    identity: FeatureIdentity | None = None
    parts: int = 0
    merged: int = 0
    rows: int = 0
    duplicates: int = 0
    freed: int = 0


class _Lost(Exception):
    """A part can no longer be read."""

    def __init__(self, shard: Shard) -> None:
        super().__init__()
        self.shard = shard


class _Found(NamedTuple):
    path: Path
    status: os.stat_result


def compact_if_many(collection: Collection) -> None:
    """Merge the shards of a collection that are small, where they are many.

    One that another process is at, or that may not be written to, stays as it is.
    """
    if collection.folder.parent.is_symlink() or collection.folder.is_symlink():
        return
    itemsize = stored_dtype(collection.identity).itemsize
    small = sum(
        len(shard) < MERGED_ROWS // 2
        and len(shard) * (math.prod(shard.feature_shape) * itemsize + _ABOUT_BYTES) < _SMALL_BYTES
        for shard in collection.shards.values()
    )
    if small > _MANY:
        with suppress(WriteError, BlockingIOError):
            compact(collection.folder, _SMALL_BYTES)
        collection.reload()


def compact(folder: Path, below: int = MERGED_BYTES // 2) -> Compaction:
    """Merge a collection's small shards into large ones, in the order in which they were used.

    Only those of one feature shape and of the same library versions are merged. Left alone are
    those of other users, symbolic links, and what another program has open for writing. A damaged
    one is set aside.

    Args:
        folder: The collection's.
        below: Bytes from which on a shard stays as it is.

    Raises:
        BlockingIOError: another process is at it.
        WriteError: the disk is full, or the store may not be written to.
    """
    done = Compaction()
    found = _small(folder, below)
    if len(found) < 2:
        return done
    with changing(folder.parents[1]), claim(folder, wait=False):
        batches: dict[tuple[object, ...], _Batch] = {}
        # Once more: whoever held the folder may have merged them.
        for path, status in _small(folder, below):
            shard = _open(path)
            if shard is None or len(shard) >= MERGED_ROWS // 2:
                continue
            batch = batches.setdefault(
                (*shard.feature_shape, *sorted(shard.versions.items())), _Batch(done)
            )
            batch.add(shard, status.st_size)
        for batch in batches.values():
            batch.close()
    return done


@dataclass(slots=True)
class _Batch:
    """Shards that become one."""

    done: Compaction
    parts: list[Shard] = field(default_factory=list)
    rows: int = 0
    size: int = 0

    def add(self, shard: Shard, size: int) -> None:
        if self.rows + len(shard) > MERGED_ROWS or self.size + size > MERGED_BYTES:
            self.close()
        self.parts.append(shard)
        self.rows += len(shard)
        self.size += size

    def close(self) -> None:
        parts, self.parts, self.rows, self.size = self.parts, [], 0, 0
        while len(parts) > 1:
            kept = _first_of_each(parts)
            try:
                merged = _write(parts, kept)
            except _Lost as lost:
                parts.remove(lost.shard)
                continue
            self._replace(parts, merged, sum(map(len, kept)))
            return

    def _replace(self, parts: Sequence[Shard], merged: Path, rows: int) -> None:
        """Delete what has been merged; the merged shard was last used when one of them was."""
        done = self.done
        done.freed -= merged.stat().st_size
        used = []
        for part in parts:
            with suppress(FileNotFoundError):
                status = part.path.stat()
                used.append(status.st_mtime_ns)
                done.freed += status.st_size
        if used:
            os.utime(merged, ns=(max(used), max(used)))
        for part in parts:
            # Where one part holds all of the others, it is what they are merged into. What has
            # been pruned meanwhile is gone; what may not be deleted does no harm.
            if part.path != merged:
                with suppress(OSError):
                    part.path.unlink()
        done.identity = parts[0].identity
        done.parts += len(parts)
        done.merged += 1
        done.rows += rows
        done.duplicates += sum(map(len, parts)) - rows


def _small(folder: Path, below: int) -> list[_Found]:
    """List small shards, the one first that was used least recently.

    A shard is read as a whole, as a rule, in the order of the rows, or never: the order of use is
    that of computing.
    """
    found = []
    with suppress(FileNotFoundError), writing(folder), os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.endswith(SUFFIX) or entry.name.startswith("."):
                continue
            with suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                mine = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()
                if mine and status.st_size < below:
                    found.append(_Found(Path(entry.path), status))
    return sorted(found, key=lambda one: (one.status.st_mtime_ns, one.path.name))


def _open(path: Path) -> Shard | None:
    try:
        return open_shard(path)
    except DamagedShard as damage:
        set_aside(path, damage)
    except (OSError, InputError):
        # Gone, or open for writing in another program.
        pass
    return None


def _first_of_each(parts: Sequence[Shard]) -> list[NDArray[np.int64]]:
    """Return which rows of each part to keep: those whose keys no earlier row has.

    Two processes that computed the same did so at about the same time: their shards lie in one
    batch.
    """
    keys = np.concatenate([part.keys for part in parts])
    whole: NDArray[Any] = np.ascontiguousarray(keys).view(f"V{KEY_BYTES}").reshape(-1)
    rows = np.sort(np.unique(whole, return_index=True)[1])
    ends = np.cumsum([len(part) for part in parts])
    split = np.split(rows, np.searchsorted(rows, ends[:-1]))
    return [own - end + len(part) for own, end, part in zip(split, ends, parts, strict=True)]


def _write(parts: Sequence[Shard], kept: Sequence[NDArray[np.int64]]) -> Path:
    """Write the merged shard.

    Raises:
        _Lost: a part cannot be read; a damaged one has been set aside.
    """

    def blocks() -> Iterator[NDArray[np.float32]]:
        for part, rows in zip(parts, kept, strict=True):
            try:
                for _, vectors in part.read(rows):
                    yield vectors
            except DamagedShard as damage:
                set_aside(part.path, damage)
                raise _Lost(part) from None
            except (OSError, InputError):
                raise _Lost(part) from None

    first, folder = parts[0], parts[0].path.parent
    with writing(folder):
        return stream_shard(
            folder,
            first.identity,
            first.versions,
            np.concatenate([part.keys[rows] for part, rows in zip(parts, kept, strict=True)]),
            np.concatenate([part.checksums[rows] for part, rows in zip(parts, kept, strict=True)]),
            first.feature_shape,
            blocks(),
            # Who shares shards by name knows then that it has these.
            sorted({name for part in parts for name in (part.path.name, *part.parts)}),
        )
