"""Looking into the cache folder, checking what it holds, and making room in it."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from headstart.common.cache import (
    DIGEST,
    FEATURES,
    KINDS,
    OUTDATED,
    RUNS,
    check_kept,
    claim,
    discard,
    first_link,
    is_temporary,
)
from headstart.common.errors import InputError
from headstart.common.progress import notify
from headstart.common.system_errors import WriteError, what_it_said
from headstart.common.temporaries import delete_abandoned, is_abandoned, is_held, sweep
from headstart.extraction.compaction import Compaction, compact
from headstart.extraction.shard import SUFFIX, DamagedShard, open_shard
from headstart.extraction.store import DAMAGED_SUFFIX, Collection, set_aside
from headstart.extraction.store_index import INDEX_FILE, BrokenIndex, check_index
from headstart.features.identity import FeatureIdentity

State = Literal["kept", "in use", "rubbish"]


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """One thing in the cache that can be deleted by itself.

    Attributes:
        path: A file of features, the index of such, or a folder.
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

    @property
    def is_index(self) -> bool:
        """Whether it says where features lie, and holds none."""
        return self.kind == FEATURES and self.path.name == INDEX_FILE


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

    So is what lies behind a symbolic link, or holds one, with a message. Other processes may write
    and delete meanwhile.

    Args:
        cache: What `headstart.common.cache.open_cache` returned.
    """
    for kind in KINDS:
        for item in _scan(cache / kind):
            inside = _scan(item) if kind == FEATURES and DIGEST.fullmatch(item.name) else [item]
            for path in inside:
                # What was deleted a moment ago is not in the cache.
                with suppress(FileNotFoundError):
                    state = _shard_state(path) if kind == FEATURES else _folder_state(path, kind)
                    if state is not None and not _has_link(path):
                        yield CacheEntry(path, kind, state, _size(path), path.stat().st_mtime)


def _shard_state(path: Path) -> State | None:
    if path.name.startswith("."):
        return "rubbish" if is_abandoned(path) else "in use"
    if path.name.endswith(DAMAGED_SUFFIX):
        return "rubbish"
    if path.name == INDEX_FILE:
        return "kept" if _has_shard(path.parent) else "rubbish"
    return "kept" if path.name.endswith(SUFFIX) else None


def _has_shard(folder: Path) -> bool:
    with suppress(OSError), os.scandir(folder) as inside:
        return any(
            entry.name.endswith(SUFFIX) and not entry.name.startswith(".") for entry in inside
        )
    # Who cannot look must not delete.
    return True


def _folder_state(path: Path, kind: str) -> State | None:
    if not path.is_dir():
        return "rubbish" if kind != RUNS and OUTDATED.fullmatch(path.name) else None
    if is_temporary(path.name):
        return "rubbish" if is_abandoned(path) else "in use"
    if not DIGEST.fullmatch(path.name):
        return None
    if kind != RUNS:
        return "kept"
    if is_held(path):
        return "in use"
    # A run that was killed before the end of its first epoch has nothing to go on from.
    return "kept" if _size(path) else "rubbish"


def summarize(shards: list[CacheEntry]) -> list[StoredFeatures]:
    """Open shards and add them up per extractor, the largest first; set damaged ones aside.

    One that cannot be read is left out.
    """
    summed: dict[Path, StoredFeatures] = {}
    for entry in shards:
        shard = None
        try:
            shard = open_shard(entry.path)
        except DamagedShard as damage:
            set_aside(entry.path, damage)
        except FileNotFoundError:
            pass
        except OSError as error:
            _tell_unreadable(entry.path, error)
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

    An index is compared with its shards.

    A message tells what was damaged.

    Args:
        entry: Something kept, not a fine-tuning run: those have no checksums.

    Returns:
        The number of vectors, 0 for an index, or 1 for anything else than a shard; None when it
        is damaged or cannot be read.

    Raises:
        FileNotFoundError: it is gone; another process may have pruned it.
    """
    if entry.kind != FEATURES:
        # A deleted folder is not damaged.
        entry.path.stat()
        return 1 if check_kept(entry.path) else None
    if entry.is_index:
        return _verify_index(entry.path)
    try:
        shard = open_shard(entry.path)
        for _ in shard.read(np.arange(len(shard))):
            pass
    except DamagedShard as damage:
        set_aside(entry.path, damage)
        return None
    except FileNotFoundError:
        raise
    except OSError as error:
        _tell_unreadable(entry.path, error)
        return None
    return len(shard)


def _verify_index(path: Path) -> int | None:
    try:
        check_index(path)
    except BrokenIndex as broken:
        problem = f"warning: {path}: the index of the feature store is damaged: {broken}"
        try:
            path.unlink()
        except OSError as error:
            notify(f"{problem}. It cannot be deleted ({what_it_said(error)}).")
        else:
            notify(f"{problem}. It is deleted, and made anew when it is needed; nothing is lost.")
        return None
    except FileNotFoundError:
        raise
    except OSError as error:
        _tell_unreadable(path, error)
        return None
    return 0


def compact_all(cache: Path) -> Iterator[Compaction]:
    """Merge small shards of every extractor; see `headstart.extraction.compaction.compact`.

    What another process merges, or may not be written to, is left alone, with a message.

    Args:
        cache: The cache folder.

    Yields:
        What was done for each extractor for which something was.
    """
    for folder in _scan(cache / FEATURES):
        if not DIGEST.fullmatch(folder.name):
            continue
        try:
            done = compact(folder)
        except BlockingIOError:
            notify(f"note: {folder}: another process merges its shards; it is left alone")
        except WriteError as error:
            notify(f"warning: {error}. It is left as it is")
        else:
            if done.identity is not None:
                # Makes the index anew.
                Collection(folder, done.identity)
                yield done


def prune(
    cache: Path, *, older_than: float | None = None, max_size: int | None = None
) -> tuple[list[CacheEntry], int]:
    """Delete rubbish, what has not been used for long, and then what was used least recently.

    What a running process holds is never deleted, and an index only with the last of its shards.

    Args:
        cache: The cache folder.
        older_than: Seconds without use after which anything goes; None keeps all.
        max_size: Bytes that may stay; None for any number.

    Returns:
        What was deleted, and how many bytes are left.
    """
    now = time.time()
    sweep(cache)
    everything = sorted(
        entries(cache), key=lambda entry: (entry.is_index, entry.state != "rubbish", entry.used)
    )
    left = sum(entry.size for entry in everything)
    deleted = []
    for entry in everything:
        unwanted = (
            not _has_shard(entry.path.parent)
            if entry.is_index
            else entry.state == "rubbish"
            or (older_than is not None and now - entry.used > older_than)
            or (max_size is not None and left > max_size)
        )
        if unwanted and entry.state != "in use" and _delete(entry):
            left -= entry.size
            deleted.append(entry)
    return deleted, left


def _delete(entry: CacheEntry) -> bool:
    """Delete it, unless a process has taken it up since it was listed, or it may not be deleted."""
    with suppress(OSError, InputError):
        if is_temporary(entry.path.name):
            return delete_abandoned(entry.path)
        if entry.kind == RUNS:
            with claim(entry.path, wait=False):
                return discard(entry.path)
        if entry.path.is_dir():
            return discard(entry.path)
        entry.path.unlink()
    return not os.path.lexists(entry.path)


def _scan(folder: Path) -> list[Path]:
    """Return what is in a folder and no symbolic link, whatever it leads to."""
    if _is_link(folder):
        return []
    try:
        return [path for path in sorted(folder.iterdir()) if not _is_link(path)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        _tell_unreadable(folder, error)
        return []


def _tell_unreadable(path: Path, error: OSError) -> None:
    notify(f"warning: {path}: cannot be read ({what_it_said(error)}); it is left alone")


def _is_link(path: Path) -> bool:
    if path.is_symlink():
        notify(f"warning: {path}: a symbolic link, which no command on the cache follows")
        return True
    return False


def _has_link(path: Path) -> bool:
    link = first_link(path)
    return link is not None and _is_link(link)


def _size(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder."""
    if not path.is_dir():
        return path.stat().st_size
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with suppress(FileNotFoundError):
                total += Path(folder, name).lstat().st_size
    return total
