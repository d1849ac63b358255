"""Finding the user's images: a folder per class, a folder per split, or a table."""

import csv
import os
import stat
import unicodedata
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from headstart.common.errors import InputError
from headstart.common.vocabulary import Split

_SPLIT_NAMES: dict[str, Split] = {
    "train": "train",
    "validation": "validation",
    "val": "validation",
    "test": "test",
}
# What operating systems leave in folders, without a leading dot.
_IGNORED = frozenset({"Thumbs.db", "desktop.ini", "__MACOSX"})
_LAYOUT = (
    "a folder with one sub-folder per class, a folder with train/, validation/ (or val/) and "
    "test/, each with class folders, or a .csv with the columns path,label"
)


class SourceFile(NamedTuple):
    """A file that the source names, image or not.

    Attributes:
        path: Posix path; relative to the working directory when the source is, else absolute.
        label: Name of its class; empty when the file lies in no class folder. NFC-normalized:
            macOS hands folder names over decomposed, and the same photos must give the same
            classes wherever they are kept.
        split: Given by the source, or None.
        group: Given by the source, or empty.
    """

    path: str
    label: str
    split: Split | None = None
    group: str = ""


class Listing(NamedTuple):
    """All that a source holds.

    Attributes:
        files: In order of their paths.
        empty_classes: Class folders without any file.
    """

    files: tuple[SourceFile, ...]
    empty_classes: tuple[str, ...]


def list_files(source: str, *, key: str = "prepare.source", labels: bool = True) -> Listing:
    """List what a source holds, reading no image.

    Hidden files and folders are left out. Links are followed, but not in circles.

    Args:
        source: Path of a folder or a .csv file; `~` is the home folder.
        key: Where in params.yaml the source is named, for errors.
        labels: Whether classes are needed; without, a folder may hold its images as it likes.

    Returns:
        Files and empty class folders.

    Raises:
        InputError: the source is missing, empty, of no known layout, may not be read, or a line
            of the table is wrong.
    """
    path = Path(source).expanduser()
    try:
        status = path.stat()
    except PermissionError:
        raise InputError(f"{key}: no permission to reach {path}. Grant it.") from None
    except OSError:
        raise InputError(
            f"{key}: {source} does not exist (looked for {path.absolute()}). Expected {_LAYOUT}."
        ) from None
    if stat.S_ISDIR(status.st_mode):
        return _list_folder(path, key, labels)
    if path.suffix.lower() != ".csv":
        raise InputError(f"{key}: {source} is a file. Expected {_LAYOUT}.")
    return Listing(_read_table(path), ())


def _list_folder(root: Path, key: str, labels: bool) -> Listing:
    folders = _class_folders(root)
    files = [SourceFile(path, "") for path in _loose_files(root)]
    if not folders and (labels or not files):
        found = f"{len(files)} files but no sub-folder" if files else "an empty folder"
        raise InputError(f"{key}: {root} is {found}. Expected {_LAYOUT}.")
    empty = []
    above = frozenset({_identity(root)})
    for folder, split in _split_folders(root, folders, key, labels):
        if split is not None:
            files += [SourceFile(path, "", split) for path in _loose_files(folder)]
        for class_folder in _class_folders(folder) if split else [folder]:
            label = unicodedata.normalize("NFC", class_folder.name)
            below = [SourceFile(path, label, split) for path in _files_below(class_folder, above)]
            files += below
            if not below:
                empty.append(class_folder.as_posix())
    if labels and not any(file.label for file in files):
        raise InputError(f"{key}: no file in the sub-folders of {root}.")
    return Listing(tuple(sorted(files)), tuple(sorted(empty)))


def _split_folders(
    root: Path, folders: list[Path], key: str, labels: bool
) -> list[tuple[Path, Split | None]]:
    """Pair each folder with the split it stands for, or with None when they are classes."""
    names = [folder.name.lower() for folder in folders]
    # A class may be called "train" (beside "bus"), so all names must be those of splits.
    if "train" not in names or not set(names) <= _SPLIT_NAMES.keys():
        return [(folder, None) for folder in folders]
    splits = [_SPLIT_NAMES[name] for name in names]
    if len(set(splits)) < len(splits):
        raise InputError(
            f"{key}: {root} holds {', '.join(sorted(f.name for f in folders))}. "
            "Expected one folder per split; merge those that mean the same."
        )
    if labels and not _class_folders(folders[names.index("train")]):
        raise InputError(
            f"{key}: {folders[names.index('train')]} holds no class folder. Expected {_LAYOUT}."
        )
    return list(zip(folders, splits, strict=True))


def _visible(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(
                (e for e in entries if not e.name.startswith(".") and e.name not in _IGNORED),
                key=lambda entry: entry.name,
            )
    except PermissionError:
        raise InputError(f"{folder}: no permission to list this folder. Grant it.") from None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself; reading it gives the reason
        return False


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _class_folders(folder: Path) -> list[Path]:
    return [Path(entry.path) for entry in _visible(folder) if _is_folder(entry)]


def _loose_files(folder: Path) -> list[str]:
    return [Path(entry.path).as_posix() for entry in _visible(folder) if not _is_folder(entry)]


def _files_below(folder: Path, above: frozenset[tuple[int, int]]) -> Iterator[str]:
    identity = _identity(folder)
    if identity in above:  # a link back to where we come from
        return
    for entry in _visible(folder):
        if _is_folder(entry):
            yield from _files_below(Path(entry.path), above | {identity})
        else:
            yield Path(entry.path).as_posix()


def _read_table(path: Path) -> tuple[SourceFile, ...]:
    try:
        # utf-8-sig drops the mark that spreadsheets put at the beginning.
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _table_rows(path, csv.DictReader(file, skipinitialspace=True))
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: expected UTF-8, received the byte {error.object[error.start]:#04x}. "
            "Save it as CSV UTF-8."
        ) from None
    except csv.Error as error:
        raise InputError(f"{path}: no CSV: {error}. Expected {_LAYOUT}.") from None
    except PermissionError:
        raise InputError(f"{path}: no permission to read this file. Grant it.") from None


def _table_rows(path: Path, reader: "csv.DictReader[str]") -> tuple[SourceFile, ...]:
    columns = [name.strip() for name in reader.fieldnames or ()]
    reader.fieldnames = columns
    for wanted in ("path", "label"):
        if columns.count(wanted) != 1:
            raise InputError(
                f"{path}: expected one column {wanted!r} (path,label and optionally split,group), "
                f"received {','.join(columns) or 'an empty file'}. Name it in the first line."
            )
    seen: dict[str, int] = {}
    files = []
    for row in reader:
        file = _table_row(path, reader.line_num, row)
        if file.path in seen:
            raise InputError(
                f"{path}, line {reader.line_num}: {file.path} was listed in line "
                f"{seen[file.path]} already. Keep one of them."
            )
        seen[file.path] = reader.line_num
        files.append(file)
    if not files:
        raise InputError(f"{path}: no line below the header. List one image a line.")
    return tuple(sorted(files))


def _table_row(table: Path, line: int, row: dict[str, str]) -> SourceFile:
    # DictReader gives None for values that are missing, and a list for those too many.
    values = {name: (row.get(name) or "").strip() for name in ("path", "label", "split", "group")}
    if None in row:
        raise InputError(
            f"{table}, line {line}: more values than columns. Quote values that hold a comma."
        )
    for name in ("path", "label"):
        if not values[name]:
            raise InputError(f"{table}, line {line}: {name} is empty. Fill it in.")
    split = values["split"].lower()
    if split and split not in _SPLIT_NAMES:
        raise InputError(
            f"{table}, line {line}: split: expected train, validation (or val), test or nothing, "
            f"received {values['split']!r}."
        )
    return SourceFile(
        _as_on_disk(str(PurePosixPath(table.parent.as_posix()) / values["path"])),
        unicodedata.normalize("NFC", values["label"]),
        _SPLIT_NAMES[split] if split else None,
        unicodedata.normalize("NFC", values["group"]),
    )


def _as_on_disk(path: str) -> str:
    # macOS spells Korean or accented names decomposed, spreadsheets composed; a table that was
    # written on the one and a folder that came from the other still mean the same file.
    spellings = (path, unicodedata.normalize("NFC", path), unicodedata.normalize("NFD", path))
    return next((spelling for spelling in spellings if os.path.lexists(spelling)), path)
