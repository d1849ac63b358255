"""What a tar file holds and where, so that a member is read without the others.

Only headers are read, once; what they say is kept in the cache folder under the tar's state.
Nothing is unpacked: a member's name, whatever it is, is a key and never a path on this machine.
"""

import io
import os
import tarfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import Any, NamedTuple

from headstart.common import remote
from headstart.common.cache import TARS, Keep
from headstart.common.errors import InputError
from headstart.common.urls import is_url

TEXTS = (".cls", ".json")
"""Endings of members that say something of another one, and are read along with the headers."""

_TEXT_BYTES = 2**20
_BLOCK_BYTES = 2**20
_VERSION = 2
# Indices of so many tars stay in memory: readers go through one after the other.
_HELD = 32


class Member(NamedTuple):
    """A file in a tar: where its bytes begin, and how many they are."""

    offset: int
    size: int


class TarIndex(NamedTuple):
    """What a tar holds.

    Attributes:
        members: Its ordinary files by their names, without a leading ./ or /, in the tar's order.
        texts: What those that end in one of `TEXTS` hold.
    """

    members: dict[str, Member]
    texts: dict[str, str]


class UnusableTar(InputError):
    """A tar cannot be read, or is none."""


def index_of(tar: str, *, again: bool = False) -> TarIndex:
    """Return what a tar holds: what is kept of it in its present state, or what its headers say.

    Args:
        tar: Path or URL.
        again: Whether to ask a store for the state of a tar that this process has asked for.

    Raises:
        UnusableTar: it is none, compressed or damaged, or two members have one name.
        RemoteError: its store does not hand it out.
        OSError: as `os.stat` raises it, of a tar on this machine.
    """
    with _lock:
        only_one = _locks.setdefault(tar, Lock())
    # Many threads ask for it at once, and one of them looks.
    with only_one:
        return _index_of(tar, _state_of(tar, again=again))


def _index_of(tar: str, state: str) -> TarIndex:
    held = (tar, state)
    with _lock:
        if state and held in _indices:
            _indices.move_to_end(held)
            return _indices[held]
    keep, key = Keep(TARS), {"tar": tar, "state": state, "version": _VERSION}
    content = keep.get(key) if state else None
    if content is None:
        content = _walk(tar)
        if state:
            keep.put(key, content)
    index = TarIndex(
        {name: Member(offset, size) for name, offset, size in content["members"]},
        content["texts"],
    )
    with _lock:
        _indices[held] = index
        while len(_indices) > _HELD:
            _indices.popitem(last=False)
    return index


_indices: OrderedDict[tuple[str, str], TarIndex] = OrderedDict()
_states: dict[str, str] = {}
_locks: dict[str, Lock] = {}
_lock = Lock()


def _state_of(tar: str, *, again: bool) -> str:
    """Return what tells a tar's content from others; empty where nothing does."""
    if not is_url(tar):
        status = Path(tar).stat()
        place = (status.st_dev, status.st_ino, status.st_size)
        return repr((*place, status.st_mtime_ns, status.st_ctime_ns))
    if again or tar not in _states:
        found = remote.look(tar)
        _states[tar] = repr(found) if found and (found.tag or found.modified) else ""
    return _states[tar]


def read_member(tar: str, member: Member) -> bytes:
    """Read a member.

    Raises:
        UnusableTar: the tar ends before the member does.
        RemoteError: its store does not hand it out.
        OSError: as `open` raises it, of a tar on this machine.
    """
    if not member.size:
        return b""
    if is_url(tar):
        data = remote.read(tar, member.offset, member.offset + member.size)
    else:
        with Path(tar).open("rb") as file:
            file.seek(member.offset)
            data = file.read(member.size)
    if len(data) != member.size:
        raise UnusableTar(f"{tar}: the tar ends before its members do; copy it anew")
    return data


def _walk(tar: str) -> dict[str, Any]:
    """Read the headers, and the texts, which lie beside them."""
    members: dict[str, tuple[int, int]] = {}
    texts: dict[str, str] = {}
    try:
        with _opened(tar) as file, tarfile.open(fileobj=file, mode="r:") as opened:
            while (info := opened.next()) is not None:
                # It would keep all of them; its type tells nothing of that list.
                opened.members = []  # type: ignore[attr-defined]
                if not info.isreg():
                    continue
                if info.issparse():
                    raise UnusableTar(f"{tar}: {info.name!r} is a sparse file; pack it plainly")
                name = _as_path(info.name)
                if name in members:
                    raise UnusableTar(f"{tar}: holds {name!r} twice; pack it anew")
                members[name] = info.offset_data, info.size
                if name.lower().endswith(TEXTS):
                    texts[name] = _text(tar, file, info)
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise _why_no_tar(tar, error) from None
    return {
        "members": [[name, offset, size] for name, (offset, size) in members.items()],
        "texts": texts,
    }


def _as_path(name: str) -> str:
    """Return a member's name as a path through the tar has it; `tar -C folder .` writes ./1.jpg."""
    return PurePosixPath(name.lstrip("/")).as_posix()


def _text(tar: str, file: io.BufferedIOBase, info: tarfile.TarInfo) -> str:
    if info.size > _TEXT_BYTES:
        raise UnusableTar(
            f"{tar}: {info.name!r} has {info.size:,} bytes; at most {_TEXT_BYTES:,} are read of a "
            "label's file"
        )
    place = file.tell()
    file.seek(info.offset_data)
    data = file.read(info.size)
    file.seek(place)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UnusableTar(f"{tar}: {info.name!r} is not UTF-8; save it so") from None


def _why_no_tar(tar: str, error: Exception) -> UnusableTar:
    with _opened(tar) as file:
        start = file.read(6)
    packed = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")
    if start.startswith(packed):
        return UnusableTar(
            f"{tar}: a compressed tar, whose members cannot be read one by one; unpack it to a "
            "plain .tar (photos hardly shrink)"
        )
    return UnusableTar(f"{tar}: no tar, or a damaged one ({error}); pack or copy it anew")


def _opened(tar: str) -> io.BufferedReader:
    if not is_url(tar):
        return Path(tar).open("rb")
    found = remote.look(tar)
    if found is None or found.size is None:
        raise UnusableTar(f"{tar}: its server does not tell its size; copy it to another place")
    blocks = _Blocks(lambda start, end: remote.read(tar, start, end), found.size)
    return io.BufferedReader(blocks, _BLOCK_BYTES)


class _Blocks(io.RawIOBase):
    """A remote file, read in ranges as large as is asked for."""

    def __init__(self, read: Callable[[int, int], bytes], size: int) -> None:
        self._read, self._size, self._at = read, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = origin + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        end = min(self._at + len(buffer), self._size)
        if end <= self._at:
            return 0
        data = self._read(self._at, end)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
