"""Reading the catalog's tables of facts."""

import csv
from collections.abc import Iterator
from pathlib import Path


def rows(path: Path) -> Iterator[dict[str, str]]:
    """Yield the rows of a table with a header, in its order."""
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def share(percent: str) -> float | None:
    """Return the share that a table gives in percent; None where it gives none."""
    return round(float(percent) / 100, 4) if percent else None
