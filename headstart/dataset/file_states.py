"""Telling whether a file is still what it was, without reading it.

A state is what the file system says of a file, under whatever name: any write, also one that puts
the old time back, changes the time of the last change of its status. Of a remote file it is what
its store says: the tag (ETag), or without one the time and the size. That is asked for where the
source is listed, and kept, so that later stages need not ask for each photo again: they mean the
files as they were then, and read none without comparing its digest.
"""

import hashlib
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import NamedTuple

from headstart.common import remote
from headstart.common.cache import INSPECTIONS
from headstart.common.cache_table import CacheTable, key_of
from headstart.common.code import digest_of_code
from headstart.common.files import digest_of
from headstart.common.progress import progress
from headstart.common.remote import Found, RemoteError
from headstart.common.urls import is_url, split_member

_CODE = ("common", "images", "dataset")
_LIBRARIES = ("numpy", "opencv-python-headless", "pillow", "scipy", "simplejpeg")
# File systems count time in steps of up to two seconds (FAT).
_STEP_NS = 2 * 10**9
_ELSEWHERE = -1
_PACKED = struct.Struct("<16sq")
# Fewer are asked for one by one; more that lie in one folder are listed with it.
_LISTED_FROM = 100
_KEPT_AT_ONCE = 10_000
_DIGEST = digest_of("states of remote files 1")


class FileState(NamedTuple):
    """What tells whether a file is still the same, without reading it.

    Attributes:
        device: Number of the file system; `_ELSEWHERE` for others than this machine's.
        inode: Number in it; elsewhere made of the URL and of what tells its content.
        size: In bytes; elsewhere -1 where it is not told.
        modified_ns: Time of the last write; elsewhere 0, as a write changes the inode.
        changed_ns: Time of the last change of its status; elsewhere 0.
    """

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    def is_settled(self, now_ns: int) -> bool:
        """Return whether a later write would show; one within a step of the clock would not."""
        return max(self.modified_ns, self.changed_ns) < now_ns - _STEP_NS


def state_of(path: str) -> FileState | None:
    """Return a file's state, or that of what a link leads to; None where there is none."""
    if is_url(path):
        return states_of([path])[0]
    try:
        status = os.stat(path)  # noqa: PTH116 - a Path per photo doubles the time of a million
    except NotADirectoryError:
        member = split_member(path)
        return None if member is None else _within(state_of(member[0]), member[1])
    except (OSError, ValueError):
        return None
    return FileState(
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


def states_of(paths: Sequence[str]) -> list[FileState | None]:
    """Return the states of several files, asking stores for many at a time.

    What this process, or else one before, has been told of a remote file is not asked again.
    """
    files = list(dict.fromkeys(_file_of(path) for path in paths if is_url(path)))
    unknown = [url for url in files if url not in _told]
    if unknown:
        _recall(unknown)
        look_at([url for url in unknown if url not in _told])
    return [_state_elsewhere(path) if is_url(path) else state_of(path) for path in paths]


def _file_of(path: str) -> str:
    member = split_member(path)
    return path if member is None else member[0]


def _state_elsewhere(url: str) -> FileState | None:
    member = split_member(url)
    return _told[url] if member is None else _within(_told[member[0]], member[1])


def _within(tar: FileState | None, member: str) -> FileState | None:
    """Return the state of a member: it changes with its tar."""
    if tar is None:
        return None
    number = hashlib.sha256(repr((tar, member)).encode()).digest()[:16]
    return tar._replace(device=_ELSEWHERE, inode=int.from_bytes(number), size=-1)


_told: dict[str, FileState | None] = {}


def take_in(found: Iterable[Found]) -> Iterator[str]:
    """Remember what a store tells of files, and yield their URLs."""
    for one in found:
        _told[one.url] = _state(one)
        yield one.url


def look_at(urls: Sequence[str]) -> None:
    """Ask stores what files are like now; none that is missing or tells nothing has a state.

    Raises:
        InputError: a package or credentials are missing.
    """
    folders: dict[str, list[str]] = {}
    for url in urls:
        folders.setdefault(url.rpartition("/")[0], []).append(url)
    single: list[str] = []
    with progress(total=len(urls), desc="Asking for states", unit="file") as bar:
        for folder, inside in folders.items():
            if len(inside) < _LISTED_FROM or folder.startswith("http"):
                single += inside
                continue
            wanted = set(inside)
            _told.update(dict.fromkeys(inside))
            listed = remote.list_below(folder, deep=False)
            for _ in take_in(one for one in listed if one.url in wanted):
                bar.update()
        with ThreadPoolExecutor(remote.IN_FLIGHT) as pool:
            for url, found in zip(single, pool.map(_look, single), strict=True):
                _told[url] = None if found is None else _state(found)
                bar.update()
    keep(urls)


def _look(url: str) -> Found | None:
    try:
        return remote.look(url)
    except RemoteError as error:
        # Whoever reads it is told why. A store that does not answer would hold up all the others;
        # of web servers a table may name many.
        if error.lasting or url.startswith("http"):
            return None
        raise


def _state(found: Found) -> FileState | None:
    if not (found.tag or found.modified):
        return None
    # A tag alone, so that the same content written again is not read again.
    what = (found.url, found.tag or found.modified)
    number = hashlib.sha256(repr(what).encode()).digest()[:16]
    size = -1 if found.size is None else found.size
    return FileState(_ELSEWHERE, int.from_bytes(number), size, 0, 0)


def note_read(url: str, data: bytes) -> None:
    """Compare what was read of a remote file with what was told; ask again where they differ.

    It may have been written between the listing and the reading, and what it holds now must not be
    kept as what it held then.
    """
    state = _told.get(url)
    # The tag of an object that came in one piece. Source: Amazon S3 API Reference, "Object".
    tag = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if state is not None and state != _state(Found(url, len(data), tag, "")):
        found = _look(url)
        _told[url] = None if found is None else _state(found)


def keep(urls: Sequence[str]) -> None:
    """Keep the states of remote files for the processes that come after."""
    with CacheTable(INSPECTIONS, _DIGEST) as table:
        for start in range(0, len(urls), _KEPT_AT_ONCE):
            now = {
                key_of(url): _PACKED.pack(state.inode.to_bytes(16), state.size)
                for url in urls[start : start + _KEPT_AT_ONCE]
                if (state := _told.get(url)) is not None
            }
            before = table.find(list(now))
            table.add({key: one for key, one in now.items() if before.get(key) != one})


def _recall(urls: Sequence[str]) -> None:
    keys = {key_of(url): url for url in urls}
    with CacheTable(INSPECTIONS, _DIGEST) as table:
        for key, packed in table.find(list(keys)).items():
            number, size = _PACKED.unpack(packed)
            _told[keys[key]] = FileState(_ELSEWHERE, int.from_bytes(number), size, 0, 0)


def digest_of_checking() -> str:
    """Return the digest of all that decides what checking a file finds, besides the file."""
    return digest_of(
        {
            "code": digest_of_code(_CODE),
            "versions": {name: version(name) for name in _LIBRARIES},
        }
    )
