"""Sharing features: shards of the cache folder to and from a folder elsewhere.

A shard is named by its content and never changes, so that names alone tell what lacks. Nothing is
ever deleted, and several machines may push and pull at once.
"""

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

import numpy as np

from headstart.common import remote
from headstart.common.cache import DIGEST, FEATURES, changing
from headstart.common.errors import InputError
from headstart.common.files import atomic_write
from headstart.common.progress import notify, progress
from headstart.common.system_errors import what_it_said
from headstart.common.urls import check_url, is_url
from headstart.extraction.shard import DamagedShard, open_shard

_SHARD = re.compile(r"[0-9a-f]{32}\.h5")
_AT_A_TIME = 8


class Name(NamedTuple):
    """Which shard: the fingerprint of its extractor, and the name of its file."""

    fingerprint: str
    file: str

    def __str__(self) -> str:
        return f"{FEATURES}/{self.fingerprint}/{self.file}"


class Moved(NamedTuple):
    """What a push or pull did.

    Attributes:
        shards: How many were moved.
        size: Their bytes.
        present: How many were there already.
        damaged: How many were left out, each with a message.
    """

    shards: int
    size: int
    present: int
    damaged: int


def push(cache: Path, place: str, fingerprints: Sequence[str] | None) -> Moved:
    """Copy the shards that a place lacks to it.

    Args:
        cache: The cache folder.
        place: A URL, or a folder of this machine.
        fingerprints: Of which extractors; None for all.

    Raises:
        InputError: the place cannot be listed or written to.
    """
    place = _checked(place)
    here, there = set(_below(cache, fingerprints)), set(_listed(place, fingerprints))
    merged = {name for name in here - there if (parts := _parts(cache, name)) and parts <= there}

    def move(name: Name) -> int | None:
        data = _sound(cache, name)
        if data is not None:
            _put(place, name, data)
        return None if data is None else len(data)

    present = (here & there) | merged
    return _move_all(here - present, len(present), move, "Pushing")


def pull(cache: Path, place: str, fingerprints: Sequence[str] | None) -> Moved:
    """Copy the shards that the cache folder lacks into it, each checked before it appears.

    Args:
        cache: The cache folder.
        place: A URL, or a folder of this machine.
        fingerprints: Of which extractors; None for all.

    Raises:
        InputError: the place cannot be listed or read, or the cache not be written to.
    """
    place = _checked(place)
    here, there = set(_below(cache, fingerprints)), set(_listed(place, fingerprints))
    if there - here:
        here |= {part for name in here for part in _parts(cache, name)}

    def move(name: Name) -> int | None:
        try:
            data = _get(place, name)
            with changing(cache):
                _write_checked(cache / str(name), data)
        except DamagedShard as damage:
            notify(f"warning: {place}/{name}: this shard is damaged: {damage}. It is left out.")
            return None
        except remote.Missing:
            notify(f"warning: {place}/{name}: it is gone meanwhile. It is left out.")
            return None
        return len(data)

    return _move_all(there - here, len(here & there), move, "Pulling")


def _checked(place: str) -> str:
    if not is_url(place):
        return str(Path(place).expanduser().absolute())
    if place.startswith("http"):
        raise InputError(
            f"{place}: expected a place that lists its files, such as s3://bucket/headstart or a "
            "folder, received a web server"
        )
    return check_url(place, "URL").rstrip("/")


def _below(root: Path, fingerprints: Sequence[str] | None) -> Iterator[Name]:
    features = root / FEATURES
    for fingerprint in _names_in(features) if fingerprints is None else fingerprints:
        if DIGEST.fullmatch(fingerprint):
            for file in _names_in(features / fingerprint):
                if _SHARD.fullmatch(file):
                    yield Name(fingerprint, file)


def _names_in(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be listed ({what_it_said(error)}); make it readable, or name another"
        ) from None


def _listed(place: str, fingerprints: Sequence[str] | None) -> Iterator[Name]:
    if not is_url(place):
        yield from _below(Path(place), fingerprints)
        return
    folders = [FEATURES] if fingerprints is None else [f"{FEATURES}/{one}" for one in fingerprints]
    start = len(place) + 1
    for folder in folders:
        with progress(desc="Listing", unit="file") as bar:
            for found in remote.list_below(f"{place}/{folder}"):
                bar.update()
                parts = found.url[start:].split("/")
                if len(parts) == 3 and DIGEST.fullmatch(parts[1]) and _SHARD.fullmatch(parts[2]):
                    yield Name(parts[1], parts[2])


def _parts(cache: Path, name: Name) -> set[Name]:
    """Return the shards that were merged into one; none where it cannot be read."""
    try:
        parts = open_shard(cache / str(name)).parts
    except (DamagedShard, OSError):
        return set()
    return {Name(name.fingerprint, part) for part in parts}


def _sound(cache: Path, name: Name) -> bytes | None:
    """Return a shard's bytes; None, with a message, where it is damaged or cannot be read."""
    path = cache / str(name)
    try:
        _check(path)
        return path.read_bytes()
    except DamagedShard as damage:
        notify(
            f"warning: {path}: this shard is damaged: {damage}. It is left out; `headstart cache "
            "verify` sets it aside."
        )
    except FileNotFoundError:
        notify(f"warning: {path}: it is gone meanwhile. It is left out.")
    except OSError as error:
        notify(f"warning: {path}: cannot be read ({what_it_said(error)}). It is left out.")
    return None


def _put(place: str, name: Name, data: bytes) -> None:
    if is_url(place):
        remote.write(f"{place}/{name}", data)
        return
    with atomic_write(Path(place) / str(name)) as temporary:
        temporary.write_bytes(data)


def _get(place: str, name: Name) -> bytes:
    return (
        remote.read(f"{place}/{name}") if is_url(place) else (Path(place) / str(name)).read_bytes()
    )


def _write_checked(path: Path, data: bytes) -> None:
    """Write a shard that appears only when it is sound and named by its content."""
    with atomic_write(path) as temporary:
        # A shard knows in which folder it belongs.
        folder = temporary.parent / path.parent.name
        folder.mkdir()
        arrived = folder / path.name
        arrived.write_bytes(data)
        _check(arrived)
        arrived.replace(temporary)


def _check(path: Path) -> None:
    shard = open_shard(path)
    for _ in shard.read(np.arange(len(shard))):
        pass


def _move_all(
    names: Iterable[Name], present: int, move: Callable[[Name], int | None], what: str
) -> Moved:
    wanted = sorted(names)
    sizes: list[int | None] = []
    stopping = threading.Event()

    def one(name: Name) -> int | None:
        return None if stopping.is_set() else move(name)

    with (
        ThreadPoolExecutor(_AT_A_TIME) as pool,
        progress(total=len(wanted), desc=what, unit="shard") as bar,
    ):
        futures: list[Future[int | None]] = [pool.submit(one, name) for name in wanted]
        try:
            for future in as_completed(futures):
                sizes.append(future.result())
                bar.update()
        finally:
            stopping.set()  # an error: the rest would meet it, too
    done = [size for size in sizes if size is not None]
    return Moved(len(done), sum(done), present, len(sizes) - len(done))
