"""Writing files so that a kill at any moment leaves the old one or the new one, never a half."""

import csv
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from headstart.common.system_errors import writing
from headstart.common.temporaries import REPLACED, temporary_folder

_OVERHEAD = 2**20


@contextmanager
def atomic_write(path: Path, room: int = 0) -> Iterator[Path]:
    """Give a temporary path; move it to `path` when the block succeeds.

    Args:
        path: The file to write; its folder is made when missing.
        room: See `expect_room`.

    Yields:
        The path to write to, of the same suffixes. After the block it is flushed to disk and
        renamed; when the block raises it is deleted and `path` is untouched.

    Raises:
        WriteError: the system refuses to make, write, flush or rename it.
    """
    with writing(path), temporary_folder(path.parent) as folder:
        # Some writers choose the format by the suffixes.
        temporary = folder / f"new-{path.name}"
        temporary.touch(exist_ok=False)
        if room:
            expect_room(folder, room)
        yield temporary
        _flush(temporary)
        temporary.replace(path)
        _flush(path.parent)


def reserve(descriptor: int, size: int) -> None:
    """Make a file so many bytes long, and sure to have them; where the system cannot, do nothing.

    Who writes through a map of a file without is killed when the disk is full.

    Raises:
        OSError: the disk has no room, or files may not be so long.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)


def expect_room(folder: Path, size: int) -> None:
    """Make sure of the room for arrays that a library is about to write by itself.

    Those in C++ fail without the system's words where the disk is full, or crash; see `open_hdf5`.

    Args:
        folder: Where they will lie.
        size: Of the arrays in bytes; something is added for what stands around them.

    Raises:
        OSError: there is no room for them, or files may not be so long.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        reserve(file.fileno(), size + _OVERHEAD)


@contextmanager
def atomic_folder(path: Path, *, flush: bool = True) -> Iterator[Path]:
    """Give an empty folder; put it in the place of `path`, as a whole, when the block succeeds.

    Args:
        path: The folder to write.
        flush: Whether its files must outlast a power cut, which takes 10 ms for each.

    Raises:
        WriteError: as `atomic_write`.
    """
    with writing(path), temporary_folder(path.parent) as temporary:
        filled, replaced = temporary / "new", temporary / f"{REPLACED}{path.name}"
        filled.mkdir()
        yield filled
        for below in filled.rglob("*") if flush else ():
            if below.is_file() and not below.is_symlink():
                _flush(below)
        if os.path.lexists(path):
            path.rename(replaced)
        try:
            filled.rename(path)
        except BaseException:
            if os.path.lexists(replaced):
                replaced.rename(path)
            raise
        _flush(path.parent)


def copy_folder(source: Path, target: Path) -> None:
    """Copy the files below a folder, which may be read-only, as ordinary ones."""
    with writing(target):
        target.mkdir(parents=True)
        for path in sorted(source.rglob("*")):
            copy = target / path.relative_to(source)
            if path.is_dir():
                copy.mkdir()
            else:
                shutil.copyfile(path, copy)


def _flush(path: Path) -> None:
    """Write a file or a folder's list of names to the disk.

    Without that of the folder a power cut could lose a rename though the data reached the disk.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, keys in the order given, atomically.

    Raises:
        ValueError: `content` holds NaN or infinity, which JSON has no way to say.
    """
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read what `write_json` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


def sha256_of(path: Path) -> str:
    """Return the hexadecimal sha256 of a file's bytes, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_table(path: Path, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a CSV file, UTF-8, lines ended by a newline alone, atomically.

    Args:
        path: The file.
        columns: The header line.
        rows: Values in the order of `columns`.
    """
    with (
        atomic_write(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def digest_of(content: Any) -> str:
    """Return the hexadecimal sha256 of the canonical JSON of `content`."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
