"""The table of images, data/manifest.csv: one row per image that can be read.

Its digest lies beside it, in data/manifest.csv.sha256; the table itself is plain CSV.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import islice, pairwise
from operator import eq, lt
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self, get_args, overload

import numpy as np
from numpy.typing import NDArray

from headstart.common.errors import InputError
from headstart.common.files import write_table
from headstart.common.seal import read_checked, write_checksum
from headstart.common.vocabulary import DROPPED, SPLITS, Split

if TYPE_CHECKING:
    import _csv

_SHA256 = re.compile(r"[0-9a-f]{64}")
_HEXADECIMAL = re.compile(r"[0-9a-f]*")
_DIGEST_BYTES = 32
_LONGEST_SIDE = 2**31 - 1
_ROWS_AT_ONCE = 8192

Correction = Literal["keep", "relabel"]
CORRECTIONS: tuple[Correction, ...] = get_args(Correction)

_SPLITS: tuple[Split | Literal["dropped"], ...] = (*SPLITS, DROPPED)
_CORRECTIONS: tuple[Correction | Literal[""], ...] = ("", *CORRECTIONS)


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


class Texts(NamedTuple):
    """A column of texts of which many are equal.

    Attributes:
        names: Each text once.
        code: Position in `names` of each image's, (n_images,) int32.
    """

    names: tuple[str, ...]
    code: NDArray[np.int32]


class ManifestColumns(NamedTuple):
    """The table by columns, each (n_images,): a million rows take 100 MB, their paths included.

    Attributes:
        path: As in `ManifestRow`, as are those with the same names below.
        sha256: Digests as bytes, (n_images, 32) uint8.
        label: Names of the classes.
        split: Position among "train", "validation", "test" and "dropped".
        group: Names of the groups.
        width: In pixels.
        height: In pixels.
        correction: Position among "", "keep" and "relabel".
        given_label: What the source said of relabelled images.
        further: The columns of the source's table.
    """

    path: NDArray[np.object_]
    sha256: NDArray[np.uint8]
    label: Texts
    split: NDArray[np.int8]
    group: Texts
    width: NDArray[np.int32]
    height: NDArray[np.int32]
    correction: NDArray[np.int8]
    given_label: Texts
    further: tuple[Texts, ...] = ()


class _Builder:
    """Collects values row by row, or many rows at once, into columns."""

    def __init__(self, n_further: int) -> None:
        self._path: list[str] = []
        self._sha256: list[bytes] = []
        # Label, group, given label, then the further ones.
        self._numbers: list[dict[str, int]] = [{} for _ in range(3 + n_further)]
        self._codes: list[list[NDArray[np.int32]]] = [[] for _ in self._numbers]
        self._small: list[list[NDArray[np.int8]]] = [[], []]
        self._sides: list[list[NDArray[np.int32]]] = [[], []]

    def add(
        self,
        path: Sequence[str],
        sha256: Sequence[str],
        label: Sequence[str],
        split: Sequence[str],
        group: Sequence[str],
        width: Sequence[int],
        height: Sequence[int],
        correction: Sequence[str],
        given_label: Sequence[str],
        *further: Sequence[str],
    ) -> None:
        self._path += path
        self._sha256.append(bytes.fromhex("".join(sha256)))
        texts = (label, group, given_label, *further)
        for numbers, codes, values in zip(self._numbers, self._codes, texts, strict=True):
            for value in dict.fromkeys(values):
                numbers.setdefault(value, len(numbers))
            codes.append(np.fromiter(map(numbers.__getitem__, values), np.int32, len(values)))
        known: tuple[tuple[str, ...], ...] = (_SPLITS, _CORRECTIONS)
        for names, kept, chosen in zip(known, self._small, (split, correction), strict=True):
            code = {name: number for number, name in enumerate(names)}
            kept.append(np.fromiter(map(code.__getitem__, chosen), np.int8, len(chosen)))
        for sides, lengths in zip(self._sides, (width, height), strict=True):
            sides.append(np.array(lengths, np.int32))

    def columns(self) -> ManifestColumns:
        path = np.empty(len(self._path), object)
        path[:] = self._path
        label, group, given_label, *further = (
            Texts(tuple(numbers), np.concatenate([np.empty(0, np.int32), *codes]))
            for numbers, codes in zip(self._numbers, self._codes, strict=True)
        )
        split, correction = (np.concatenate([np.empty(0, np.int8), *one]) for one in self._small)
        width, height = (np.concatenate([np.empty(0, np.int32), *one]) for one in self._sides)
        digests = np.frombuffer(b"".join(self._sha256), np.uint8).reshape(-1, _DIGEST_BYTES)
        return ManifestColumns(
            path,
            digests,
            label,
            split,
            group,
            width,
            height,
            correction,
            given_label,
            tuple(further),
        )


class Rows(Sequence[ManifestRow]):
    """The images one by one; each row is made when it is asked for.

    Args:
        columns: The table.
    """

    def __init__(self, columns: ManifestColumns) -> None:
        self._columns = columns

    def __len__(self) -> int:
        return len(self._columns.path)

    @overload
    def __getitem__(self, index: int) -> ManifestRow: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[ManifestRow, ...]: ...

    def __getitem__(self, index: int | slice) -> ManifestRow | tuple[ManifestRow, ...]:
        if isinstance(index, slice):
            return tuple(self[position] for position in range(*index.indices(len(self))))
        columns = self._columns
        return ManifestRow(
            columns.path[index],
            columns.sha256[index].tobytes().hex(),
            columns.label.names[columns.label.code[index]],
            _SPLITS[columns.split[index]],
            columns.group.names[columns.group.code[index]],
            int(columns.width[index]),
            int(columns.height[index]),
            _CORRECTIONS[columns.correction[index]],
            columns.given_label.names[columns.given_label.code[index]],
            tuple(one.names[one.code[index]] for one in columns.further),
        )

    def __iter__(self) -> Iterator[ManifestRow]:
        for values in _values(self._columns):
            yield ManifestRow._make((*values[: len(FIELDS)], values[len(FIELDS) :]))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(eq, self, other))

    __hash__ = None  # type: ignore[assignment]  # the way to say that it may not be a key


def _values(columns: ManifestColumns) -> Iterator[tuple[Any, ...]]:
    """Yield the values of the table's fields and further columns, row by row."""
    texts = (columns.label, columns.group, columns.given_label, *columns.further)
    names = [np.array([*one.names, None], object) for one in texts]
    for start in range(0, len(columns.path), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        digests = columns.sha256[part].tobytes().hex()
        label, group, given_label, *further = (
            of[one.code[part]].tolist() for of, one in zip(names, texts, strict=True)
        )
        yield from zip(
            columns.path[part].tolist(),
            map(digests.__getitem__, _digits(len(columns.path[part]))),
            label,
            [_SPLITS[code] for code in columns.split[part].tolist()],
            group,
            columns.width[part].tolist(),
            columns.height[part].tolist(),
            [_CORRECTIONS[code] for code in columns.correction[part].tolist()],
            given_label,
            *further,
            strict=True,
        )


def _digits(n_digests: int) -> Iterator[slice]:
    length = 2 * _DIGEST_BYTES
    return (slice(start, start + length) for start in range(0, n_digests * length, length))


class Manifest:
    """All images, sorted by path.

    Attributes:
        columns: The table by columns, which is the way to go through all images.
        rows: The images; a position in it is the `image` of the feature file.
        column_names: Of the further columns of the source's table.
    """

    def __init__(self, rows: Iterable[ManifestRow], column_names: Iterable[str] = ()) -> None:
        self.column_names: tuple[str, ...] = tuple(column_names)
        builder = _Builder(len(self.column_names))
        ordered = sorted(rows)
        for start in range(0, len(ordered), _ROWS_AT_ONCE):
            *fields, further = zip(*ordered[start : start + _ROWS_AT_ONCE], strict=True)
            builder.add(*fields, *zip(*further, strict=True))
        self.columns = builder.columns()

    @classmethod
    def of_columns(cls, columns: ManifestColumns, column_names: Iterable[str] = ()) -> Self:
        """Take a table by columns.

        Args:
            columns: Sorted by path.
            column_names: Of `columns.further`.
        """
        manifest = cls((), column_names)
        manifest.columns = columns
        return manifest

    @property
    def rows(self) -> Rows:
        """The images one by one."""
        return Rows(self.columns)

    def __len__(self) -> int:
        return len(self.columns.path)

    def __iter__(self) -> Iterator[ManifestRow]:
        return iter(self.rows)

    @property
    def sha256(self) -> NDArray[np.str_]:
        """Hexadecimal digest of each image's bytes, (n_images,)."""
        digits = self.columns.sha256.tobytes().hex().encode()
        return np.frombuffer(digits, f"S{2 * _DIGEST_BYTES}").astype(np.str_)

    @property
    def split(self) -> NDArray[np.str_]:
        """The split of each image, (n_images,)."""
        return np.array(_SPLITS)[self.columns.split]

    @property
    def _used(self) -> NDArray[np.bool_]:
        used: NDArray[np.bool_] = self.columns.split != _SPLITS.index(DROPPED)
        return used

    @cached_property
    def in_use(self) -> tuple[int, ...]:
        """Positions of the images that are in a split, all but those that were dropped."""
        return tuple(np.flatnonzero(self._used).tolist())

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """The labels of images in a split, sorted; a position in it is a class index."""
        names, code = self.columns.label
        return tuple(sorted(names[one] for one in np.unique(code[self._used]).tolist()))

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Class index of each image, (n_images,)."""
        index = {name: position for position, name in enumerate(self.class_names)}
        names, code = self.columns.label
        return np.array([index[name] for name in names], np.int64)[code]

    @cached_property
    def groups(self) -> NDArray[np.int64]:
        """Group index of each image, -1 for none, (n_images,)."""
        names, code = self.columns.group
        given = sorted(name for name in names if name)
        index = {name: position for position, name in enumerate(given)} | {"": -1}
        return np.array([index[name] for name in names], np.int64)[code]


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write the table as UTF-8 CSV with a header line, then its digest, each atomically."""
    write_table(path, (*FIELDS, *manifest.column_names), _values(manifest.columns))
    write_checksum(path)


def read_manifest(path: Path) -> Manifest:
    """Read the table that `write_manifest` wrote, and check it.

    Raises:
        InputError: the file or its digest is missing, they do not fit each other, or it has other
            columns, a value that cannot be, two rows for one path, or no row at all.
    """
    data = read_checked(path, "run `dvc repro prepare` to write it anew")
    with _reader(data) as reader:
        header = tuple(next(reader, ()))
        names = header[len(FIELDS) :]
        if header[: len(FIELDS)] != FIELDS or len(set(header)) < len(header):
            raise InputError(
                f"{path}: expected the columns {','.join(FIELDS)} and those of the source, "
                f"received {','.join(header) or 'an empty file'}. Run `dvc repro prepare` again."
            )
        builder = _Builder(len(names))
        while lines := list(islice(reader, _ROWS_AT_ONCE)):
            if not _add_all(builder, lines, len(header)):
                raise _first_problem(path, data)
    columns = builder.columns()
    if not len(columns.path):
        raise InputError(f"{path}: no image. Run `dvc repro prepare` again.")
    paths = columns.path.tolist()
    if not all(map(lt, paths, islice(paths, 1, None))):
        manifest = Manifest(Rows(columns), names)
        columns, paths = manifest.columns, manifest.columns.path.tolist()
        for one, other in pairwise(paths):
            if one == other:
                raise InputError(f"{path}: {one} is listed twice. Run `dvc repro prepare` again.")
    return Manifest.of_columns(columns, names)


@contextmanager
def _reader(data: bytes) -> Iterator["_csv.Reader"]:
    with io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", newline="") as file:
        yield csv.reader(file)


def _add_all(builder: _Builder, lines: Sequence[Sequence[str]], n_columns: int) -> bool:
    """Take lines of the table, all at once; return whether each of them can be."""
    if {len(values) for values in lines} != {n_columns}:
        return False
    columns = list(zip(*lines, strict=True))
    path, sha256, label, split, group, width, height, correction, given_label = columns[
        : len(FIELDS)
    ]
    possible = (
        all(path)
        and all(label)
        and {len(digest) for digest in sha256} == {2 * _DIGEST_BYTES}
        and _HEXADECIMAL.fullmatch("".join(sha256))
        and set(split) <= set(_SPLITS)
        and all(_is_side(side) for side in {*width, *height})
        and set(correction) <= set(_CORRECTIONS)
    )
    if possible:
        builder.add(
            path,
            sha256,
            label,
            split,
            group,
            list(map(int, width)),
            list(map(int, height)),
            correction,
            given_label,
            *columns[len(FIELDS) :],
        )
    return bool(possible)


def _first_problem(path: Path, data: bytes) -> InputError:
    """Return what is wrong with the first line that cannot be, of a table with one."""
    with _reader(data) as reader:
        n_columns = len(next(reader))
        problems = ((reader.line_num, _problem(values, n_columns)) for values in reader)
        line, problem = next((line, problem) for line, problem in problems if problem)
    return InputError(f"{path}, line {line}: {problem}. Run `dvc repro prepare` again.")


def _problem(values: Sequence[str], n_columns: int) -> str:
    """Return what is wrong with a line, empty for nothing."""
    fields = dict(zip(FIELDS, values, strict=False))
    if len(values) != n_columns:
        return f"expected {n_columns} values, received {len(values)}"
    if not fields["path"] or not fields["label"]:
        return "path and label may not be empty"
    if not _SHA256.fullmatch(fields["sha256"]):
        return f"sha256: expected 64 hexadecimal digits, received {fields['sha256']!r}"
    if fields["split"] not in _SPLITS:
        return f"split: expected one of {', '.join(_SPLITS)}, received {fields['split']!r}"
    if not (_is_side(fields["width"]) and _is_side(fields["height"])):
        return (
            "width and height: expected positive whole numbers, "
            f"received {fields['width']!r} and {fields['height']!r}"
        )
    if fields["correction"] not in _CORRECTIONS:
        return (
            f"correction: expected nothing or one of {', '.join(CORRECTIONS)}, "
            f"received {fields['correction']!r}"
        )
    return ""


def _is_side(text: str) -> bool:
    return text.isascii() and text.isdigit() and 0 < int(text) <= _LONGEST_SIDE
