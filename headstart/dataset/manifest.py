"""The table of images, data/manifest.csv: one row per image that can be read.

Its digest lies beside it, in data/manifest.csv.sha256; the table itself is plain CSV.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from headstart.common.errors import InputError
from headstart.common.files import write_table
from headstart.common.seal import read_checked, write_checksum
from headstart.common.vocabulary import DROPPED, SPLITS, Split

_SHA256 = re.compile(r"[0-9a-f]{64}")

Correction = Literal["keep", "relabel"]
CORRECTIONS: tuple[Correction, ...] = get_args(Correction)


class ManifestRow(NamedTuple):
    """One image.

    Attributes:
        path: Posix path; absolute, or relative to the project's root.
        sha256: Hexadecimal digest of the file's bytes.
        label: Name of its class.
        split: "train", "validation", "test", or `DROPPED`.
        group: Name of the group that must stay within one split; empty for none.
        width: In pixels, orientation applied.
        height: In pixels, orientation applied.
        correction: What prepare.corrections made of it: "relabel" where it has another label than
            the source gives, "keep" where somebody looked and it has that one; empty otherwise.
        given_label: Of a relabelled image the label that the source gives, empty where it gives
            none; of others empty.
        columns: Further values of the source's table, as `Manifest.column_names` names them.
    """

    path: str
    sha256: str
    label: str
    split: Split | Literal["dropped"]
    group: str
    width: int
    height: int
    correction: Correction | Literal[""] = ""
    given_label: str = ""
    columns: tuple[str, ...] = ()

    @property
    def source_label(self) -> str:
        """The label that the source gives it; empty where it gives none."""
        return self.given_label if self.correction == "relabel" else self.label

    @property
    def source_split(self) -> Split:
        """The split that it has, or had before it was dropped."""
        return "test" if self.split == DROPPED else self.split


FIELDS = ManifestRow._fields[:-1]
"""Columns of the table before those of the source."""


class Manifest:
    """All images, sorted by path.

    Attributes:
        rows: The images; a position in it is the `image` of the feature file.
        column_names: Of the further columns of the source's table.
    """

    def __init__(self, rows: Iterable[ManifestRow], column_names: Iterable[str] = ()) -> None:
        self.rows: tuple[ManifestRow, ...] = tuple(sorted(rows))
        self.column_names: tuple[str, ...] = tuple(column_names)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[ManifestRow]:
        return iter(self.rows)

    @cached_property
    def in_use(self) -> tuple[int, ...]:
        """Positions of the images that are in a split, all but those that were dropped."""
        return tuple(i for i, row in enumerate(self.rows) if row.split != DROPPED)

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """The labels of images in a split, sorted; a position in it is a class index."""
        return tuple(sorted({row.label for row in self.rows if row.split != DROPPED}))

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Class index of each image, (n_images,)."""
        index = {name: position for position, name in enumerate(self.class_names)}
        return np.array([index[row.label] for row in self.rows], np.int64)

    @cached_property
    def groups(self) -> NDArray[np.int64]:
        """Group index of each image, -1 for none, (n_images,)."""
        names = sorted({row.group for row in self.rows if row.group})
        index = {name: position for position, name in enumerate(names)} | {"": -1}
        return np.array([index[row.group] for row in self.rows], np.int64)


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write the table as UTF-8 CSV with a header line, then its digest, each atomically."""
    header = (*FIELDS, *manifest.column_names)
    write_table(path, header, ((*row[:-1], *row.columns) for row in manifest.rows))
    write_checksum(path)


def read_manifest(path: Path) -> Manifest:
    """Read the table that `write_manifest` wrote, and check it.

    Raises:
        InputError: the file or its digest is missing, they do not fit each other, or it has other
            columns, a value that cannot be, two rows for one path, or no row at all.
    """
    data = read_checked(path, "run `dvc repro prepare` to write it anew")
    with io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        header = tuple(next(reader, ()))
        names = header[len(FIELDS) :]
        if header[: len(FIELDS)] != FIELDS or len(set(header)) < len(header):
            raise InputError(
                f"{path}: expected the columns {','.join(FIELDS)} and those of the source, "
                f"received {','.join(header) or 'an empty file'}. Run `dvc repro prepare` again."
            )
        rows = [_row(path, reader.line_num, values, len(header)) for values in reader]
    if not rows:
        raise InputError(f"{path}: no image. Run `dvc repro prepare` again.")
    manifest = Manifest(rows, names)
    for one, other in zip(manifest.rows, manifest.rows[1:], strict=False):
        if one.path == other.path:
            raise InputError(f"{path}: {one.path} is listed twice. Run `dvc repro prepare` again.")
    return manifest


def _row(path: Path, line: int, values: list[str], n_columns: int) -> ManifestRow:
    fields = dict(zip(FIELDS, values, strict=False))
    if len(values) != n_columns:
        problem = f"expected {n_columns} values, received {len(values)}"
    elif not fields["path"] or not fields["label"]:
        problem = "path and label may not be empty"
    elif not _SHA256.fullmatch(fields["sha256"]):
        problem = f"sha256: expected 64 hexadecimal digits, received {fields['sha256']!r}"
    elif fields["split"] not in (*SPLITS, DROPPED):
        problem = (
            f"split: expected one of {', '.join((*SPLITS, DROPPED))}, received {fields['split']!r}"
        )
    elif not (_is_side(fields["width"]) and _is_side(fields["height"])):
        problem = (
            "width and height: expected positive whole numbers, "
            f"received {fields['width']!r} and {fields['height']!r}"
        )
    elif fields["correction"] not in ("", *CORRECTIONS):
        problem = (
            f"correction: expected nothing or one of {', '.join(CORRECTIONS)}, "
            f"received {fields['correction']!r}"
        )
    else:
        split: Split | Literal["dropped"] = next(
            (name for name in SPLITS if name == fields["split"]), DROPPED
        )
        correction: Correction | Literal[""] = next(
            (name for name in CORRECTIONS if name == fields["correction"]), ""
        )
        return ManifestRow(
            fields["path"],
            fields["sha256"],
            fields["label"],
            split,
            fields["group"],
            int(fields["width"]),
            int(fields["height"]),
            correction,
            fields["given_label"],
            tuple(values[len(FIELDS) :]),
        )
    raise InputError(f"{path}, line {line}: {problem}. Run `dvc repro prepare` again.")


def _is_side(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) > 0
