"""Writing files so that a kill at any moment leaves the old one or the new one, never a half."""

import csv
import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; move it there when the block succeeds.

    Args:
        path: The file to write; its folder is made when missing.

    Yields:
        The path to write to. After the block it is flushed to disk and renamed; when the block
        raises it is deleted and `path` is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    try:
        temporary.touch(exist_ok=False)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def temporary_name(path: Path) -> Path:
    """Return a new, hidden name beside `path` for what will become it.

    It keeps all suffixes, since some writers choose the format by them. A file or folder made
    under it in the ordinary way has the ordinary mode, unlike those that `tempfile` makes.
    """
    return path.with_name(f".{secrets.token_hex(4)}-{path.name}")


def _sync_folder(folder: Path) -> None:
    # Without this a power cut could lose the rename though the data reached the disk.
    descriptor = os.open(folder, os.O_RDONLY)
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
