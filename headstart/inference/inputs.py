"""What the user names on the command line, turned into single files, one by one.

Nothing is gathered: a hundred thousand photos take no more memory than one folder's names.
"""

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from headstart.common.urls import is_url
from headstart.dataset.walking import Unlistable, files_below, is_passed_over
from headstart.images.decoding import is_image_like

STANDARD_INPUT = "-"


@dataclass(frozen=True, slots=True)
class NothingFound:
    """Something named by the user that stands for no image.

    Attributes:
        name: As the user wrote it.
        reason: Why, in one line.
    """

    name: str
    reason: str


def expand(
    names: Iterable[str], standard_input: Iterable[str] = ()
) -> Iterator[Path | NothingFound]:
    """Yield the files that the names stand for, in the order given.

    A folder stands for what `prepare` would take for images below it, in the order of names. A
    file is taken whatever its name. A name with `*`, `?` or `[` that is no file itself is a glob,
    in which `**` is any depth of folders. `-` stands for a list on standard input, one name per
    line, each treated the same way. A file that is missing, or an image of a kind that cannot be
    read, is yielded too: whoever reads it will say so.

    Args:
        names: Files, folders, globs, or `-`.
        standard_input: Where `-` reads from.

    Yields:
        Paths of files, or `NothingFound` for a folder or glob without an image.
    """
    for name in names:
        if name == STANDARD_INPUT:
            lines = (line.rstrip("\r\n") for line in standard_input)
            yield from (found for line in lines if line for found in _expand_one(line))
        else:
            yield from _expand_one(name)


def _expand_one(name: str) -> Iterator[Path | NothingFound]:
    if is_url(name):
        yield NothingFound(name, "a URL; copy the file to this machine")
        return
    path = Path(name)
    if path.is_dir():
        yield from _or_nothing(_images_below(path), name, "no image in this folder")
    elif glob.has_magic(name) and not os.path.lexists(path):
        yield from _or_nothing(_matches(name), name, "no image matches this pattern")
    else:
        yield path


def _or_nothing(
    found: Iterator[Path | NothingFound], name: str, reason: str
) -> Iterator[Path | NothingFound]:
    empty = True
    for item in found:
        empty = False
        yield item
    if empty:
        yield NothingFound(name, reason)


def _matches(pattern: str) -> Iterator[Path | NothingFound]:
    parts = Path(pattern).parts
    first = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    wanted = [*parts[first:], "*"] if parts[-1] == "**" else list(parts[first:])
    base = Path(*parts[:first])
    try:
        # Sorted, since a pattern's order is the file system's; names only, so they fit in memory.
        found = sorted(base.glob("/".join(wanted)))
    except ValueError as error:
        yield NothingFound(pattern, str(error))
        return
    for path in found:
        # As in a shell, a wildcard does not stand for a leading dot.
        if any(is_passed_over(part) for part in path.relative_to(base).parts):
            continue
        if path.is_dir():
            # `**` finds what lies in a folder by itself.
            if "**" not in wanted:
                yield from _images_below(path)
        elif is_image_like(path):
            yield path


def _images_below(folder: Path) -> Iterator[Path | NothingFound]:
    for found in files_below(folder):
        if isinstance(found, Unlistable):
            yield NothingFound(found.path, found.reason)
        elif is_image_like(Path(found)):
            yield Path(found)
