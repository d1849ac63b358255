"""Reading the files of a source, each once, into photos and files that are left out."""

import os
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import PurePosixPath
from typing import NamedTuple

from headstart.common.progress import progress
from headstart.common.urls import suffix_of
from headstart.dataset.descriptions import settled
from headstart.dataset.file_states import FileState, states_of
from headstart.dataset.inspecting import inspect_file
from headstart.dataset.inspections import Inspected, Inspections
from headstart.dataset.listing import SourceFile
from headstart.images import decoding
from headstart.images.decoding import MAX_BYTES, SUFFIXES, UnreadableImage

_FILES_PER_TASK = 16


class Photo(NamedTuple):
    """An image that can be read."""

    file: SourceFile
    found: Inspected

    @property
    def sha256(self) -> str:
        """Digest of the file's bytes."""
        return self.found.sha256


class Reject(NamedTuple):
    """A file that is left out, a line of data/quarantine.csv."""

    path: str
    reason: str
    image_like: bool
    lasting: bool = True
    """Whether reading the same file again would end the same."""

    @classmethod
    def loose(cls, path: str) -> "Reject":
        """Leave out an image that nothing gives a label."""
        return cls(path, "in no class folder", True)


def read_photos(
    files: Sequence[SourceFile], loose: bool, keep: Callable[[Photo], Photo] = lambda photo: photo
) -> tuple[list[Photo], list[Reject]]:
    """Read each file once, unless it is known.

    Args:
        files: Sorted by path.
        loose: Whether images in no class folder are read, too.
        keep: What is kept of each image; it is called in their order.

    Returns:
        The images and the other files, each sorted by path.
    """
    photos: list[Photo] = []
    rejects: list[Reject] = []
    with Inspections() as known, progress(total=len(files), desc="Checking images") as bar:
        for results in _in_threads(files, known, loose):
            for result in results:
                if isinstance(result, Photo):
                    photos.append(keep(result))
                else:
                    rejects.append(result)
            bar.update(len(results))
    return photos, rejects


def _in_threads(
    files: Iterable[SourceFile], known: Inspections, loose: bool
) -> Iterator[list[Photo | Reject]]:
    """Inspect files in parallel and in order, with a bounded number of them under way."""
    workers = os.cpu_count() or 1
    remaining = iter(files)
    pending: deque[tuple[list[FileState | None], Future[list[Photo | Reject]]]] = deque()
    with decoding.reading_ahead() as read_soon, ThreadPoolExecutor(workers) as pool:
        try:
            while True:
                while len(pending) < 3 * workers and (
                    task := list(islice(remaining, _FILES_PER_TASK))
                ):
                    states = states_of([file.path for file in task])
                    found = known.find([state for state in states if state is not None])
                    read_soon(_to_read(task, states, found, loose))
                    future = pool.submit(_inspect_all, task, states, found, loose)
                    pending.append((states, future))
                if not pending:
                    return
                states, future = pending.popleft()
                results = future.result()
                known.add(
                    settled(
                        (result.file.path, state, result.found)
                        for state, result in zip(states, results, strict=True)
                        if isinstance(result, Photo)
                    )
                )
                yield results
        finally:
            # An error, such as a store that does not answer: the rest need not be read.
            pool.shutdown(wait=False, cancel_futures=True)


def _to_read(
    files: Sequence[SourceFile],
    states: Sequence[FileState | None],
    known: Container[FileState | None],
    loose: bool,
) -> list[str]:
    """Return what `_inspect_all` will read as a whole."""
    return [
        file.path
        for file, state in zip(files, states, strict=True)
        if state not in known
        and (state is None or state.size <= MAX_BYTES)
        and (file.label or loose)
        and (file.listed or suffix_of(file.path) in SUFFIXES)
    ]


def _inspect_all(
    files: Sequence[SourceFile],
    states: Sequence[FileState | None],
    known: dict[FileState, Inspected],
    loose: bool,
) -> list[Photo | Reject]:
    return [
        Photo(file, known[state])
        if state is not None and state in known and (file.label or loose)
        else _inspect(file, loose)
        for file, state in zip(files, states, strict=True)
    ]


def _inspect(file: SourceFile, loose: bool) -> Photo | Reject:
    try:
        file.path.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(file.path).decode("utf-8", "backslashreplace")
        reason = "file name is not UTF-8; rename it"
        return Reject(shown, reason, decoding.is_image_like(file.path))
    if not file.listed and not decoding.is_image_like(file.path):
        suffix = PurePosixPath(file.path).suffix
        kind = f"a {suffix} file" if suffix else "a file without an ending"
        return Reject(file.path, f"not an image: {kind}", False)
    if not (file.label or loose):
        return Reject.loose(file.path)
    try:
        return Photo(file, inspect_file(file.path))
    except UnreadableImage as error:
        if not file.label:
            return Reject.loose(file.path)._replace(lasting=error.lasting)
        return Reject(file.path, error.reason, True, error.lasting)
