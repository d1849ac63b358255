"""Tables for people, in which no name is cut: what does not fit is left out, and told."""

import os
import sys
import textwrap
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

_GAP = "  "


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        heading: Above it.
        cells: One per row.
        right: Whether it is aligned to the right, as numbers are.
        spare: How soon it is left out where there is no room: the highest first; 0 stays.
    """

    heading: str
    cells: Sequence[str]
    right: bool = True
    spare: int = 0

    @property
    def width(self) -> int:
        """Terminal cells that it takes; a Hangul syllable takes two."""
        return max(cell_len(text) for text in (self.heading, *self.cells))

    def padded(self, text: str) -> str:
        """Return a text as wide as the column."""
        space = " " * (self.width - cell_len(text))
        return space + text if self.right else text + space


class Table(NamedTuple):
    """A table as it fits.

    Attributes:
        lines: Of text.
        left_out: Headings of the columns that there was no room for.
    """

    lines: list[Text]
    left_out: list[str]


def output_width() -> int | None:
    """Return the columns of text that there are; None where nothing says, as in a file."""
    if not sys.stdout.isatty() and "COLUMNS" not in os.environ:
        return None
    return Console().width


def fit(
    columns: Sequence[Column], width: int | None, *, names: int = 0, bold: Collection[int] = ()
) -> Table:
    """Lay a table out.

    Columns are left out until it fits. Where those that stay do not, the one that names the rows
    gets lines of its own.

    Args:
        columns: In their order.
        width: Columns of text that there are; None for as many as it takes.
        names: Which of them names the rows.
        bold: Numbers of rows that stand out.
    """
    name = columns[names]
    kept = list(columns)
    left_out = []
    while width is not None and _width(kept) > width and any(one.spare for one in kept):
        last = max(kept, key=lambda one: one.spare)
        kept.remove(last)
        left_out.append(last.heading)
    apart = width is not None and _width(kept) > width
    numbers = [one for one in kept if one is not name] if apart else kept
    indent = _GAP if apart else ""
    heading = indent + _GAP.join(one.padded(one.heading) for one in numbers)
    lines = [Text(name.heading, "bold")] if apart else []
    lines += [Text(heading.rstrip(), "bold"), Text("─" * len(heading), "dim")]
    for row, named in enumerate(name.cells):
        style = "bold" if row in bold else ""
        lines += [Text(named, style)] if apart else []
        cells = _GAP.join(one.padded(one.cells[row]) for one in numbers)
        lines.append(Text((indent + cells).rstrip(), style))
    order = [one.heading for one in columns]
    return Table(lines, sorted(left_out, key=order.index))


def wrapped(text: str, width: int | None) -> str:
    """Break a sentence into lines between its words, of which none is broken."""
    if width is None:
        return text
    return textwrap.fill(
        text, width, subsequent_indent=_GAP, break_long_words=False, break_on_hyphens=False
    )


def _width(columns: Sequence[Column]) -> int:
    return sum(one.width for one in columns) + len(_GAP) * (len(columns) - 1)
