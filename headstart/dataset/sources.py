"""Finding the user's images: a folder per class, a folder per split, or a table."""

import os
import re
import stat
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from headstart.common.errors import InputError
from headstart.common.text import counted
from headstart.common.urls import check_url, is_url, suffix_of, within
from headstart.common.vocabulary import Split
from headstart.dataset.file_states import look_at
from headstart.dataset.listing import Listing, SourceFile, together
from headstart.dataset.tables import (
    SPLIT_NAMES,
    TABLES,
    Line,
    breaks_text,
    column_names,
    open_table,
    split_of,
)
from headstart.dataset.tar_shards import expand_braces, is_tar, list_tars
from headstart.dataset.walking import Folder, LocalFolder, Unlistable, list_remote

# Parts of names that mean a split, too, but are only good for a question.
_SPLIT_PARTS: dict[str, Split] = {
    **SPLIT_NAMES,
    **{f"{name}{end}": of for name, of in SPLIT_NAMES.items() for end in ("set", "data")},
    **{"훈련": "train", "학습": "train", "검증": "validation", "시험": "test", "테스트": "test"},
}
_COLUMNS = ("path", "label", "split", "group")
_LAYOUT = (
    "a folder with one sub-folder per class, a folder with train/, validation/ (or val/) and "
    "test/, each with class folders, a .csv with the columns path,label, or a .tar of "
    "photos with their labels beside them (001.jpg, 001.cls)"
)


def list_files(
    source: str | Sequence[str], *, key: str = "prepare.source", labels: bool = True
) -> Listing:
    """List what a source holds, reading no image.

    Hidden files and folders are left out. Links are followed, but not in circles.

    Args:
        source: Path or URL of a folder, a table (.csv, .tsv) or a tar, `~` is the home folder, and
            `{000..009}` stands for ten names; or several, whose files are taken together. Of a file
            in two of them each may say what the other leaves open.
        key: Where in params.yaml the source is named, for errors.
        labels: Whether classes are needed; without, a folder may hold its images as it likes.

    Returns:
        Files and empty class folders.

    Raises:
        InputError: a source is missing, empty, of no known layout, may not be read, a line of a
            table is wrong, or two sources say different things of one file.
    """
    given = [source] if isinstance(source, str) else source
    sources = [one for named in given for one in expand_braces(named)]
    names = [one for one in sources if is_tar(one)]
    tars = [check_url(one, key) if is_url(one) else str(Path(one).expanduser()) for one in names]
    listings = list(zip(names, list_tars(tars, key, labels), strict=True))
    listings += [(one, _list_one(one, key, labels)) for one in sources if not is_tar(one)]
    return listings[0][1] if len(listings) == 1 else together(listings, key)


def _list_one(source: str, key: str, labels: bool) -> Listing:
    if is_url(source):
        return _list_url(check_url(source, key), key, labels)
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
        return _list_folder(LocalFolder(path.as_posix()), key, labels)
    if not stat.S_ISREG(status.st_mode) or path.suffix.lower() not in TABLES:
        raise InputError(f"{key}: {source} is a file. Expected {_LAYOUT}.")
    return _read_table(path, key)


def _list_url(url: str, key: str, labels: bool) -> Listing:
    if suffix_of(url) in TABLES:
        return _read_table(url, key)
    folder = list_remote(url)
    if folder is None:
        raise InputError(
            f"{key}: {url} does not exist: its store holds no name that begins so. Expected "
            f"{_LAYOUT}."
        )
    return _list_folder(folder, key, labels)


def _list_folder(root: Folder, key: str, labels: bool) -> Listing:
    folders, loose = _listed(root)
    if not folders and (labels or not loose):
        found = f"{counted(len(loose), 'file')} but no sub-folder" if loose else "an empty folder"
        raise InputError(f"{key}: {root.path} is {found}. Expected {_LAYOUT}.")
    files = [SourceFile(path, "") for path in loose]
    empty = []
    for folder, split in _split_folders(root, folders, key, labels):
        class_folders: Sequence[Folder] = [folder]
        if split is not None:
            class_folders, loose = _listed(folder)
            files += [SourceFile(path, "", split) for path in loose]
        for class_folder in class_folders:
            label = unicodedata.normalize("NFC", class_folder.name)
            if breaks_text(label):
                raise InputError(
                    f"{key}: the folder {class_folder.path!r} holds a control character or line "
                    "break in its name, which would be the class's. Rename it."
                )
            below = [SourceFile(path, label, split) for path in _all_below(class_folder, root)]
            files += below
            if not below:
                empty.append(class_folder.path)
    if labels and not any(file.label for file in files):
        raise InputError(f"{key}: no file in the sub-folders of {root.path}.")
    return Listing(tuple(sorted(files)), tuple(sorted(empty)))


def _split_folders(
    root: Folder, folders: Sequence[Folder], key: str, labels: bool
) -> list[tuple[Folder, Split | None]]:
    """Pair each folder with the split it stands for, or with None when they are classes.

    Raises:
        InputError: it cannot be told which of the two they are.
    """
    splits = [(folder, SPLIT_NAMES.get(folder.name.lower())) for folder in folders]
    named = [split for _, split in splits if split is not None]
    # A class may be called "train" (beside "bus"), so all names must be those of splits.
    if "train" in named and len(named) == len(folders):
        if len(set(named)) < len(named):
            raise InputError(
                f"{key}: {root.path} holds {_names(folders)}. Expected one folder per split; merge "
                "those that mean the same."
            )
        first = next(folder for folder, split in splits if split == "train")
        if labels and not _listed(first)[0]:
            raise InputError(f"{key}: {first.path} holds no class folder. Expected {_LAYOUT}.")
        return splits
    if labels:
        _refuse_hidden_splits(root, folders, key)
    return [(folder, None) for folder in folders]


def _refuse_hidden_splits(root: Folder, folders: Sequence[Folder], key: str) -> None:
    """Stop where folders that would be classes look like splits: the scores would be of nothing."""
    remedy = (
        "Expected train/, validation/ (or val/, valid/, dev/) and test/ (or eval/) side by side "
        "and nothing beside them, each with the class folders. Rename or move folders, or list the "
        "images in a .csv with the columns path,label,split."
    )
    likeness = {folder.name: part for folder in folders if (part := _split_like(folder.name))}
    alike = [folder for folder in folders if folder.name in likeness]
    if len(set(likeness.values())) > 1 and (shared := _shared_names(alike)):
        others = [folder for folder in folders if folder.name not in likeness]
        unclear = [folder for folder in alike if folder.name.lower() not in SPLIT_NAMES]
        if unclear:
            why = f"what {_names(unclear)} stands for is a guess"
        elif others:
            why = f"{_names(others)} beside them is none"
        else:
            why = "none of them is for training"
        raise InputError(
            f"{key}: {root.path}: {_names(alike)} look like splits (they hold the same folders: "
            f"{', '.join(shared[:5])}), but {why}. {remedy}"
        )
    for folder in folders:
        inside = [inner for inner in _listed(folder)[0] if inner.name.lower() in SPLIT_NAMES]
        meant = {SPLIT_NAMES[inner.name.lower()] for inner in inside}
        if "train" in meant and len(meant) > 1:
            raise InputError(
                f"{key}: {folder.path} would be a class, but holds the splits {_names(inside)}. "
                + (
                    f"Name {folder.path} itself, if its splits hold the classes. {remedy}"
                    if len(folders) == 1 or _shared_names(inside)
                    else remedy
                )
            )


def _split_like(name: str) -> Split | None:
    """Return the split that a part of a name stands for: "images_train", "val2017"."""
    parts = re.findall(r"[^\W\d_]+", name.lower())
    return next((_SPLIT_PARTS[part] for part in parts if part in _SPLIT_PARTS), None)


def _shared_names(folders: Iterable[Folder]) -> list[str]:
    """Return the names of folders that lie in more than one of these."""
    seen: set[str] = set()
    shared: set[str] = set()
    for folder in folders:
        names = {inner.name for inner in _listed(folder)[0]}
        shared |= names & seen
        seen |= names
    return sorted(shared)


def _names(folders: Iterable[Folder]) -> str:
    return ", ".join(sorted(folder.name for folder in folders))


def _listed(folder: Folder) -> tuple[Sequence[Folder], list[str]]:
    """Return a folder's folders and the paths of its other files."""
    listed = folder.listed()
    if isinstance(listed, Unlistable):
        raise _cannot_list(listed)
    return listed


def _all_below(folder: Folder, above: Folder) -> Iterable[str]:
    for found in folder.below(above):
        if isinstance(found, Unlistable):
            raise _cannot_list(found)
        yield found


def _cannot_list(folder: Unlistable) -> InputError:
    return InputError(f"{folder.path}: {folder.reason}. Grant it, or move the folder away.")


def _read_table(path: Path | str, key: str) -> Listing:
    files: dict[str, SourceFile] = {}
    lines: dict[str, int] = {}
    unlabeled: list[int] = []
    with open_table(path, _COLUMNS, needed=2) as table:
        names = column_names(path, table.others)
        for line in table:
            file = _table_row(path, line, key)
            if file.path in files:
                raise InputError(
                    f"{path}, line {line.number}: {file.path} was listed in line "
                    f"{lines[file.path]} already. Keep one of them."
                )
            if not file.label:
                unlabeled.append(line.number)
            files[file.path], lines[file.path] = file, line.number
    if unlabeled:
        of = f" and {len(unlabeled) - 1} more lines" if len(unlabeled) > 1 else ""
        raise InputError(
            f"{path}, line {unlabeled[0]}{of}: label is empty. Fill it in, or take out the "
            "images that have none."
        )
    if not files:
        raise InputError(f"{path}: no line below the header. List one image a line.")
    look_at([file for file in files if is_url(file)])
    return Listing(tuple(sorted(files.values())), (), names)


def _table_row(table: Path | str, line: Line, key: str) -> SourceFile:
    values = line.values
    if not values["path"]:
        raise InputError(f"{table}, line {line.number}: path is empty. Fill it in.")
    path = values["path"]
    if is_url(path):
        check_url(path, f"{key}: {table}, line {line.number}")
    return SourceFile(
        within(str(table).rpartition("/")[0], path)
        if is_url(path) or isinstance(table, str)
        else _as_on_disk(table.parent, path),
        unicodedata.normalize("NFC", values["label"]),
        split_of(values["split"], f"{table}, line {line.number}"),
        unicodedata.normalize("NFC", values["group"]),
        listed=True,
        columns=line.others,
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
