"""What sources hold: their files, and what is said of each."""

import os
from collections.abc import Sequence
from typing import NamedTuple

from headstart.common.errors import InputError
from headstart.common.urls import is_url
from headstart.common.vocabulary import Split


class SourceFile(NamedTuple):
    """A file that the source names, image or not.

    Attributes:
        path: Posix path; relative to the working directory when the source is, else absolute. Or a
            URL.
        label: Name of its class; empty when the file lies in no class folder. NFC-normalized:
            macOS hands folder names over decomposed, and the same photos must give the same
            classes wherever they are kept.
        split: Given by the source, or None.
        group: Given by the source, or empty.
        listed: Whether a table names it; then it is meant to be an image, whatever it is.
        columns: Further values of the table, as `Listing.column_names` names them.
    """

    path: str
    label: str
    split: Split | None = None
    group: str = ""
    listed: bool = False
    columns: tuple[str, ...] = ()


class Listing(NamedTuple):
    """All that a source holds.

    Attributes:
        files: In order of their paths.
        empty_classes: Class folders without any file.
        column_names: Of the further columns of its tables.
    """

    files: tuple[SourceFile, ...]
    empty_classes: tuple[str, ...]
    column_names: tuple[str, ...] = ()


def together(listings: Sequence[tuple[str, Listing]], key: str) -> Listing:
    """Take several sources for one.

    Args:
        listings: Each with the name of its source.
        key: Where in params.yaml the sources are named.

    Raises:
        InputError: two say different things of one file.
    """
    names = tuple(dict.fromkeys(name for _, one in listings for name in one.column_names))
    found: dict[str, tuple[str, SourceFile]] = {}
    for source, listing in listings:
        for file in listing.files:
            values = dict(zip(listing.column_names, file.columns, strict=False))
            wide = file._replace(columns=tuple(values.get(name, "") for name in names))
            # One file may be named from here and from the root.
            place = (
                file.path if is_url(file.path) else os.path.abspath(file.path)  # noqa: PTH100 - follows no link; fast for a million
            )
            if place in found:
                other, first = found[place]
                wide = _joined(other, first, source, wide, names, key)
            found[place] = (source, wide)
    files = sorted(file for _, file in found.values())
    empty = {folder for _, one in listings for folder in one.empty_classes}
    return Listing(tuple(files), tuple(sorted(empty)), names)


def _joined(
    source: str,
    one: SourceFile,
    other_source: str,
    other: SourceFile,
    names: Sequence[str],
    key: str,
) -> SourceFile:
    """Take from each what the other leaves open."""
    said = zip(
        ("label", "split", "group", *names),
        (one.label, one.split, one.group, *one.columns),
        (other.label, other.split, other.group, *other.columns),
        strict=True,
    )
    for name, first, second in said:
        if first and second and first != second:
            raise InputError(
                f"{key}: {one.path} has the {name} {first!r} in {source} and {second!r} in "
                f"{other_source}. Expected one; correct or take out one of them."
            )
    return SourceFile(
        one.path,
        one.label or other.label,
        one.split or other.split,
        one.group or other.group,
        one.listed or other.listed,
        tuple(first or second for first, second in zip(one.columns, other.columns, strict=True)),
    )
