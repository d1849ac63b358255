"""Files that say whether they are as they were written: a digest of everything, checked first.

HDF5 files carry it in front of the first byte that the HDF5 library reads, in 4096 bytes that HDF5
calls the user block, as ASCII lines with zeros behind:

    headstart seal 1 <sha256 of all that follows, the payload left out>
    <kind and format of the file>
    size <of the file in bytes>
    payload <offset> <length> <its digest, or - where each of its rows has a checksum of its own>

The payload is one large range, hashed in blocks by several threads; most files have none. JSON
files carry the digest of all following lines as their first value, tables in a file beside them,
which `sha256sum --check` reads. What fits its digest is trusted: readers do not check it again.
"""

import fcntl
import hashlib
import json
import os
import re
import stat
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.common.errors import InputError
from headstart.common.files import atomic_write, sha256_of
from headstart.common.hdf5 import open_hdf5
from headstart.common.project import missing

if TYPE_CHECKING:
    import h5py
    import numpy.typing as npt

# A page: what HDF5 aligns to pages behind it lies on pages of the file.
USER_BLOCK = 4096
NO_DIGEST = "-"
"""Of a payload whose rows are checked one by one, when they are read."""

_MAGIC = b"headstart seal 1 "
_DIGEST_LINE = len(_MAGIC) + 65
_LINES = re.compile(
    rb"([a-z]+ \d{1,9})\nsize (\d{1,18})\npayload (\d{1,18}) (\d{1,18}) ([0-9a-f]{64}|-)\n\0+"
)
_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_JSON_START = re.compile(rb'\{\n  "sha256": "([0-9a-f]{64})",?\n')
# Hashed by one thread at a time, read in pieces.
_BLOCK_BYTES = 16 * 2**20
_PIECE_BYTES = 2**20
# Clocks of file systems tick this often at least; only then a second change shows in the time.
_TICK_NANOSECONDS = 2 * 10**9

_checked: dict[tuple[object, ...], str] = {}


class BrokenSeal(Exception):
    """A file is not as it was written; the message says in what."""


@contextmanager
def create_sealed_h5(path: Path, kind: str) -> Iterator["h5py.File"]:
    """Give a new HDF5 file to fill; it is sealed and appears under its name if the block succeeds.

    Args:
        path: The file.
        kind: What it is and in which format, such as "novelty 2".
    """
    with atomic_write(path) as temporary:
        with open_hdf5(temporary, userblock_size=USER_BLOCK) as file:
            yield file
        seal_h5(temporary, kind)


@contextmanager
def open_sealed_h5(path: Path, kind: str, remedy: str) -> Iterator["h5py.File"]:
    """Give a sealed HDF5 file to read, once it has proved to be as it was written.

    Args:
        path: The file.
        kind: As it was created with.
        remedy: What to do if it cannot be used, such as "run `dvc repro train` to write it anew".

    Raises:
        InputError: the file is missing, of another kind or format, not as it was written, or open
            for writing in another program.
    """
    require_seal(path, kind, remedy)
    with open_h5(path) as file:
        yield file


@contextmanager
def open_h5(path: Path) -> Iterator["h5py.File"]:
    """Give an HDF5 file that was checked to read; see `open_sealed_h5`."""
    import h5py

    try:
        file = h5py.File(path, "r")
    except BlockingIOError:
        raise _locked(path) from None
    with file:
        yield file


def require_seal(path: Path, kind: str, remedy: str) -> str:
    """Return the digest of a sealed HDF5 file; see `open_sealed_h5`."""
    try:
        return check_seal(path, kind)
    except FileNotFoundError:
        raise missing(path, remedy) from None
    except BrokenSeal as broken:
        raise InputError(f"{path}: {broken}: {remedy}") from None
    except OSError as error:
        raise InputError(f"{path}: it cannot be read ({error.strerror}): {remedy}") from None


def seal_h5(
    path: Path, kind: str, payload: tuple[int, int] | None = None, *, rows_checked: bool = False
) -> None:
    """Write the seal of an HDF5 file with an empty user block.

    Args:
        path: The file.
        kind: What it is and in which format.
        payload: Offset and length of the large range, if there is one.
        rows_checked: Whether the file holds checksums of the payload's rows, so that the payload
            needs no digest.
    """
    with path.open("rb+") as file:
        descriptor = file.fileno()
        size = os.fstat(descriptor).st_size
        offset, length = payload or (size, 0)
        own = NO_DIGEST if rows_checked else _tree_digest(descriptor, offset, length)
        lines = f"{kind}\nsize {size}\npayload {offset} {length} {own}\n".encode()
        block = lines.ljust(USER_BLOCK - _DIGEST_LINE, b"\0")
        digest = _digest(descriptor, block, size, offset, length)
        file.write(_MAGIC + digest.encode() + b"\n" + block)


def check_seal(path: Path, kind: str) -> str:
    """Compare a sealed HDF5 file with its digest, without the HDF5 library.

    A payload without a digest is left out. A file that was found in order is not read again in
    this process while its size and time stay what they were.

    Returns:
        The digest, which stands for the whole content.

    Raises:
        BrokenSeal: it is of another kind or format, or not as it was written.
        OSError: there is none, or the system will not read it, whatever is in it.
        InputError: it is open for writing in another program.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise BrokenSeal("expected a file, received something else")
        with path.open("rb") as file:
            descriptor = file.fileno()
            refuse_locked(path, descriptor)
            status = os.fstat(descriptor)
            key = (kind, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
            if key not in _checked:
                digest = _check(descriptor, status.st_size, kind)
                if time.time_ns() - status.st_mtime_ns < _TICK_NANOSECONDS:
                    return digest
                _checked[key] = digest
            return _checked[key]
    except IsADirectoryError:
        raise BrokenSeal("expected a file, received a folder") from None


def refuse_locked(path: Path, descriptor: int) -> None:
    """Refuse a file that another program has open for writing, and keep it from being opened so.

    Args:
        path: The file.
        descriptor: It, open for reading; the lock lasts until it is closed.

    Raises:
        InputError: another program writes to it.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _locked(path) from None
    except OSError:
        # A file system without locks.
        pass


def require_digest(path: Path, digest: str, card: Path, remedy: str) -> None:
    """Refuse a file that is not the one whose digest stands in a sealed card.

    Args:
        path: The file.
        digest: Its sha256 according to the card.
        card: The card.
        remedy: What to do if it is another file.

    Raises:
        InputError: it is another file, missing, or open for writing in another program.
    """
    found = None
    with suppress(FileNotFoundError), path.open("rb") as file:
        refuse_locked(path, file.fileno())
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != digest:
        raise InputError(
            f"{path}: expected the file that {card} belongs to (sha256 {digest[:12]}...), received "
            f"{'another' if found else 'none'}: {remedy}"
        )


def _locked(path: Path) -> InputError:
    return InputError(f"{path}: open for writing in another program; close it there and run again")


def is_unsealed_h5(path: Path) -> bool:
    """Return whether a file is HDF5 as releases before the seal wrote it.

    Raises:
        FileNotFoundError: there is none.
        InputError: it is open for writing in another program.
    """
    with path.open("rb") as file:
        refuse_locked(path, file.fileno())
        return file.read(len(_HDF5_SIGNATURE)) == _HDF5_SIGNATURE


def _check(descriptor: int, size: int, kind: str) -> str:
    block = os.pread(descriptor, USER_BLOCK, 0)
    if block.startswith(_HDF5_SIGNATURE):
        raise BrokenSeal("written by an older release, without a digest")
    if not block.startswith(_MAGIC):
        raise BrokenSeal("not a file that Headstart wrote, or its beginning is damaged")
    digest, block = block[len(_MAGIC) : _DIGEST_LINE - 1], block[_DIGEST_LINE:]
    lines = _LINES.fullmatch(block)
    if not lines:
        raise BrokenSeal("its beginning is damaged")
    if lines[1] != kind.encode():
        raise BrokenSeal(f"expected a file of format {kind!r}, received {lines[1].decode()!r}")
    whole, offset, length = (int(lines[number]) for number in (2, 3, 4))
    if size != whole:
        raise BrokenSeal(f"expected {whole:,} bytes, received {size:,}")
    found = _digest(descriptor, block, size, offset, length)
    changed = found.encode() != digest
    # Only if it fits, the payload's range and digest are those that were written.
    if not changed and lines[5] != NO_DIGEST.encode():
        changed = _tree_digest(descriptor, offset, length).encode() != lines[5]
    if changed:
        raise BrokenSeal("it was damaged or changed after it was written (sha256)")
    return found


def _digest(descriptor: int, block: bytes, size: int, offset: int, length: int) -> str:
    """Return the sha256 of the header's lines and of the file, the payload left out."""
    found = hashlib.sha256(block)
    for start, stop in ((USER_BLOCK, min(offset, size)), (offset + length, size)):
        _hash(found, descriptor, start, stop)
    return found.hexdigest()


def _tree_digest(descriptor: int, offset: int, length: int) -> str:
    """Return the sha256 of the sha256s of a range's blocks, each hashed by one thread."""

    def one(start: int) -> bytes:
        found = hashlib.sha256()
        _hash(found, descriptor, start, min(start + _BLOCK_BYTES, offset + length))
        return found.digest()

    starts = range(offset, offset + length, _BLOCK_BYTES)
    with ThreadPoolExecutor(max(1, min(len(starts), os.cpu_count() or 1))) as pool:
        return hashlib.sha256(b"".join(pool.map(one, starts))).hexdigest()


def _hash(found: "hashlib._Hash", descriptor: int, start: int, stop: int) -> None:
    buffer = bytearray(min(_PIECE_BYTES, max(0, stop - start)))
    while start < stop:
        view = memoryview(buffer)[: stop - start]
        count = os.preadv(descriptor, [view], start)
        if not count:
            raise BrokenSeal("it was cut short while it was read")
        found.update(view[:count])
        start += count


def require_finite(what: str, values: "npt.ArrayLike", remedy: str) -> None:
    """Refuse to write numbers that nobody can compute with.

    Args:
        what: What to call them in the message.
        values: Of any shape.
        remedy: What to do.

    Raises:
        InputError: one of them is NaN or infinite.
    """
    import numpy as np

    if not np.isfinite(values).all():
        raise InputError(f"{what}: expected finite numbers, received NaN or infinity: {remedy}")


def write_sealed_json(path: Path, content: dict[str, Any]) -> None:
    """Write an object as indented JSON, atomically, with the digest of all that follows it first.

    Raises:
        ValueError: `content` holds NaN or infinity, or a key "sha256" of its own.
    """
    if "sha256" in content:
        raise ValueError("sha256 is what the digest of the file is called")
    text = json.dumps({"sha256": "", **content}, indent=2, ensure_ascii=False, allow_nan=False)
    _, line, rest = f"{text}\n".split("\n", 2)
    digest = hashlib.sha256(rest.encode()).hexdigest()
    with atomic_write(path) as temporary:
        sealed = "\n".join(["{", line.replace('""', f'"{digest}"'), rest])
        temporary.write_text(sealed, encoding="utf-8")


def read_sealed_json(path: Path, remedy: str) -> dict[str, Any]:
    """Read what `write_sealed_json` wrote, once it has proved to be as it was written.

    Args:
        path: The file.
        remedy: What to do if it cannot be used.

    Raises:
        InputError: the file is missing, not as it was written, or no JSON.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise missing(path, remedy) from None
    except OSError as error:
        raise InputError(f"{path}: it cannot be read ({error.strerror}): {remedy}") from None
    start = _JSON_START.match(data)
    if not start:
        raise InputError(
            f"{path}: expected JSON that begins with the sha256 of the rest, received other text, "
            f"damaged or written by an older release: {remedy}"
        )
    if hashlib.sha256(data[start.end() :]).hexdigest().encode() != start[1]:
        raise InputError(
            f"{path}: it was damaged or changed after it was written (sha256): {remedy}"
        )
    try:
        content: dict[str, Any] = json.loads(data, parse_constant=_refuse_constant)
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error}): {remedy}") from None
    del content["sha256"]
    return content


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def checksum_file(path: Path) -> Path:
    """Return where the digest of a table lies: beside it."""
    return path.with_name(f"{path.name}.sha256")


def write_checksum(path: Path) -> None:
    """Write the digest of a table beside it, as `sha256sum` does."""
    with atomic_write(checksum_file(path)) as temporary:
        temporary.write_text(_checksum_line(sha256_of(path), path), encoding="utf-8")


def read_checked(path: Path, remedy: str) -> bytes:
    """Read a table, once its digest has proved to be the one beside it.

    Args:
        path: The table.
        remedy: What to do if it cannot be used.

    Raises:
        InputError: the table or its digest is missing, or they do not fit each other.
    """
    beside = checksum_file(path)
    try:
        data, line = path.read_bytes(), beside.read_bytes()
    except FileNotFoundError as error:
        raise missing(Path(error.filename), remedy) from None
    except OSError as error:
        raise InputError(
            f"{error.filename}: it cannot be read ({error.strerror}): {remedy}"
        ) from None
    if line != _checksum_line(hashlib.sha256(data).hexdigest(), path).encode():
        raise InputError(
            f"{path}: its sha256 is not the one in {beside}: one of the two was damaged or changed "
            f"after it was written: {remedy}"
        )
    return data


def _checksum_line(digest: str, path: Path) -> str:
    return f"{digest}  {path.name}\n"
