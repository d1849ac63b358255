"""Content-addressed cache of computed features: what has been computed once is never again.

The store lies outside the project and outside DVC's outputs, so that projects, experiments and
parallel processes share it. Deleting it costs time and nothing else. One folder per extractor
(named by its fingerprint) holds immutable shards, which appear whole or not at all.
"""

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from headstart.common.cache import (
    ENVIRONMENT_VARIABLE,
    FEATURES,
    RUNS,
    changing,
    first_link,
    open_cache,
)
from headstart.common.errors import InputError
from headstart.common.progress import notify
from headstart.common.system_errors import what_it_said, writing
from headstart.extraction.shard import (
    KEY_BYTES,
    SUFFIX,
    DamagedShard,
    Shard,
    open_shard,
    write_shard,
)
from headstart.features.identity import FeatureIdentity

DAMAGED_SUFFIX = ".damaged"

# A shard is closed at the first of these, so that a kill loses little, whether the backbone makes
# three thousand vectors a second or one, and a million vectors are some thousand files.
SHARD_ROWS = 1024
SHARD_BYTES = 32 * 2**20
# In time, a share of what the run has taken so far, within these bounds in seconds.
SHARD_SHARE = 0.05
SHARD_SECONDS = (2.0, 30.0)


def make_keys(sha256: Sequence[str], views: Sequence[str]) -> NDArray[np.uint8]:
    """Return the keys of vectors within one extractor's collection.

    Args:
        sha256: Hexadecimal digests of the images' bytes.
        views: What names the view of each, such as `headstart.images.augmentation.view_token`.

    Returns:
        (n, 32) uint8.
    """
    keys = b"".join(
        hashlib.sha256(bytes.fromhex(digest) + view.encode()).digest()
        for digest, view in zip(sha256, views, strict=True)
    )
    return np.frombuffer(keys, np.uint8).reshape(-1, KEY_BYTES)


def unique_keys(keys: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the positions, ascending, of the first of each (n, 32) key."""
    _, first = np.unique(_prefixes(keys), return_index=True)
    return np.sort(first)


class FeatureStore:
    """The store's folder.

    Attributes:
        root: The cache folder, unless another is given.

    Raises:
        InputError: it is not Headstart's, and cannot become so.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = open_cache(root)

    @property
    def features(self) -> Path:
        """Folder of the collections, one sub-folder per fingerprint."""
        return self.root / FEATURES

    @property
    def runs(self) -> Path:
        """Folder of unfinished fine-tuning runs."""
        return self.root / RUNS

    def collection(self, identity: FeatureIdentity) -> "Collection":
        """Open the vectors of one extractor."""
        return Collection(self.features / identity.fingerprint, identity)


class Collection:
    """All stored vectors of one extractor; an index of the keys is in memory, about 90 bytes each.

    Attributes:
        folder: Where its shards lie.
        identity: The extractor.
        shards: Those known, by name; `reload` looks for others.
    """

    def __init__(self, folder: Path, identity: FeatureIdentity) -> None:
        self.folder = folder
        self.identity = identity
        self.shards: dict[str, Shard] = {}
        # Inodes of those that are of no use and still there: behind a link, or another user's.
        self._useless: dict[str, int] = {}
        self.reload()

    def reload(self) -> None:
        """Take in shards that have appeared, and drop those that are gone."""
        names = self._names()
        # A shard never changes.
        if names and names == self.shards.keys():
            return
        shards = {}
        for name in sorted(names):
            shard = self.shards.get(name) or self._open(self.folder / name)
            if shard is not None:
                shards[name] = shard
        self.shards = shards
        self._index()

    def _names(self) -> set[str]:
        try:
            with os.scandir(self.folder) as entries:
                return {
                    entry.name
                    for entry in entries
                    if entry.name.endswith(SUFFIX)
                    and not entry.name.startswith(".")
                    and not (self._useless and self._useless.get(entry.name) == entry.inode())
                }
        except (FileNotFoundError, NotADirectoryError):
            return set()
        except OSError as error:
            raise InputError(
                f"{self.folder}: the cache cannot be read ({what_it_said(error)}); make it "
                f"readable, or name another folder with {ENVIRONMENT_VARIABLE}"
            ) from error

    def _open(self, path: Path) -> Shard | None:
        try:
            return open_shard(path)
        except DamagedShard as damage:
            self._drop(path, damage)
        except FileNotFoundError:
            pass
        except OSError as error:
            self._drop(path, error)
        return None

    def _drop(self, path: Path, problem: DamagedShard | OSError) -> None:
        if isinstance(problem, DamagedShard):
            set_aside(path, problem)
        else:
            # Which says nothing of what is in it: another user's, or too many open files.
            notify(
                f"warning: {path}: a part of the feature store cannot be read "
                f"({what_it_said(problem)}); what it holds is computed again"
            )
        with contextlib.suppress(FileNotFoundError):
            self._useless[path.name] = path.lstat().st_ino

    def _index(self) -> None:
        shards = list(self.shards.values())
        self._shards = shards
        lengths = [len(shard) for shard in shards]
        keys = np.concatenate([np.empty((0, KEY_BYTES), np.uint8), *(s.keys for s in shards)])
        self._begin = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        # Digests are uniform: their first eight bytes order them, the rest settles ties.
        prefixes = _prefixes(keys)
        self._order = np.argsort(prefixes, kind="stable")
        self._prefixes = prefixes[self._order]
        self._keys = keys[self._order]

    def __len__(self) -> int:
        return len(self._order)

    @property
    def feature_shape(self) -> tuple[int, ...] | None:
        """Of one vector; None while there is none."""
        return self._shards[0].feature_shape if self._shards else None

    def _locate(self, keys: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Return the position of each key among all rows of all shards; -1 where it is not."""
        found = np.full(len(keys), -1, dtype=np.int64)
        wanted = _prefixes(keys)
        at = np.searchsorted(self._prefixes, wanted)
        open_ = np.arange(len(keys))
        while len(open_):
            # Behind the last, or at another prefix: the key is not here.
            inside = at[open_] < len(self._prefixes)
            open_ = open_[inside]
            open_ = open_[self._prefixes[at[open_]] == wanted[open_]]
            same = (self._keys[at[open_]] == keys[open_]).all(axis=1)
            found[open_[same]] = self._order[at[open_[same]]]
            open_ = open_[~same]
            at[open_] += 1
        return found

    def contains(self, keys: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Return which of the (n, 32) keys have a vector, (n,)."""
        return self._locate(keys) >= 0

    def versions(self, keys: NDArray[np.uint8]) -> dict[str, str]:
        """Return the library versions that computed these keys' vectors.

        Where shards were computed by several versions of a library, all are named.
        """
        located = self._locate(keys)
        numbers = np.unique(np.searchsorted(self._begin, located[located >= 0], side="right")) - 1
        merged: dict[str, set[str]] = {}
        for number in numbers:
            for library, version in self._shards[number].versions.items():
                merged.setdefault(library, set()).add(version)
        return {library: ", ".join(sorted(merged[library])) for library in sorted(merged)}

    def read(
        self, keys: NDArray[np.uint8]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Read vectors shard by shard, each checked against its checksum.

        Keys that are not stored are left out. So are those in a shard that proves damaged or gone
        on the way: it is set aside with a message, and `contains` no longer knows its keys.

        Args:
            keys: (n, 32).

        Yields:
            Positions in `keys`, (m,), and their vectors, (m, *feature_shape); a few megabytes at
            a time.
        """
        located = self._locate(keys)
        positions = np.flatnonzero(located >= 0)
        positions = positions[np.argsort(located[positions], kind="stable")]
        rows = located[positions]
        bounds = np.searchsorted(rows, self._begin)
        lost = False
        for number, shard in enumerate(self._shards):
            here = slice(bounds[number], bounds[number + 1])
            if here.start == here.stop:
                continue
            try:
                for part, vectors in shard.read(rows[here] - self._begin[number]):
                    yield positions[here][part], vectors
                # Tells `prune` that the shard is in use. A store that may only be read is fine.
                with contextlib.suppress(OSError):
                    os.utime(shard.path)
            except DamagedShard as damage:
                self._drop(shard.path, damage)
                lost = True
            except FileNotFoundError:
                lost = True
            except OSError as error:
                self._drop(shard.path, error)
                lost = True
        if lost:
            self.reload()

    def writer(self, feature_shape: tuple[int, ...], versions: dict[str, str]) -> "ShardWriter":
        """Return a writer of new vectors, computed by these library versions."""
        return ShardWriter(self.folder, self.identity, feature_shape, versions)


class ShardWriter:
    """Gathers vectors and closes a shard whenever there are enough, and at the end.

    Left by an exception, it keeps what it has: every vector given to it is sound.
    """

    def __init__(
        self,
        folder: Path,
        identity: FeatureIdentity,
        feature_shape: tuple[int, ...],
        versions: dict[str, str],
    ) -> None:
        self._folder = folder
        self._identity = identity
        self._versions = versions
        row_bytes = 4 * int(np.prod(feature_shape))
        capacity = max(1, min(SHARD_ROWS, SHARD_BYTES // row_bytes))
        self._keys = np.empty((capacity, KEY_BYTES), np.uint8)
        self._vectors = np.empty((capacity, *feature_shape), np.float32)
        self._count = 0
        self._begun = self._opened = time.monotonic()

    def add(self, keys: NDArray[np.uint8], vectors: NDArray[np.float32]) -> None:
        """Add vectors.

        Args:
            keys: (n, 32).
            vectors: (n, *feature_shape).

        Raises:
            InputError: the disk is full, or the store may not be written to.
        """
        for key, vector in zip(keys, vectors, strict=True):
            if not self._count:
                self._opened = time.monotonic()
            self._keys[self._count] = key
            self._vectors[self._count] = vector
            self._count += 1
            if self._count == len(self._keys):
                self._close_shard()
        now = time.monotonic()
        least, most = SHARD_SECONDS
        if self._count and now - self._opened >= min(
            max(least, SHARD_SHARE * (now - self._begun)), most
        ):
            self._close_shard()

    def _close_shard(self) -> None:
        keys, vectors = self._keys[: self._count], self._vectors[: self._count]
        with changing(self._folder.parents[1]), writing(self._folder):
            write_shard(self._folder, self._identity, self._versions, keys, vectors)
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._count:
            self._close_shard()


def set_aside(path: Path, damage: DamagedShard) -> None:
    """Rename a damaged shard, so that nobody reads it again, and say so."""
    problem = f"warning: {path}: a part of the feature store is damaged: {damage}"
    link = first_link(path.parents[1], path.parent, path)
    if link is not None:
        notify(f"{problem}. It is left alone, since {link} is a symbolic link.")
        return
    try:
        path.replace(path.with_name(path.name + DAMAGED_SUFFIX))
    except FileNotFoundError:
        # Another process was quicker.
        return
    except OSError as error:
        notify(f"{problem}. It is not used, but cannot be set aside ({what_it_said(error)}).")
        return
    notify(f"{problem}. It is set aside; what it held is computed again when it is needed.")


def _prefixes(keys: NDArray[np.uint8]) -> NDArray[np.uint64]:
    first: NDArray[Any] = np.ascontiguousarray(keys[:, :8])
    return first.view(np.uint64).reshape(-1)
