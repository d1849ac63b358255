"""Finding the user's images: a folder per class, a folder per split, or a table."""

import csv
import os
import re
import stat
import unicodedata
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from headstart.common.errors import InputError
from headstart.common.vocabulary import SPLITS, Split
from headstart.dataset.walking import Unlistable, files_below, identity, list_folder

# Source: the words that Hugging Face Datasets takes for splits, "Structure your repository"
# (datasets/data_files.py).
_SPLIT_NAMES: dict[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
# Parts of names that mean a split, too, but are only good for a question.
_SPLIT_PARTS: dict[str, Split] = {
    **_SPLIT_NAMES,
    **{f"{name}{end}": of for name, of in _SPLIT_NAMES.items() for end in ("set", "data")},
    **{"훈련": "train", "학습": "train", "검증": "validation", "시험": "test", "테스트": "test"},
}
_DELIMITERS = ",;\t|"
TABLES = (".csv", ".tsv")
"""Lower-case endings of tables."""

_COLUMNS = ("path", "label", "split", "group")
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
        listed: Whether a table names it; then it is meant to be an image, whatever it is.
    """

    path: str
    label: str
    split: Split | None = None
    group: str = ""
    listed: bool = False


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
        source: Path of a folder or a table (.csv, .tsv); `~` is the home folder.
        key: Where in params.yaml the source is named, for errors.
        labels: Whether classes are needed; without, a folder may hold its images as it likes.

    Returns:
        Files and empty class folders.

    Raises:
        InputError: the source is missing, empty, of no known layout, may not be read, or a line
            of the table is wrong.
    """
    try:
        path = Path(source).expanduser()
        status = path.stat()
    except PermissionError:
        raise InputError(f"{key}: no permission to reach {source}. Grant it.") from None
    except (OSError, ValueError, RuntimeError):  # a zero byte; `~nobody`
        raise InputError(
            f"{key}: {source} does not exist (looked for {Path(source).absolute()}). "
            f"Expected {_LAYOUT}."
        ) from None
    if stat.S_ISDIR(status.st_mode):
        return _list_folder(path, key, labels)
    if not stat.S_ISREG(status.st_mode) or path.suffix.lower() not in TABLES:
        raise InputError(f"{key}: {source} is a file. Expected {_LAYOUT}.")
    return Listing(_read_table(path), ())


def _list_folder(root: Path, key: str, labels: bool) -> Listing:
    folders, loose = _listed(root)
    if not folders and (labels or not loose):
        found = f"{len(loose)} files but no sub-folder" if loose else "an empty folder"
        raise InputError(f"{key}: {root} is {found}. Expected {_LAYOUT}.")
    files = [SourceFile(path, "") for path in loose]
    empty = []
    above = frozenset({identity(root)})
    for folder, split in _split_folders(root, folders, key, labels):
        class_folders = [folder]
        if split is not None:
            class_folders, loose = _listed(folder)
            files += [SourceFile(path, "", split) for path in loose]
        for class_folder in class_folders:
            label = unicodedata.normalize("NFC", class_folder.name)
            if _breaks_text(label):
                raise InputError(
                    f"{key}: the folder {str(class_folder)!r} holds a control character or line "
                    "break in its name, which would be the class's. Rename it."
                )
            below = [SourceFile(path, label, split) for path in _all_below(class_folder, above)]
            files += below
            if not below:
                empty.append(class_folder.as_posix())
    if labels and not any(file.label for file in files):
        raise InputError(f"{key}: no file in the sub-folders of {root}.")
    return Listing(tuple(sorted(files)), tuple(sorted(empty)))


def _split_folders(
    root: Path, folders: list[Path], key: str, labels: bool
) -> list[tuple[Path, Split | None]]:
    """Pair each folder with the split it stands for, or with None when they are classes.

    Raises:
        InputError: it cannot be told which of the two they are.
    """
    splits = {folder: _SPLIT_NAMES.get(folder.name.lower()) for folder in folders}
    named = [split for split in splits.values() if split is not None]
    # A class may be called "train" (beside "bus"), so all names must be those of splits.
    if "train" in named and len(named) == len(folders):
        if len(set(named)) < len(named):
            raise InputError(
                f"{key}: {root} holds {_names(folders)}. Expected one folder per split; merge "
                "those that mean the same."
            )
        first = next(folder for folder, split in splits.items() if split == "train")
        if labels and not _listed(first)[0]:
            raise InputError(f"{key}: {first} holds no class folder. Expected {_LAYOUT}.")
        return list(splits.items())
    if labels:
        _refuse_hidden_splits(root, folders, key)
    return [(folder, None) for folder in folders]


def _refuse_hidden_splits(root: Path, folders: list[Path], key: str) -> None:
    """Stop where folders that would be classes look like splits: the scores would be of nothing."""
    remedy = (
        "Expected train/, validation/ (or val/, valid/, dev/) and test/ (or eval/) side by side "
        "and nothing beside them, each with the class folders. Rename or move folders, or list the "
        "images in a .csv with the columns path,label,split."
    )
    alike = {folder: part for folder in folders if (part := _split_like(folder.name))}
    if len(set(alike.values())) > 1 and (shared := _shared_names(alike)):
        others = [folder for folder in folders if folder not in alike]
        unclear = [folder for folder in alike if folder.name.lower() not in _SPLIT_NAMES]
        if unclear:
            why = f"what {_names(unclear)} stands for is a guess"
        elif others:
            why = f"{_names(others)} beside them is none"
        else:
            why = "none of them is for training"
        raise InputError(
            f"{key}: {root}: {_names(alike)} look like splits (they hold the same folders: "
            f"{', '.join(shared[:5])}), but {why}. {remedy}"
        )
    for folder in folders:
        inside = {
            inner: split
            for inner in _listed(folder)[0]
            if (split := _SPLIT_NAMES.get(inner.name.lower()))
        }
        if "train" in inside.values() and len(set(inside.values())) > 1:
            raise InputError(
                f"{key}: {folder} would be a class, but holds the splits {_names(inside)}. "
                + (
                    f"Name {folder} itself, if its splits hold the classes. {remedy}"
                    if len(folders) == 1 or _shared_names(inside)
                    else remedy
                )
            )


def _split_like(name: str) -> Split | None:
    """Return the split that a part of a name stands for: "images_train", "val2017"."""
    parts = re.findall(r"[^\W\d_]+", name.lower())
    return next((_SPLIT_PARTS[part] for part in parts if part in _SPLIT_PARTS), None)


def _shared_names(folders: Iterable[Path]) -> list[str]:
    """Return the names of folders that lie in more than one of these."""
    seen: set[str] = set()
    shared: set[str] = set()
    for folder in folders:
        names = {inner.name for inner in _listed(folder)[0]}
        shared |= names & seen
        seen |= names
    return sorted(shared)


def _names(folders: Iterable[Path]) -> str:
    return ", ".join(sorted(folder.name for folder in folders))


def _listed(folder: Path) -> tuple[list[Path], list[str]]:
    """Return a folder's folders and the paths of its other files."""
    listed = list_folder(folder)
    if isinstance(listed, Unlistable):
        raise _cannot_list(listed)
    folders, files = listed
    return [Path(path) for path in folders], files


def _all_below(folder: Path, above: frozenset[tuple[int, int]]) -> Iterable[str]:
    for found in files_below(folder, above):
        if isinstance(found, Unlistable):
            raise _cannot_list(found)
        yield found


def _cannot_list(folder: Unlistable) -> InputError:
    return InputError(f"{folder.path}: {folder.reason}. Grant it, or move the folder away.")


def _breaks_text(text: str) -> bool:
    """Return whether a text holds what would end a line or act on a terminal."""
    return any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in text)


def _read_table(path: Path) -> tuple[SourceFile, ...]:
    try:
        with path.open("rb") as binary:
            start = binary.read(2)
        # utf-8-sig drops the mark that spreadsheets put at the beginning.
        encoding = "utf-16" if start in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        with path.open(encoding=encoding, newline="") as file:
            delimiter = _delimiter(file.readline())
            file.seek(0)
            reader = csv.DictReader(file, delimiter=delimiter, skipinitialspace=True, strict=True)
            return _table_rows(path, reader)
    except UnicodeError as error:
        received = (
            f"the byte {error.object[error.start]:#04x}"
            if isinstance(error, UnicodeDecodeError)
            else str(error)
        )
        raise InputError(
            f"{path}: expected UTF-8, received {received}. Save it as CSV UTF-8."
        ) from None
    except csv.Error as error:
        raise InputError(f"{path}: no CSV: {error}. Expected {_LAYOUT}.") from None
    except PermissionError:
        raise InputError(f"{path}: no permission to read this file. Grant it.") from None


def _delimiter(header: str) -> str:
    """Return what parts the columns: spreadsheets write what the country's decimal mark leaves."""
    for delimiter in _DELIMITERS:
        names = [name.strip(' "\r\n').lower() for name in header.split(delimiter)]
        if "path" in names and "label" in names:
            return delimiter
    return ","


def _table_rows(path: Path, reader: "csv.DictReader[str]") -> tuple[SourceFile, ...]:
    columns = [name.strip() for name in reader.fieldnames or ()]
    reader.fieldnames = [name.lower() if name.lower() in _COLUMNS else name for name in columns]
    for wanted in _COLUMNS:
        if reader.fieldnames.count(wanted) not in ((1,) if wanted in _COLUMNS[:2] else (0, 1)):
            raise InputError(
                f"{path}: expected one column {wanted!r} (path,label and optionally split,group), "
                f"received {','.join(columns) or 'an empty file'}. Name it in the first line."
            )
    seen: dict[str, int] = {}
    files = []
    for row in reader:
        # Spreadsheets end a table with lines of delimiters alone.
        if None not in row and not any((value or "").strip() for value in row.values()):
            continue
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
    values = {name: (row.get(name) or "").strip() for name in _COLUMNS}
    if None in row:
        raise InputError(
            f"{table}, line {line}: more values than columns. Quote values that hold a comma."
        )
    for name, value in values.items():
        if not value and name in ("path", "label"):
            raise InputError(f"{table}, line {line}: {name} is empty. Fill it in.")
        if _breaks_text(value):
            raise InputError(
                f"{table}, line {line}: {name} holds a control character or line break: "
                f"{value[:60]!r}. Remove it, or close the quotation mark that was left open."
            )
    split = _SPLIT_NAMES.get(values["split"].lower())
    if values["split"] and split is None:
        raise InputError(
            f"{table}, line {line}: split: expected one of {', '.join(SPLITS)} (or val, valid, "
            f"dev, eval and the like) or nothing, received {values['split']!r}."
        )
    return SourceFile(
        _as_on_disk(table.parent, values["path"]),
        unicodedata.normalize("NFC", values["label"]),
        split,
        unicodedata.normalize("NFC", values["group"]),
        listed=True,
    )


def _as_on_disk(folder: Path, name: str) -> str:
    # macOS spells Korean or accented names decomposed, spreadsheets composed, and Windows parts
    # folders by a backslash; a table that was written on the one and a folder that came from the
    # other still mean the same file.
    names = [name, name.replace("\\", "/")] if "\\" in name else [name]
    paths = [str(PurePosixPath(folder.as_posix()) / name) for name in names]
    spellings = [
        spelling
        for path in paths
        for spelling in (
            path,
            unicodedata.normalize("NFC", path),
            unicodedata.normalize("NFD", path),
        )
    ]
    return next((spelling for spelling in spellings if os.path.lexists(spelling)), paths[0])
