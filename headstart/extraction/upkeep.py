"""Looking into the feature store, checking it, and making room in it."""

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from headstart.extraction.shard import SUFFIX, DamagedShard, Shard, open_shard
from headstart.extraction.store import DAMAGED_SUFFIX, FeatureStore, is_abandoned, set_aside
from headstart.features.identity import FeatureIdentity


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing in the store that can be deleted by itself.

    Attributes:
        path: A file, or the folder of a converted model.
        kind: A shard, a converted model, or "rubbish": what is damaged or was left by a kill.
        size: In bytes.
        used: When it was last read or written, in seconds since the epoch.
    """

    path: Path
    kind: Literal["shard", "model", "rubbish"]
    size: int
    used: float


@dataclass(frozen=True, slots=True)
class Summary:
    """All shards of one extractor.

    Attributes:
        identity: The extractor.
        vectors: Number of rows.
        shards: Number of files.
        size: In bytes.
        used: When one of them was last read or written, in seconds since the epoch.
    """

    identity: FeatureIdentity
    vectors: int
    shards: int
    size: int
    used: float


def entries(store: FeatureStore) -> Iterator[Entry]:
    """List what is in the store; files that are not the store's are left out."""
    for folder in _sub_folders(store.features):
        for item in _scan(folder):
            status = item.stat()
            kind: Literal["shard", "rubbish"]
            if item.name.endswith(DAMAGED_SUFFIX) or is_abandoned(item):
                kind = "rubbish"
            elif item.name.endswith(SUFFIX) and not item.name.startswith("."):
                kind = "shard"
            else:
                continue
            yield Entry(Path(item.path), kind, status.st_size, status.st_mtime)
    for item in _scan(store.models):
        if item.is_dir():
            size = sum(file.stat().st_size for file in _scan(Path(item.path)))
            used = item.stat().st_mtime
            if is_abandoned(item):
                yield Entry(Path(item.path), "rubbish", size, used)
            elif not item.name.startswith("."):
                yield Entry(Path(item.path), "model", size, used)


def summarize(store: FeatureStore) -> list[Summary]:
    """Open all shards and add them up per extractor, the largest first."""
    summaries = []
    for folder in _sub_folders(store.features):
        shards = list(_shards(folder))
        if shards:
            statuses = [shard.path.stat() for shard in shards]
            summaries.append(
                Summary(
                    shards[0].identity,
                    sum(len(shard) for shard in shards),
                    len(shards),
                    sum(status.st_size for status in statuses),
                    max(status.st_mtime for status in statuses),
                )
            )
    return sorted(summaries, key=lambda summary: -summary.size)


def verify(store: FeatureStore) -> Iterator[tuple[int, bool]]:
    """Check every vector against its checksum; set damaged shards aside, with a message.

    Yields:
        Per shard, the number of its vectors and whether all are sound.
    """
    for folder in _sub_folders(store.features):
        for path in sorted(folder.glob(f"[!.]*{SUFFIX}")):
            vectors = 0
            try:
                shard = open_shard(path)
                vectors = len(shard)
                for _ in shard.read(np.arange(vectors)):
                    pass
            except DamagedShard as damage:
                set_aside(path, damage)
                yield vectors, False
            except FileNotFoundError:
                continue
            else:
                yield vectors, True


def prune(
    store: FeatureStore, *, older_than: float | None = None, max_size: int | None = None
) -> list[Entry]:
    """Delete rubbish, what has not been used for long, and then what was used least recently.

    Args:
        store: The store.
        older_than: Seconds without use after which a shard or model goes; None keeps all.
        max_size: Bytes that may stay; None for any number.

    Returns:
        What was deleted.
    """
    now = time.time()
    everything = sorted(entries(store), key=lambda entry: (entry.kind != "rubbish", entry.used))
    left = sum(entry.size for entry in everything)
    deleted = []
    for entry in everything:
        if (
            entry.kind == "rubbish"
            or (older_than is not None and now - entry.used > older_than)
            or (max_size is not None and left > max_size)
        ):
            if entry.path.is_dir():
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                entry.path.unlink(missing_ok=True)
            left -= entry.size
            deleted.append(entry)
    return deleted


def _sub_folders(folder: Path) -> list[Path]:
    return sorted(Path(item.path) for item in _scan(folder) if item.is_dir())


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as items:
            return list(items)
    except FileNotFoundError:
        return []


def _shards(folder: Path) -> Iterator[Shard]:
    for path in sorted(folder.glob(f"[!.]*{SUFFIX}")):
        try:
            yield open_shard(path)
        except DamagedShard as damage:
            set_aside(path, damage)
        except FileNotFoundError:
            continue
