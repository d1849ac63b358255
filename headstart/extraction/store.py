"""Content-addressed cache of computed features: what has been computed once is never again.

The store lies outside the project and outside DVC's outputs, so that projects, experiments and
parallel processes share it. Deleting it costs time and nothing else. One folder per extractor
(named by its fingerprint) holds immutable shards, which appear whole or not at all.
"""

import contextlib
import errno
import hashlib
import io
import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Self

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
from headstart.common.files import atomic_write
from headstart.common.progress import notify
from headstart.common.system_errors import what_it_said, writing
from headstart.extraction.shard import (
    KEY_BYTES,
    SUFFIX,
    DamagedShard,
    Shard,
    open_shard,
    stored_dtype,
    write_shard,
)
from headstart.extraction.store_index import (
    EMPTY,
    INDEX_FILE,
    KNOWN_BYTES,
    MOST_ROWS,
    BrokenIndex,
    Index,
    ListedShard,
    open_index,
    read_index,
    split_keys,
    write_index,
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

# An index is written when more than a share of it is not in it yet, so that a growing store writes
# each entry some ten times, and when it is worth a file: 64 shards are opened in 50 ms.
_INDEX_SHARE = 1 / 8
_INDEX_ROWS = 8192
_INDEX_SHARDS = 64
_MOST_OPENED_ROWS = 2**20
# How often shards may be merged while they are listed, or read.
_LISTINGS = 5
_READINGS = 3

_Problem = Literal["lost shard", "wrong index"]


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
    _, first = np.unique(split_keys(keys)[0], return_index=True)
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
    """All stored vectors of one extractor.

    A large one has an index (see `headstart.extraction.store_index`); shards that this does not
    name are opened, and their keys held in memory, about 90 bytes each.

    Attributes:
        folder: Where its shards lie.
        identity: The extractor.
        shards: Those known, by name; `reload` looks for others.
    """

    def __init__(self, folder: Path, identity: FeatureIdentity) -> None:
        self.folder = folder
        self.identity = identity
        self.shards: dict[str, Shard | ListedShard] = {}
        # Inodes of those that are of no use and still there: behind a link, or another user's.
        self._useless: dict[str, int] = {}
        self._index = EMPTY
        self._seen: tuple[int, ...] | None = None
        self._opened: dict[str, Shard] = {}
        # Shards that were written though the index names them: their keys were not found there.
        self._suspects: set[str] = set()
        self._arrange(set())
        self.reload()

    def reload(self) -> None:
        """Take in shards that have appeared, and drop those that are gone."""
        self._take_in_all()
        suspects, self._suspects = self._suspects, set()
        if any(map(self._is_hidden, suspects)):
            self._rebuild("it hides vectors that are there")

    def _take_in_all(self) -> None:
        names = self._names()
        # A shard never changes.
        if names and names == self.shards.keys():
            return
        for _ in range(_LISTINGS):
            self._take_in(names)
            # Merged shards appear before their parts go: a listing or an opening that came too
            # late for the one came too early for the other.
            listed, names = names, self._names()
            if names <= listed:
                return

    def _take_in(self, names: set[str], *, anew: bool = False) -> None:
        """Know these shards and no others; `anew` makes the index of the shards alone."""
        if anew:
            self._index, self._opened = EMPTY, {}
        elif not names <= self.shards.keys():
            anew = not self._adopt(names)
        try:
            self._open_unlisted(names)
            if anew or self._is_much():
                self._merge(names)
        except BrokenIndex as broken:
            self._tell_wrong(str(broken))
            self._take_in(names, anew=True)
            return
        self._arrange(names)

    def _adopt(self, names: set[str]) -> bool:
        """Take the folder's index where it is another one by now and knows more of the shards.

        Returns:
            Whether it is sound, or there is none.
        """
        path = self.folder / INDEX_FILE
        try:
            status = path.lstat()
            seen = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
            if seen == self._seen:
                return True
            self._seen = seen
            index = open_index(path, self.folder)
        except BrokenIndex as broken:
            self._tell_wrong(str(broken))
            return False
        except OSError:
            return True
        if _count(index, names) > _count(self._index, names):
            self._index = index
        return True

    def _open_unlisted(self, names: set[str]) -> None:
        known, self._opened = self._opened, {}
        rows = 0
        listed = {shard.path.name for shard in self._index.shards}
        for name in sorted(names - listed):
            shard = known.get(name) or self._open(self.folder / name)
            if shard is None:
                continue
            self._opened[name] = shard
            rows += len(shard)
            # So that memory stays flat where a large index is made.
            if rows > max(_MOST_OPENED_ROWS, len(self._index)):
                self._merge(names)
                rows = 0

    def _is_much(self) -> bool:
        """Return whether a new index costs less than opening its missing shards again and again."""
        rows = sum(map(len, self._opened.values()))
        return rows > max(_INDEX_ROWS, len(self._index) * _INDEX_SHARE) or len(self._opened) > max(
            _INDEX_SHARDS, len(self._index.shards) * _INDEX_SHARE
        )

    def _merge(self, names: set[str]) -> None:
        """Take the opened shards into the index; where it cannot be written, it is in memory.

        Raises:
            BrokenIndex: the present one is damaged.
        """
        present = self._present(names)
        added = list(self._opened.values())
        rows = int(np.diff(self._index.begin)[present].sum()) + sum(map(len, added))
        if not 0 < rows <= MOST_ROWS:
            return
        path = self.folder / INDEX_FILE
        try:
            with changing(self.folder.parents[1]), writing(path):
                if path.is_symlink():
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
                with atomic_write(path) as temporary:
                    with temporary.open("wb") as file:
                        write_index(file, self._index, present, added)
                    # Another process may put its own there right after.
                    index = open_index(temporary, self.folder)
        # The latter where a file system maps no files.
        except (InputError, OSError):
            memory = io.BytesIO()
            write_index(memory, self._index, present, added)
            index = read_index(memory.getvalue(), self.folder)
        self._index, self._opened = index, {}

    def _suspect(self, name: str) -> None:
        if isinstance(self.shards.get(name), ListedShard):
            self._suspects.add(name)

    def _is_hidden(self, name: str) -> bool:
        numbers = [at for at, shard in enumerate(self._index.shards) if shard.path.name == name]
        with contextlib.suppress(DamagedShard, OSError):
            keys = open_shard(self.folder / name).keys
            return not all(self._index.holds(number, keys) for number in numbers)
        return False

    def _rebuild(self, problem: str) -> None:
        """Make the index anew, from the shards."""
        self._tell_wrong(problem)
        self._take_in(self._names(), anew=True)

    def _tell_wrong(self, problem: str) -> None:
        notify(
            f"warning: {self.folder / INDEX_FILE}: the index of the feature store is damaged: "
            f"{problem}. It is made anew from what is stored; nothing is lost."
        )

    def _present(self, names: set[str]) -> NDArray[np.bool_]:
        return np.array([shard.path.name in names for shard in self._index.shards], dtype=bool)

    def _arrange(self, names: set[str]) -> None:
        """Number the rows of all shards: first those of the index, then those opened."""
        index, opened = self._index, list(self._opened.values())
        self._in_index = self._present(names)
        self._shards: list[Shard | ListedShard] = [*index.shards, *opened]
        ends = len(index) + np.cumsum([len(shard) for shard in opened])
        self._begin = np.concatenate([index.begin, ends]).astype(np.int64)
        there = [*self._in_index.tolist(), *(True for _ in opened)]
        self.shards = {s.path.name: s for s in itertools.compress(self._shards, there)}
        keys = np.concatenate([np.empty((0, KEY_BYTES), np.uint8), *(s.keys for s in opened)])
        # Digests are uniform: their first eight bytes order them, the rest settles ties.
        first = split_keys(keys)[0]
        self._order = np.argsort(first, kind="stable")
        self._first = first[self._order]
        self._keys = keys[self._order]

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

    def __len__(self) -> int:
        return sum(map(len, self.shards.values()))

    @property
    def feature_shape(self) -> tuple[int, ...] | None:
        """Of one vector; None while there is none."""
        return next((shard.feature_shape for shard in self.shards.values()), None)

    def _locate(self, keys: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Return the number of each key's row; -1 where it is not."""
        found = self._index.locate(keys, self._in_index)
        open_ = np.flatnonzero(found < 0)
        wanted = split_keys(keys)[0]
        at = np.searchsorted(self._first, wanted)
        while len(open_):
            # Behind the last, or at another prefix: the key is not here.
            open_ = open_[at[open_] < len(self._first)]
            open_ = open_[self._first[at[open_]] == wanted[open_]]
            same = (self._keys[at[open_]] == keys[open_]).all(axis=1)
            found[open_[same]] = len(self._index) + self._order[at[open_[same]]]
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

        Keys that are not stored are left out. So are those in a shard that proves damaged on the
        way: it is set aside with a message, and `contains` no longer knows its keys. What another
        process has merged into other shards, or a wrong index has hidden, is found there.

        Args:
            keys: (n, 32).

        Yields:
            Positions in `keys`, (m,), and their vectors, (m, *feature_shape); a few megabytes at
            a time.
        """
        pending = np.arange(len(keys))
        for _ in range(_READINGS):
            done = np.zeros(len(pending), dtype=bool)
            problems: set[_Problem] = set()
            for positions, vectors in self._read(keys[pending], problems):
                done[positions] = True
                yield pending[positions], vectors
            if not problems:
                return
            if "wrong index" in problems:
                self._rebuild("it names other vectors than lie there")
            else:
                self.reload()
            pending = pending[~done]

    def _read(
        self, keys: NDArray[np.uint8], problems: set[_Problem]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Read what can be read; note why something could not be."""
        located = self._locate(keys)
        positions = np.flatnonzero(located >= 0)
        positions = positions[np.argsort(located[positions], kind="stable")]
        rows = located[positions]
        # Another reader of this object may number the rows anew meanwhile.
        shards, begin = self._shards, self._begin
        bounds = np.searchsorted(rows, begin)
        for number in np.flatnonzero(np.diff(bounds)).tolist():
            here = slice(bounds[number], bounds[number + 1])
            wanted, own, shard = positions[here], rows[here] - begin[number], shards[number]
            path = shard.path
            try:
                if isinstance(shard, ListedShard):
                    n_rows, shard = len(shard), open_shard(path)
                    fits = _fitting(shard, n_rows, own, keys[wanted])
                    if fits is None:
                        problems.add("wrong index")
                        continue
                    wanted, own = wanted[fits], own[fits]
                for part, vectors in shard.read(own):
                    yield wanted[part], vectors
                # Tells `prune` that the shard is in use. A store that may only be read is fine.
                with contextlib.suppress(OSError):
                    os.utime(path)
            except DamagedShard as damage:
                self._drop(path, damage)
                problems.add("lost shard")
            except FileNotFoundError:
                problems.add("lost shard")
            except OSError as error:
                self._drop(path, error)
                problems.add("lost shard")

    def writer(self, feature_shape: tuple[int, ...], versions: dict[str, str]) -> "ShardWriter":
        """Return a writer of new vectors, computed by these library versions."""
        return ShardWriter(self.folder, self.identity, feature_shape, versions, self._suspect)


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
        tell: Callable[[str], None],
    ) -> None:
        self._folder = folder
        self._identity = identity
        self._versions = versions
        self._tell = tell
        dtype = stored_dtype(identity)
        row_bytes = dtype.itemsize * int(np.prod(feature_shape))
        capacity = max(1, min(SHARD_ROWS, SHARD_BYTES // row_bytes))
        self._keys = np.empty((capacity, KEY_BYTES), np.uint8)
        self._vectors = np.empty((capacity, *feature_shape), dtype)
        self._count = 0
        self._begun = self._opened = time.monotonic()

    def add(self, keys: NDArray[np.uint8], vectors: NDArray[np.float32]) -> None:
        """Add vectors.

        Args:
            keys: (n, 32).
            vectors: (n, *feature_shape).

        Raises:
            InputError: the disk is full, the store may not be written to, or the type that vectors
                are stored as cannot hold one.
        """
        vectors = self._rounded(vectors)
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

    def _rounded(self, vectors: NDArray[np.float32]) -> NDArray[np.floating[Any]]:
        dtype = self._vectors.dtype
        if vectors.dtype == dtype:
            return vectors
        with np.errstate(over="ignore"):
            rounded: NDArray[np.floating[Any]] = vectors.astype(dtype)
        if not np.isfinite(rounded).all():
            raise InputError(
                f"extract.store_dtype: expected features up to {np.finfo(dtype).max:,.0f}, which "
                f"{dtype} can hold, received {np.abs(vectors).max():,.0f} from "
                f"{self._identity.backbone}, layer {self._identity.layer}: set "
                "extract.store_dtype: float32"
            )
        return rounded

    def _close_shard(self) -> None:
        keys, vectors = self._keys[: self._count], self._vectors[: self._count]
        with changing(self._folder.parents[1]), writing(self._folder):
            path = write_shard(self._folder, self._identity, self._versions, keys, vectors)
        self._tell(path.name)
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


def _fitting(
    shard: Shard, n_rows: int, rows: NDArray[np.int64], keys: NDArray[np.uint8]
) -> NDArray[np.bool_] | None:
    """Return in which rows of a shard these keys are, (n,); None where its index is wrong.

    Another key that begins as one that was asked for does not make it so.
    """
    if len(shard) != n_rows:
        return None
    same: NDArray[Any] = shard.keys[rows] == keys
    return np.all(same, axis=1) if same[:, :KNOWN_BYTES].all() else None


def _count(index: Index, names: set[str]) -> int:
    return sum(len(shard) for shard in index.shards if shard.path.name in names)
