"""The suggestions as a table to fill in and as a page to look at."""

import base64
import csv
import os
import unicodedata
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Literal, NamedTuple

import jinja2

from headstart.common.errors import InputError
from headstart.common.files import atomic_write, write_table
from headstart.common.text import printable
from headstart.common.urls import is_url
from headstart.report.naming import ShownPaths
from headstart.report.thumbnails import each, thumbnail

SHOWN = 1000
"""Suggestions on the page at most: about 10 MB."""

_SIDE = 224
_DELIMITERS = ",;\t|"


Reason = Literal["typical", "uncertain"]


class Suggestion(NamedTuple):
    """A photo to label, a line of the table.

    Attributes:
        path: Of its file, as one in the table's folder would find it, or absolute.
        label: For people to fill in.
        rank: From 1, the most telling.
        reason: "typical" of photos that no label tells of, or one that the classifier is
            "uncertain" about, and others like it.
        likeliest: Name of the likeliest class; empty before the first run.
        probability: Of that class.
        sha256: Hexadecimal digest of the file's bytes.
    """

    path: str
    label: Literal[""]
    rank: int
    reason: Reason
    likeliest: str
    probability: str
    sha256: str


def why_not_listed(path: str) -> str:
    """Return why a path cannot stand in a table; empty if it can."""
    if any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in path):
        return "its name holds a control character or bytes that are no UTF-8; rename it"
    if path != path.strip():
        return "its name begins or ends with a space; rename it"
    return ""


def path_in_table(path: str, table: Path) -> str:
    """Return how a table names a file: relative to the table's folder unless it is absolute."""
    if is_url(path):
        return path
    if Path(path).is_absolute():
        return Path(path).as_posix()
    # The system follows links before it goes up.
    folder = os.path.realpath(table.parent)
    return Path(os.path.relpath(Path(path).absolute(), folder)).as_posix()


def refuse_to_overwrite(table: Path) -> None:
    """Keep what a person has filled in.

    Raises:
        InputError: there is a file of that name, and it is no table of suggestions without a
            label.
    """
    if not os.path.lexists(table):
        return
    labels = _labels_in(table)
    if labels == 0:
        return
    found = "another file" if labels is None else f"one with {labels} labels filled in"
    raise InputError(
        f"{table}: expected no file, or suggestions without a label, received {found}. Name "
        "another with --output, or replace it with --overwrite."
    )


def _labels_in(table: Path) -> int | None:
    """Count the labels in a table of suggestions; None where it is something else."""
    try:
        data = table.read_bytes()
        utf16 = data[:2] in (b"\xff\xfe", b"\xfe\xff")
        lines = data.decode("utf-16" if utf16 else "utf-8-sig").splitlines()
    except (OSError, UnicodeError):
        return None
    for delimiter in _DELIMITERS:
        reader = csv.DictReader(lines, delimiter=delimiter)
        if {"path", "label", "sha256"} <= set(reader.fieldnames or ()):
            return sum(bool((row["label"] or "").strip()) for row in reader)
    return None


def write_suggestions(table: Path, suggestions: Sequence[Suggestion]) -> None:
    """Write the table."""
    write_table(table, Suggestion._fields, suggestions)


def write_page(page: Path, table: Path, suggestions: Sequence[Suggestion], files: list[str]) -> int:
    """Write the page, which holds its pictures itself.

    Args:
        page: The file to write.
        table: Where the labels go.
        suggestions: In order.
        files: Path of each one's file from here.

    Returns:
        How many stand on it.
    """
    shown = suggestions[:SHOWN]
    pictures = each(files[:SHOWN], thumbnail(_SIDE))
    text = (resources.files("headstart.commands.suggest") / "page.html.j2").read_text("utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    html = environment.from_string(text).render(
        table=printable(table.name),
        total=len(suggestions),
        cards=zip(shown, (base64.b64encode(one).decode() for one in pictures), strict=True),
        shown=len(shown),
        name=ShownPaths(one.path for one in suggestions),
    )
    with atomic_write(page) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return len(shown)
