"""Reading tables that people write, as spreadsheets of any country save them."""

import csv
import io
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from headstart.common import remote
from headstart.common.errors import InputError
from headstart.common.vocabulary import SPLITS, Split
from headstart.dataset.manifest import FIELDS

TABLES = (".csv", ".tsv")
"""Lower-case endings of tables."""

# Source: the words that Hugging Face Datasets takes for splits, "Structure your repository"
# (datasets/data_files.py).
SPLIT_NAMES: dict[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
"""What lower-case words for a split stand for."""

_DELIMITERS = ",;\t|"


class Line(NamedTuple):
    """What one line says.

    Attributes:
        number: In the file, from 1.
        values: By name, for each column that was asked for; empty where nothing stands.
        others: Of the further columns, in the order of `Table.others`.
    """

    number: int
    values: dict[str, str]
    others: tuple[str, ...]


class Table:
    """A table, open for reading; iterating gives its lines, of which empty ones are left out.

    Attributes:
        others: Names of the columns that nobody asked for. Those without a name are left out.
    """

    def __init__(
        self, path: Path | str, file: IO[str], delimiter: str, columns: Sequence[str], needed: int
    ) -> None:
        self._path, self._columns = path, columns
        self._lines = csv.reader(file, delimiter=delimiter, skipinitialspace=True, strict=True)
        given = [name.strip() for name in next(self._lines, [])]
        self._header = [name.lower() if name.lower() in columns else name for name in given]
        for number, wanted in enumerate(columns):
            if self._header.count(wanted) not in ((1,) if number < needed else (0, 1)):
                raise InputError(
                    f"{path}: expected one column {wanted!r} ({_described(columns, needed)}), "
                    f"received {','.join(given) or 'an empty file'}. Name it in the first line."
                )
        self._further = [
            position
            for position, name in enumerate(self._header)
            if name and name not in self._columns
        ]
        self.others = tuple(self._header[position] for position in self._further)

    def __iter__(self) -> Iterator[Line]:
        for values in self._lines:
            if any(value.strip() for value in values):
                yield self._line(self._lines.line_num, [value.strip() for value in values])

    def _line(self, number: int, values: list[str]) -> Line:
        missing = len(self._header) - len(values)
        if missing < 0:
            raise InputError(
                f"{self._path}, line {number}: more values than columns. Quote values that hold a "
                "comma."
            )
        values += [""] * missing
        for name, value in zip(self._header, values, strict=True):
            if breaks_text(value):
                raise InputError(
                    f"{self._path}, line {number}: {name} holds a control character or line break: "
                    f"{value[:60]!r}. Remove it, or close the quotation mark that was left open."
                )
        named = dict(zip(self._header, values, strict=True))
        return Line(
            number,
            {name: named.get(name, "") for name in self._columns},
            tuple(unicodedata.normalize("NFC", values[position]) for position in self._further),
        )


@contextmanager
def open_table(path: Path | str, columns: Sequence[str], needed: int) -> Iterator[Table]:
    """Open a table as UTF-8 or UTF-16, parted by commas, semicolons, tabs or bars.

    Args:
        path: The file, or its URL.
        columns: Lower-case names; in the file they may have capitals.
        needed: How many of them, from the first, must be there.

    Raises:
        InputError: it cannot be read, is no such table, lacks a column, or a line holds more
            values than there are columns, a control character or a line break.
    """
    try:
        # The whole: it is read twice, and may lie elsewhere.
        content = remote.read(path) if isinstance(path, str) else path.read_bytes()
        # utf-8-sig drops the mark that spreadsheets put at the beginning.
        encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        with io.TextIOWrapper(io.BytesIO(content), encoding=encoding, newline="") as file:
            delimiter = _delimiter(file.readline(), columns[:needed])
            file.seek(0)
            yield Table(path, file, delimiter, columns, needed)
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
        raise InputError(
            f"{path}: no CSV: {error}. Expected a table with the columns "
            f"{_described(columns, needed)}."
        ) from None
    except PermissionError:
        raise InputError(f"{path}: no permission to read this file. Grant it.") from None


def column_names(table: Path | str, others: Iterable[str]) -> tuple[str, ...]:
    """Name further columns so that they can stand beside the manifest's own.

    Raises:
        InputError: a name holds a control character, or two are equal.
    """
    names: list[str] = []
    for other in others:
        name = unicodedata.normalize("NFC", f"source_{other}" if other in FIELDS else other)
        if breaks_text(name):
            raise InputError(
                f"{table}: the column {other!r} holds a control character or line break in its "
                "name. Rename it."
            )
        if name in names:
            raise InputError(f"{table}: two columns are called {name!r}. Rename one of them.")
        names.append(name)
    return tuple(names)


def split_of(name: str, where: str) -> Split | None:
    """Return the split that a word stands for; None for an empty one.

    Args:
        name: In any case.
        where: Who says it, for errors.

    Raises:
        InputError: it stands for none.
    """
    split = SPLIT_NAMES.get(name.lower())
    if name and split is None:
        raise InputError(
            f"{where}: split: expected one of {', '.join(SPLITS)} (or val, valid, dev, eval and "
            f"the like) or nothing, received {name!r}."
        )
    return split


def _described(columns: Sequence[str], needed: int) -> str:
    optional = f" and optionally {','.join(columns[needed:])}" if columns[needed:] else ""
    return ",".join(columns[:needed]) + optional


def _delimiter(header: str, needed: Sequence[str]) -> str:
    """Return what parts the columns: spreadsheets write what the country's decimal mark leaves."""
    for delimiter in _DELIMITERS:
        names = [name.strip(' "\r\n').lower() for name in header.split(delimiter)]
        if all(name in names for name in needed):
            return delimiter
    return ","


def breaks_text(text: str) -> bool:
    """Return whether a text holds what would end a line or act on a terminal."""
    return any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in text)
