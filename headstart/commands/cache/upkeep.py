"""Looking into the cache folder, checking what it holds, and making room in it."""

import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from headstart.common.cache import (
    TEMPORARY_FOLDER,
    check_kept,
    claim,
    discard,
    is_abandoned,
    is_held,
)
from headstart.common.errors import InputError
from headstart.extraction.shard import SUFFIX, DamagedShard, open_shard
from headstart.extraction.store import DAMAGED_SUFFIX, set_aside
from headstart.features.identity import FeatureIdentity

FEATURES, RUNS = "features", "finetune"
KINDS = {
    FEATURES: "features",
    "models": "converted models",
    "costs": "sizes of networks",
    "times": "times of networks",
    "advice": "measurements for advice",
    "fits": "fitted heads",
    "pretrained": "pretrained backbones",
    RUNS: "unfinished fine-tuning runs",
}
"""Sub-folders of the cache folder and what they hold."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
# As older releases wrote what is folders now.
_OUTDATED = re.compile(r"(classifier-)?[0-9a-f]{64}\.(json|h5)")

State = Literal["kept", "in use", "rubbish"]


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """One thing in the cache that can be deleted by itself.

    Attributes:
        path: A file of features, or a folder.
        kind: One of `KINDS`.
        state: "in use" by a running process, which no one else may disturb, or "rubbish": damaged,
            or left by a killed process or an older release.
        size: In bytes.
        used: When it was last read or written, in seconds since the epoch.
    """

    path: Path
    kind: str
    state: State
    size: int
    used: float


@dataclass(frozen=True, slots=True)
class StoredFeatures:
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


def entries(cache: Path) -> Iterator[CacheEntry]:
    """List what is in the cache folder; what is not Headstart's is left out.

    Other processes may write and delete meanwhile.
    """
    for kind in KINDS:
        for item in _scan(cache / kind):
            inside = _scan(item) if kind == FEATURES and _DIGEST.fullmatch(item.name) else [item]
            for path in inside:
                # What was deleted a moment ago is not in the cache.
                with suppress(FileNotFoundError):
                    state = _shard_state(path) if kind == FEATURES else _folder_state(path, kind)
                    if state is not None:
                        yield CacheEntry(path, kind, state, _size(path), path.stat().st_mtime)


def _shard_state(path: Path) -> State | None:
    if path.name.startswith("."):
        return "rubbish" if is_abandoned(path) else "in use"
    if path.name.endswith(DAMAGED_SUFFIX):
        return "rubbish"
    return "kept" if path.name.endswith(SUFFIX) else None


def _folder_state(path: Path, kind: str) -> State | None:
    if not path.is_dir():
        return "rubbish" if kind != RUNS and _OUTDATED.fullmatch(path.name) else None
    if TEMPORARY_FOLDER.fullmatch(path.name):
        return "rubbish" if is_abandoned(path) else "in use"
    if not _DIGEST.fullmatch(path.name):
        return None
    if kind != RUNS:
        return "kept"
    if is_held(path):
        return "in use"
    # A run that was killed before the end of its first epoch has nothing to go on from.
    return "kept" if _size(path) else "rubbish"


def summarize(shards: list[CacheEntry]) -> list[StoredFeatures]:
    """Open shards and add them up per extractor, the largest first; set damaged ones aside."""
    summed: dict[Path, StoredFeatures] = {}
    for entry in shards:
        shard = None
        try:
            shard = open_shard(entry.path)
        except DamagedShard as damage:
            set_aside(entry.path, damage)
        except FileNotFoundError:
            pass
        if shard is not None:
            one = StoredFeatures(shard.identity, len(shard), 1, entry.size, entry.used)
            other = summed.get(entry.path.parent)
            summed[entry.path.parent] = _add(one, other) if other else one
    return sorted(summed.values(), key=lambda features: -features.size)


def _add(one: StoredFeatures, other: StoredFeatures) -> StoredFeatures:
    return StoredFeatures(
        one.identity,
        one.vectors + other.vectors,
        one.shards + other.shards,
        one.size + other.size,
        max(one.used, other.used),
    )


def verify(entry: CacheEntry) -> int | None:
    """Compare what is kept with its checksums; set a damaged shard aside, delete anything else.

    A message tells what was damaged.

    Args:
        entry: Something kept, not a fine-tuning run: those have no checksums.

    Returns:
        The number of vectors, or 1 for anything else than a shard; None when it is damaged.

    Raises:
        FileNotFoundError: it is gone; another process may have pruned it.
    """
    if entry.kind != FEATURES:
        # A deleted folder is not damaged.
        entry.path.stat()
        return 1 if check_kept(entry.path) else None
    try:
        shard = open_shard(entry.path)
        for _ in shard.read(np.arange(len(shard))):
            pass
    except DamagedShard as damage:
        set_aside(entry.path, damage)
        return None
    return len(shard)


def prune(
    cache: Path, *, older_than: float | None = None, max_size: int | None = None
) -> list[CacheEntry]:
    """Delete rubbish, what has not been used for long, and then what was used least recently.

    What a running process holds is never deleted.

    Args:
        cache: The cache folder.
        older_than: Seconds without use after which anything goes; None keeps all.
        max_size: Bytes that may stay; None for any number.

    Returns:
        What was deleted.
    """
    now = time.time()
    everything = sorted(entries(cache), key=lambda entry: (entry.state != "rubbish", entry.used))
    left = sum(entry.size for entry in everything)
    deleted = []
    for entry in everything:
        unwanted = (
            entry.state == "rubbish"
            or (older_than is not None and now - entry.used > older_than)
            or (max_size is not None and left > max_size)
        )
        if unwanted and entry.state != "in use" and _delete(entry):
            left -= entry.size
            deleted.append(entry)
    return deleted


def _delete(entry: CacheEntry) -> bool:
    """Delete it, unless a process has taken it up since it was listed, or it may not be deleted."""
    with suppress(OSError, InputError):
        if entry.kind == RUNS and entry.state == "kept":
            with claim(entry.path, wait=False):
                discard(entry.path)
        elif entry.path.is_dir():
            discard(entry.path)
        else:
            entry.path.unlink()
    return not entry.path.exists()


def _scan(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _size(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder."""
    if not path.is_dir():
        return path.stat().st_size
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with suppress(FileNotFoundError):
                total += Path(folder, name).stat().st_size
    return total
