"""The HDF5 file of bottleneck features that a stage hands on: layout, header, reading.

One row per image and view, in manifest order, view 0 (the image itself) before views 1..K; of a
text-paired backbone also one text vector per class. The
features lie contiguous and uncompressed, so that readers map them instead of loading them. They
are the payload of the file's seal, which is checked before anything of it is read; format 1 had
no seal.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from headstart.common.errors import InputError
from headstart.common.files import atomic_write, digest_of
from headstart.common.hdf5 import open_hdf5
from headstart.common.seal import USER_BLOCK, open_h5, open_sealed_h5, require_seal, seal_h5
from headstart.common.vocabulary import SPLITS
from headstart.features.identity import FeatureIdentity
from headstart.features.text import Texts, read_texts, write_texts

KIND = "features 2"

# On-disk type of every column that stands beside the features.
COLUMN_TYPES: dict[str, np.dtype[Any]] = {
    "label": np.dtype("<i8"),
    "split": np.dtype("S10"),
    "sha256": np.dtype("S64"),
    "view": np.dtype("<i4"),
    "group": np.dtype("<i8"),
    "image": np.dtype("<i8"),
}
_FEATURE_TYPE = np.dtype("<f4")
_REMEDY = "run `dvc repro extract` to write it anew"


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a feature file says of its features.

    Attributes:
        class_names: Sorted; a label is an index into it.
        identity: The extractor that made the features.
        feature_shape: Of one row: (feature_dim,) or (height, width, channels).
        preprocessing: The rule from RGB in [0, 255] to the network's input; its digest, the
            name left out, is `identity.preprocessing_digest`.
        augment: Recipe of the views 1..K; None without views.
        versions: Versions of the libraries that computed the features, by distribution name.
    """

    class_names: tuple[str, ...]
    identity: FeatureIdentity
    feature_shape: tuple[int, ...]
    preprocessing: dict[str, Any]
    augment: dict[str, Any] | None
    versions: dict[str, str]

    @property
    def feature_dim(self) -> int:
        """Numbers per row; of a spatial map, height x width x channels."""
        return int(np.prod(self.feature_shape))


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """What stands beside each row of features; all of shape (n_rows,).

    Attributes:
        label: Index into `Header.class_names`.
        split: "train", "validation", "test" or "dropped", as in the manifest.
        sha256: Hexadecimal digest of the image file's bytes.
        view: 0 for the image itself, k for its k-th augmented copy.
        group: Images of one group share a number; -1 stands alone.
        image: Row of the image in the manifest.
    """

    label: npt.NDArray[np.int64]
    split: npt.NDArray[np.str_]
    sha256: npt.NDArray[np.str_]
    view: npt.NDArray[np.int32]
    group: npt.NDArray[np.int64]
    image: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.label)


class FeatureWriter:
    """Fills the features of a file under construction, in any order, row by row or in blocks."""

    def __init__(
        self, path: Path, descriptor: int, offset: int, n_rows: int, shape: tuple[int, ...]
    ) -> None:
        self._path = path
        self._descriptor = descriptor
        self._offset = offset
        self._shape = shape
        self._row_bytes = int(np.prod(shape)) * _FEATURE_TYPE.itemsize
        self._written = np.zeros(n_rows, dtype=bool)

    def write(self, rows: npt.NDArray[np.integer[Any]], features: npt.NDArray[np.float32]) -> None:
        """Write `features` to `rows`.

        Args:
            rows: (n,) row numbers.
            features: (n, *feature_shape).

        Raises:
            InputError: a feature is not finite.
        """
        if features.shape != (len(rows), *self._shape):
            raise ValueError(f"expected shape {(len(rows), *self._shape)}, got {features.shape}")
        data = np.ascontiguousarray(features, dtype=_FEATURE_TYPE)
        finite = np.isfinite(data).all(axis=tuple(range(1, data.ndim)))
        if not finite.all():
            raise InputError(
                f"{self._path}: expected finite features, received NaN or infinity in row "
                f"{rows[int(np.argmin(finite))]}: check extract.weights and extract.precision, "
                "and run `dvc repro extract`"
            )
        # Neighboring rows go out in one call; in manifest order that is the whole block.
        starts = np.flatnonzero(np.diff(rows, prepend=rows[:1] - 2) != 1)
        for start, stop in zip(starts, [*starts[1:], len(rows)], strict=True):
            self._write_at(data[start:stop], self._offset + int(rows[start]) * self._row_bytes)
        self._written[rows] = True

    def _write_at(self, data: npt.NDArray[np.float32], position: int) -> None:
        view = data.reshape(-1).view(np.uint8).data
        while view:
            count = os.pwrite(self._descriptor, view, position)
            view, position = view[count:], position + count

    @property
    def complete(self) -> bool:
        """Whether every row has been written."""
        return bool(self._written.all())


@contextmanager
def create_feature_file(
    path: Path, header: Header, columns: Columns, texts: Texts = None
) -> Iterator[FeatureWriter]:
    """Create a feature file; it appears under its name, whole, when the block succeeds.

    The same header, columns, texts and features give the same bytes.

    Raises:
        ValueError: the columns do not fit each other or the header, or the block ends with rows
            unwritten.
    """
    n_rows = len(columns)
    _check_header(header, columns)
    with atomic_write(path) as temporary:
        # Aligned to pages, so that a reader's map of the features starts on one.
        with open_hdf5(
            temporary,
            userblock_size=USER_BLOCK,
            alignment_threshold=USER_BLOCK,
            alignment_interval=USER_BLOCK,
        ) as file:
            _write_attributes(file, header)
            for name, dtype in COLUMN_TYPES.items():
                _write_column(file, name, np.asarray(getattr(columns, name)), dtype, n_rows)
            write_texts(file, texts, len(header.class_names), header.feature_shape[-1])
            offset, size = _allocate(file, "features", (n_rows, *header.feature_shape))
        descriptor = os.open(temporary, os.O_RDWR)
        try:
            writer = FeatureWriter(path, descriptor, offset, n_rows, header.feature_shape)
            yield writer
        finally:
            os.close(descriptor)
        if not writer.complete:
            raise ValueError(f"{path}: some of the {n_rows} rows were never written")
        seal_h5(temporary, KIND, (offset, size))


def write_feature_file(
    path: Path,
    header: Header,
    columns: Columns,
    features: npt.NDArray[np.float32],
    texts: Texts = None,
) -> None:
    """Write a feature file whose features, (n_rows, *feature_shape), are already in memory."""
    with create_feature_file(path, header, columns, texts) as writer:
        writer.write(np.arange(len(columns)), features)


def _check_header(header: Header, columns: Columns) -> None:
    # What a rule is called is no part of what it does.
    rule = {key: value for key, value in header.preprocessing.items() if key != "name"}
    if digest_of(rule) != header.identity.preprocessing_digest:
        raise ValueError("preprocessing: not the rule that the identity's digest is of")
    if not len(columns):
        raise ValueError("expected at least one row, got none")
    label = np.asarray(columns.label)
    if label.min() < 0 or label.max() >= len(header.class_names):
        raise ValueError(
            f"column label: expected 0 to {len(header.class_names) - 1}, one per class name, "
            f"got {label.min()} to {label.max()}"
        )


def _write_attributes(file: h5py.File, header: Header) -> None:
    identity = header.identity
    # JSON in one string each: an HDF5 attribute of many strings may not exceed 64 kB.
    file.attrs["class_names"] = json.dumps(header.class_names, ensure_ascii=False)
    for name, value in identity.as_dict().items():
        file.attrs[name] = value
    file.attrs["feature_digest"] = identity.feature_digest
    file.attrs["fingerprint"] = identity.fingerprint
    file.attrs["preprocessing"] = json.dumps(header.preprocessing)
    file.attrs["augment"] = json.dumps(header.augment)
    file.attrs["versions"] = json.dumps(header.versions)


def _write_column(
    file: h5py.File, name: str, values: npt.NDArray[Any], dtype: np.dtype[Any], n_rows: int
) -> None:
    if values.shape != (n_rows,):
        raise ValueError(f"column {name}: expected shape ({n_rows},), got {values.shape}")
    converted = values.astype(dtype)
    # A text cut to fit would be another text.
    if dtype.kind == "S" and (np.char.str_len(values) > dtype.itemsize).any():
        raise ValueError(f"column {name}: a value is longer than {dtype.itemsize} characters")
    file.create_dataset(name, data=converted, track_times=False)


def _allocate(file: h5py.File, name: str, shape: tuple[int, ...]) -> tuple[int, int]:
    """Reserve a contiguous dataset without touching its pages; return offset and size in bytes."""
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_layout(h5py.h5d.CONTIGUOUS)
    creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    creation.set_obj_track_times(False)
    dataset = h5py.h5d.create(
        file.id,
        name.encode(),
        h5py.h5t.py_create(_FEATURE_TYPE),
        h5py.h5s.create_simple(shape),
        dcpl=creation,
    )
    return int(dataset.get_offset()), int(dataset.get_storage_size())


class FeatureFile:
    """A feature file, open for reading; the features are mapped, never loaded whole.

    Attributes:
        path: The file.
        header: What it says of its features.
        features: (n_rows, *feature_shape) float32, a read-only map of the file.
        digest: Of the whole file.
    """

    path: Path
    header: Header
    features: npt.NDArray[np.float32]
    digest: str

    def __init__(
        self, path: Path, header: Header, features: npt.NDArray[np.float32], digest: str
    ) -> None:
        self.path = path
        self.header = header
        self.features = features
        self.digest = digest

    @classmethod
    def open(cls, path: Path) -> "FeatureFile":
        """Open a feature file, once it has proved to be as it was written.

        Raises:
            InputError: the file is missing, no feature file of this format, damaged, or open for
                writing in another program.
        """
        digest = require_seal(path, KIND, _REMEDY)
        with open_h5(path) as file:
            dataset = file["features"]
            offset, shape = dataset.id.get_offset(), dataset.shape
            header = _read_header(file, shape[1:])
        features = np.memmap(path, dtype=_FEATURE_TYPE, mode="r", offset=offset, shape=shape)
        return cls(path, header, features, digest)

    def __len__(self) -> int:
        return len(self.features)

    def _column(self, name: str) -> npt.NDArray[Any]:
        with open_sealed_h5(self.path, KIND, _REMEDY) as file:
            return np.asarray(file[name][:])

    @cached_property
    def texts(self) -> Texts:
        """Text vectors of the classes, or why there are none."""
        with open_sealed_h5(self.path, KIND, _REMEDY) as file:
            return read_texts(file)

    @cached_property
    def label(self) -> npt.NDArray[np.int64]:
        """(n_rows,) index into `header.class_names`."""
        return self._column("label")

    @cached_property
    def view(self) -> npt.NDArray[np.int32]:
        """(n_rows,) 0 for the image itself, k for its k-th augmented copy."""
        return self._column("view")

    @cached_property
    def group(self) -> npt.NDArray[np.int64]:
        """(n_rows,) images of one group share a number; -1 stands alone."""
        return self._column("group")

    @cached_property
    def image(self) -> npt.NDArray[np.int64]:
        """(n_rows,) row of the image in the manifest."""
        return self._column("image")

    @cached_property
    def split(self) -> npt.NDArray[np.str_]:
        """(n_rows,) "train", "validation", "test" or "dropped"."""
        return self._column("split").astype(np.str_)

    @cached_property
    def sha256(self) -> npt.NDArray[np.str_]:
        """(n_rows,) hexadecimal digest of the image file's bytes."""
        return self._column("sha256").astype(np.str_)

    def rows(self, *splits: str, views: bool = False) -> npt.NDArray[np.int64]:
        """Return the rows of the named splits, in file order.

        Args:
            splits: Names of splits, or "dropped"; none means all splits.
            views: Whether augmented views count, or the images themselves only.
        """
        chosen = np.isin(self.split, splits or SPLITS)
        if not views:
            chosen &= self.view == 0
        return np.flatnonzero(chosen)


def _read_header(file: h5py.File, feature_shape: tuple[int, ...]) -> Header:
    attributes = file.attrs
    # What an identity leaves out is no attribute.
    fields = [name for name in FeatureIdentity.__dataclass_fields__ if name in attributes]
    return Header(
        class_names=tuple(json.loads(attributes["class_names"])),
        identity=FeatureIdentity.from_dict({name: _plain(attributes[name]) for name in fields}),
        feature_shape=tuple(int(size) for size in feature_shape),
        preprocessing=json.loads(attributes["preprocessing"]),
        augment=json.loads(attributes["augment"]),
        versions=json.loads(attributes["versions"]),
    )


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
