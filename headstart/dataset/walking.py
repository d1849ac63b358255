"""What lies below a folder of photos: one rule for all that take such a folder.

Hidden files and what operating systems leave behind are passed over, links are followed but not in
circles, and the order is that of the names.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

IGNORED = frozenset(
    {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "picasa.ini", "__macosx", "__pycache__"}
    # Of network storage, with thumbnails or deleted files; of Windows and of file systems.
    | {"@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "recycler"}
    | {"$recycle.bin", "system volume information", "lost+found"}
)
"""Lower-case names that are never part of a data set."""


class Unlistable(NamedTuple):
    """A folder whose files cannot be told.

    Attributes:
        path: Of the folder.
        reason: Why, in a few words.
    """

    path: str
    reason: str


def is_passed_over(name: str) -> bool:
    """Return whether a file or folder of this name is no part of any data set."""
    return name.startswith(".") or name.lower() in IGNORED


def list_folder(folder: str | Path) -> tuple[list[str], list[str]] | Unlistable:
    """List one folder: the paths of its folders and of its other files, each sorted.

    A link counts as what it leads to; a broken one, or one to itself, as a file, so that reading it
    gives the reason.
    """
    folders: list[str] = []
    files: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not is_passed_over(entry.name):
                    (folders if _is_folder(entry) else files).append(entry.path)
    except OSError as error:
        return Unlistable(Path(folder).as_posix(), _reason(error))
    return sorted(folders), sorted(files)


def files_below(
    folder: str | Path, above: frozenset[tuple[int, int]] = frozenset()
) -> Iterator[str | Unlistable]:
    """Yield the paths of all files below a folder, folder by folder.

    Args:
        folder: Where to start.
        above: `identity` of folders that are not entered again.
    """
    try:
        own = identity(folder)
    except OSError as error:
        yield Unlistable(Path(folder).as_posix(), _reason(error))
        return
    if own in above:  # a link back to where we come from
        return
    listed = list_folder(folder)
    if isinstance(listed, Unlistable):
        yield listed
        return
    folders, files = listed
    yield from files
    for inner in folders:
        yield from files_below(inner, above | {own})


def identity(folder: str | Path) -> tuple[int, int]:
    """Return what tells a folder from every other, however it is reached."""
    status = Path(folder).stat()
    return status.st_dev, status.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _reason(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "no permission to list this folder"
    return f"this folder cannot be listed ({error.strerror})"
