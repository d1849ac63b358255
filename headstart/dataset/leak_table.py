"""data/leaks.csv: the pictures that lie in two splits."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Self

from headstart.common.files import write_table
from headstart.dataset.manifest import ManifestRow


class Leak(NamedTuple):
    """Two images of one picture in two splits, a line of data/leaks.csv."""

    path: str
    split: str
    label: str
    other_path: str
    other_split: str
    other_label: str
    kind: str
    similarity: str

    @classmethod
    def between(cls, one: ManifestRow, other: ManifestRow, kind: str, similarity: float) -> Self:
        """Name the two images, in the order of the manifest, and how alike they are, 0 to 1."""
        first, second = sorted((one, other))
        return cls(
            first.path,
            first.split,
            first.label,
            second.path,
            second.split,
            second.label,
            kind,
            f"{similarity:.4f}",
        )


def write_leaks(path: Path, found: Iterable[Leak]) -> None:
    """Write data/leaks.csv; a header alone when there is none."""
    write_table(path, Leak._fields, found)
