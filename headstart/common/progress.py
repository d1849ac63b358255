"""Progress bars: drawn on a terminal, silent in a log."""

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

from headstart.common.text import printable_lines


def progress(
    iterable: Iterable[Any] | None = None,
    *,
    total: int | None = None,
    desc: str,
    unit: str = "img",
    scale: bool = False,
    quiet: bool = False,
) -> "tqdm[Any]":
    """Return a tqdm bar on standard error, disabled when that is no terminal.

    Args:
        iterable: What to iterate over; without one, call `update`.
        total: Number of steps, when `iterable` has no length.
        desc: What is being done, two or three words.
        unit: What one step is.
        scale: Whether counts are shown in thousands, millions and so on.
        quiet: Draw nothing: another bar counts the same.
    """
    return tqdm(
        iterable,
        total=total,
        desc=desc,
        unit=unit,
        unit_scale=scale,
        file=sys.stderr,
        disable=quiet or not sys.stderr.isatty(),
        leave=False,
        dynamic_ncols=True,
    )


def notify(message: str) -> None:
    """Print a message on standard error, above a bar if there is one, with no control characters.

    Args:
        message: Mostly one line; newlines are kept.
    """
    tqdm.write(printable_lines(message), file=sys.stderr)
