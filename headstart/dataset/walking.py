"""What lies below a folder of photos: one rule for all that take such a folder.

Hidden files and what operating systems leave behind are passed over, links are followed but not in
circles, and the order is that of the names.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from headstart.common.progress import progress
from headstart.common.remote import list_below
from headstart.common.urls import name_of
from headstart.dataset.file_states import keep, take_in

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


class Folder(Protocol):
    """A folder of a source, wherever it lies."""

    @property
    def path(self) -> str:
        """Posix path or URL."""

    @property
    def name(self) -> str:
        """The last part of the path."""

    def listed(self) -> "tuple[Sequence[Folder], list[str]] | Unlistable":
        """Return its folders and the paths of its other files, each sorted."""

    def below(self, above: "Folder") -> Iterator[str | Unlistable]:
        """Yield the paths of all files below it, without entering `above` again."""


@dataclass(frozen=True, slots=True)
class LocalFolder:
    """A folder on this machine."""

    path: str

    @property
    def name(self) -> str:
        """The last part of the path."""
        return Path(self.path).name

    def listed(self) -> tuple[Sequence[Folder], list[str]] | Unlistable:
        """Return its folders and the paths of its other files, each sorted."""
        listed = list_folder(self.path)
        if isinstance(listed, Unlistable):
            return listed
        return [LocalFolder(path) for path in listed[0]], listed[1]

    def below(self, above: Folder) -> Iterator[str | Unlistable]:
        """Yield the paths of all files below it, without entering `above` again."""
        yield from files_below(self.path, frozenset({identity(above.path)}))


@dataclass(frozen=True, slots=True)
class RemoteFolder:
    """A part of the names in an object store, listed as a whole with what is below it."""

    path: str
    folders: "dict[str, RemoteFolder]" = field(default_factory=dict)
    files: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return name_of(self.path)

    def listed(self) -> tuple[Sequence[Folder], list[str]]:
        """Return its folders and the URLs of its other files, each sorted."""
        return [self.folders[name] for name in sorted(self.folders)], sorted(self.files)

    def below(self, above: Folder) -> Iterator[str]:
        """Yield the URLs of all files below it; there are no links that could lead back."""
        yield from sorted(self.files)
        for name in sorted(self.folders):
            yield from self.folders[name].below(above)

    def inner(self, name: str) -> "RemoteFolder":
        """Return a folder in it, made if it is new."""
        if name not in self.folders:
            self.folders[name] = RemoteFolder(f"{self.path}/{name}")
        return self.folders[name]


def list_remote(url: str) -> RemoteFolder | None:
    """List what an object store holds below a URL, and what it tells of each file.

    Returns:
        The folder; None where no name begins so.

    Raises:
        InputError: the store does not list it.
    """
    root = RemoteFolder(url.rstrip("/"))
    start = len(root.path) + 1
    urls: list[str] = []
    empty = True
    with progress(desc="Listing", unit="file") as bar:
        for found in take_in(list_below(root.path)):
            empty = False
            *folders, name = found[start:].split("/")
            if any(is_passed_over(part) for part in (*folders, name)):
                continue
            folder = root
            for part in folders:
                folder = folder.inner(part)
            if name:  # otherwise the object stands for the folder
                folder.files.append(found)
                urls.append(found)
                bar.update()
    keep(urls)
    return None if empty else root


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _reason(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "no permission to list this folder"
    return f"this folder cannot be listed ({error.strerror})"
