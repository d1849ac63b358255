"""The index of a collection: one mapped file that says in which row of which shard a key lies.

It takes 16 bytes a vector, and a look-up touches a few pages of it, so that a million vectors are
known without opening a shard. It only points: who reads compares the whole key with the shard's.

A line of ASCII comes first, then the list of shards as JSON, which the line has the digest of; from
the next page on, sorted by the first: the first eight bytes of all keys as uint64, the next four as
uint32, and the row's number over all shards as uint32. All numbers are little-endian, and those of
a key have its first byte as their highest, so that a range of keys is a range of pages.
"""

import hashlib
import json
import mmap
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from headstart.extraction.shard import DamagedShard, Shard, open_shard

INDEX_FILE = "index"

KNOWN_BYTES = 12
"""Of a key. At a billion vectors a key that is not stored is taken for one of them once in 8e19
times, and two of them share these bytes once in 2e11 stores; such a vector is never found, which is
told, and never another in its place."""

MOST_ROWS = 2**32
"""That an index can number."""

_MAGIC = b"headstart index 1 "
_LINE = re.compile(rb"headstart index 1 ([0-9a-f]{64}) (\d{1,12})\n")
_LINE_BYTES = 128
_PAGE = 4096
_ENTRY_BYTES = 16
_BLOCK_ROWS = 2**20


class BrokenIndex(Exception):
    """An index is not as it was written, or does not fit its shards; the message says in what."""


@dataclass(frozen=True, slots=True)
class ListedShard:
    """What an index says of a shard.

    Attributes:
        path: The file, which may be gone.
        n_rows: Number of its vectors.
        feature_shape: Of one vector.
        versions: Library versions that computed them, by distribution name.
    """

    path: Path
    n_rows: int
    feature_shape: tuple[int, ...]
    versions: dict[str, str]

    def __len__(self) -> int:
        return self.n_rows


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """Keys of shards, mapped from a file or in memory.

    Attributes:
        shards: In the order in which their rows are numbered.
        begin: (n_shards + 1,) number of each shard's first row; the last is the number of rows.
    """

    shards: tuple[ListedShard, ...]
    begin: NDArray[np.int64]
    _first: NDArray[np.uint64]
    _second: NDArray[np.uint32]
    _rows: NDArray[np.uint32]

    def __len__(self) -> int:
        return int(self.begin[-1])

    def locate(self, keys: NDArray[np.uint8], present: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return the row of each of the (n, 32) keys; -1 where it is not.

        Args:
            keys: Of which the first 12 bytes count.
            present: (n_shards,) which shards are there; rows of the others are passed over.
        """
        counts = np.append(present, False)
        return self._search(keys, lambda rows, _: counts[self._numbers(rows)])

    def holds(self, number: int, keys: NDArray[np.uint8]) -> bool:
        """Return whether these are the keys of a shard's rows, all of them in order."""
        begin = self.begin[number]
        found = self._search(keys, lambda rows, which: rows == begin + which)
        return len(keys) == len(self.shards[number]) and bool((found >= 0).all())

    def entries(
        self,
    ) -> Iterator[tuple[NDArray[np.uint64], NDArray[np.uint32], NDArray[np.int64]]]:
        """Give the three sections, a few megabytes at a time."""
        for start in range(0, len(self._first), _BLOCK_ROWS):
            part = slice(start, start + _BLOCK_ROWS)
            yield self._first[part], self._second[part], self._rows[part].astype(np.int64)

    def _numbers(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the shard of each row; that of one behind the last is the number of shards."""
        return np.searchsorted(self.begin, rows, side="right") - 1

    def _search(
        self,
        keys: NDArray[np.uint8],
        accept: Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.bool_]],
    ) -> NDArray[np.int64]:
        found = np.full(len(keys), -1, dtype=np.int64)
        first, second = split_keys(keys)
        # In order, so that each page is touched once.
        open_ = np.argsort(first)
        at = np.empty(len(keys), np.int64)
        at[open_] = np.searchsorted(self._first, first[open_])
        while len(open_):
            # Behind the last, or at another prefix: the key is not here.
            open_ = open_[at[open_] < len(self._first)]
            open_ = open_[self._first[at[open_]] == first[open_]]
            rows = self._rows[at[open_]].astype(np.int64)
            fits = (self._second[at[open_]] == second[open_]) & accept(rows, open_)
            found[open_[fits]] = rows[fits]
            open_ = open_[~fits]
            at[open_] += 1
        return found


EMPTY = Index(
    (),
    np.zeros(1, np.int64),
    np.empty(0, np.uint64),
    np.empty(0, np.uint32),
    np.empty(0, np.uint32),
)


def split_keys(keys: NDArray[np.uint8]) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
    """Return the first eight bytes of (n, 32) keys as numbers, and the next four."""
    first: NDArray[Any] = np.ascontiguousarray(keys[:, :8])
    second: NDArray[Any] = np.ascontiguousarray(keys[:, 8:KNOWN_BYTES])
    return (
        first.view(">u8").reshape(-1).astype(np.uint64),
        second.view(">u4").reshape(-1).astype(np.uint32),
    )


def open_index(path: Path, folder: Path) -> Index:
    """Map an index; its list of shards and its length are checked, its entries are not.

    Args:
        path: The file.
        folder: Where the shards lie.

    Raises:
        BrokenIndex: it is damaged, or of another format.
        OSError: there is none, it is a symbolic link, or the system will not read it.
    """
    # What is no file must not block.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or not status.st_size:
            raise BrokenIndex("expected a file with content")
        return read_index(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ), folder)
    finally:
        os.close(descriptor)


def read_index(data: bytes | mmap.mmap, folder: Path) -> Index:
    """Return what `write_index` wrote; see `open_index`."""
    line = _LINE.match(data[:_LINE_BYTES])
    if line is None:
        raise BrokenIndex("its first line is damaged, or of another format")
    content = data[line.end() : line.end() + int(line[2])]
    if hashlib.sha256(content).hexdigest().encode() != line[1]:
        raise BrokenIndex("its list of shards was damaged or changed (sha256)")
    about = json.loads(content)
    makes = [(tuple(make["shape"]), make["versions"]) for make in about["makes"]]
    shards = tuple(
        ListedShard(folder / name, n_rows, *makes[number])
        for name, n_rows, number in about["shards"]
    )
    begin = _begin(shards)
    n_rows, offset = int(begin[-1]), _page_after(line.end() + len(content))
    if not n_rows or len(data) != offset + _ENTRY_BYTES * n_rows:
        raise BrokenIndex(
            f"expected {offset + _ENTRY_BYTES * n_rows:,} bytes, received {len(data):,}"
        )
    return Index(
        shards,
        begin,
        np.frombuffer(data, "<u8", n_rows, offset),
        np.frombuffer(data, "<u4", n_rows, offset + 8 * n_rows),
        np.frombuffer(data, "<u4", n_rows, offset + KNOWN_BYTES * n_rows),
    )


def write_index(
    file: BinaryIO, base: Index, present: NDArray[np.bool_], added: Sequence[Shard]
) -> None:
    """Write an index of what another has and of further shards, a few megabytes at a time.

    Args:
        file: An empty one.
        base: The other.
        present: (n_shards,) which shards of that are there.
        added: The further ones; there is at least one row.

    Raises:
        BrokenIndex: `base` is damaged.
    """
    kept = [shard for shard, is_there in zip(base.shards, present, strict=True) if is_there]
    n_kept = sum(map(len, kept))
    n_rows = n_kept + sum(map(len, added))
    offset = _write_list(file, [*kept, *added])
    begin = np.zeros(len(base.shards), np.int64)
    begin[present] = _begin(kept)[:-1]
    # Rows of shards that are gone, and behind the last, go.
    counts, shift = np.append(present, False), np.append(begin - base.begin[:-1], 0)
    first, second = split_keys(np.concatenate([np.empty((0, 32), np.uint8), *_keys(added)]))
    order = np.argsort(first, kind="stable")
    new: tuple[NDArray[Any], ...] = first[order], second[order], n_kept + order
    taken = written = 0
    last = np.uint64(0)

    def merge(part: tuple[NDArray[Any], ...], until: int) -> None:
        nonlocal taken, written, last
        joined = [
            np.concatenate([one, other[taken:until]]) for one, other in zip(part, new, strict=True)
        ]
        # Of a stable sort of two sorted runs little is left to do.
        by_key = np.argsort(joined[0], kind="stable")
        if len(by_key):
            if joined[0][by_key[0]] < last:
                raise BrokenIndex("its entries are not in order")
            last = joined[0][by_key[-1]]
        for values, dtype, place in zip(
            joined, ("<u8", "<u4", "<u4"), (0, 8 * n_rows, KNOWN_BYTES * n_rows), strict=True
        ):
            file.seek(offset + place + written * np.dtype(dtype).itemsize)
            file.write(values[by_key].astype(dtype).tobytes())
        taken, written = until, written + len(by_key)

    for old_first, old_second, rows in base.entries():
        numbers = base._numbers(rows)
        keep = counts[numbers]
        part = (old_first[keep], old_second[keep], (rows + shift[numbers])[keep])
        merge(part, max(taken, int(np.searchsorted(new[0], old_first[-1]))))
    merge(tuple(section[:0] for section in new), len(order))
    if written != n_rows:
        raise BrokenIndex("it numbers rows that are not there")


def check_index(path: Path) -> None:
    """Compare an index with the shards that it names and that can be read.

    Raises:
        BrokenIndex: it does not fit them.
        OSError: it is gone, or cannot be read.
        InputError: a shard is open for writing in another program.
    """
    index = open_index(path, path.parent)
    for number, listed in enumerate(index.shards):
        try:
            shard = open_shard(listed.path)
        except (DamagedShard, OSError):
            # Rows of what is gone are of no consequence.
            continue
        if not index.holds(number, shard.keys):
            raise BrokenIndex(f"it does not fit {listed.path.name}")


def _write_list(file: BinaryIO, shards: Sequence[ListedShard | Shard]) -> int:
    """Write what comes before the entries, and return where these begin."""
    makes: dict[str, int] = {}
    listed: list[tuple[str, int, int]] = []
    for shard in shards:
        shape = [int(size) for size in shard.feature_shape]
        make = json.dumps({"shape": shape, "versions": shard.versions})
        listed.append((shard.path.name, len(shard), makes.setdefault(make, len(makes))))
    content = json.dumps({"makes": [json.loads(make) for make in makes], "shards": listed}).encode()
    digest = hashlib.sha256(content).hexdigest().encode()
    head = b"%s%s %d\n%s" % (_MAGIC, digest, len(content), content)
    file.write(head)
    return _page_after(len(head))


def _page_after(size: int) -> int:
    return -(-size // _PAGE) * _PAGE


def _begin(shards: Sequence[ListedShard]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum([len(shard) for shard in shards])]).astype(np.int64)


def _keys(shards: Sequence[Shard]) -> Iterator[NDArray[np.uint8]]:
    return (shard.keys for shard in shards)
