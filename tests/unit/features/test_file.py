import dataclasses
from pathlib import Path

import h5py
import numpy as np
import pytest

from headstart.common.errors import InputError
from headstart.common.files import digest_of
from headstart.features.file import (
    Columns,
    FeatureFile,
    Header,
    create_feature_file,
    write_feature_file,
)
from tests.feature_files import make_identity

PREPROCESSING = {"name": "plain", "divisor": 255.0}
PREPROCESSING_DIGEST = digest_of({"divisor": 255.0})
N_ROWS = 12


def make_header(feature_shape: tuple[int, ...] = (5,)) -> Header:
    identity = make_identity(
        layer="flatten", image_size=(32, 24), preprocessing_digest=PREPROCESSING_DIGEST
    )
    return Header(
        class_names=("고양이", "dog"),
        identity=identity,
        feature_shape=feature_shape,
        preprocessing=PREPROCESSING,
        augment={"views": 1, "seed": 0},
        versions={"numpy": "2"},
    )


def make_columns(n_rows: int = N_ROWS) -> Columns:
    """Two rows per image: the image and one view; the last quarter validates."""
    image = np.arange(n_rows) // 2
    return Columns(
        label=image % 2,
        split=np.where(np.arange(n_rows) < 3 * n_rows // 4, "train", "validation"),
        sha256=np.array([f"{number:064x}" for number in image]),
        view=(np.arange(n_rows) % 2).astype(np.int32),
        group=np.full(n_rows, -1),
        image=image,
    )


def make_features(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "features" / "bottleneck.h5"
    write_feature_file(path, make_header(), make_columns(), make_features((N_ROWS, 5)))
    return path


def test_round_trip(written: Path) -> None:
    opened = FeatureFile.open(written)
    columns = make_columns()
    assert opened.header == make_header()
    assert isinstance(opened.features, np.memmap)
    assert np.array_equal(opened.features, make_features((N_ROWS, 5)))
    for name in ("label", "split", "sha256", "view", "group", "image"):
        assert np.array_equal(getattr(opened, name), getattr(columns, name)), name
    assert len(opened) == N_ROWS
    assert opened.header.feature_dim == 5


def test_rows_by_split_and_view(written: Path) -> None:
    opened = FeatureFile.open(written)
    assert opened.rows("train").tolist() == [0, 2, 4, 6, 8]
    assert opened.rows("validation").tolist() == [10]
    assert opened.rows("train", views=True).tolist() == list(range(9))
    assert opened.rows().tolist() == [0, 2, 4, 6, 8, 10]
    assert opened.rows("test").tolist() == []


def test_spatial_map(tmp_path: Path) -> None:
    features = make_features((N_ROWS, 2, 3, 4))
    write_feature_file(tmp_path / "map.h5", make_header((2, 3, 4)), make_columns(), features)
    opened = FeatureFile.open(tmp_path / "map.h5")
    assert opened.header.feature_shape == (2, 3, 4)
    assert opened.header.feature_dim == 24
    assert np.array_equal(opened.features, features)


def test_features_are_contiguous_for_other_readers(written: Path) -> None:
    with h5py.File(written, "r") as file:
        assert file["features"].chunks is None
        assert file["features"].compression is None
        assert file["features"].id.get_offset() % 4 == 0
        assert np.array_equal(file["features"][:], make_features((N_ROWS, 5)))


def test_same_bytes_in_whatever_order_the_rows_came(written: Path, tmp_path: Path) -> None:
    features = make_features((N_ROWS, 5))
    order = np.random.default_rng(1).permutation(N_ROWS)
    again = tmp_path / "again.h5"
    with create_feature_file(again, make_header(), make_columns()) as writer:
        for block in np.array_split(order, 4):
            writer.write(block, features[block])
    assert again.read_bytes() == written.read_bytes()


def test_unwritten_rows_leave_no_file(tmp_path: Path) -> None:
    path = tmp_path / "bottleneck.h5"
    with (
        pytest.raises(ValueError, match="some of the 12 rows were never written"),
        create_feature_file(path, make_header(), make_columns()) as writer,
    ):
        writer.write(np.arange(3), make_features((3, 5)))
    assert list(tmp_path.iterdir()) == []


def test_columns_must_fit(tmp_path: Path) -> None:
    columns = dataclasses.replace(make_columns(), label=np.zeros(3, dtype=np.int64))
    with pytest.raises(ValueError, match=r"column split: expected shape \(3,\), got \(12,\)"):
        write_feature_file(tmp_path / "a.h5", make_header(), columns, make_features((3, 5)))
    columns = dataclasses.replace(make_columns(), split=np.full(N_ROWS, "validation_two"))
    with pytest.raises(ValueError, match="column split: a value is longer than 10"):
        write_feature_file(tmp_path / "a.h5", make_header(), columns, make_features((N_ROWS, 5)))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.h5: no such feature file: run `dvc repro"):
        FeatureFile.open(tmp_path / "none.h5")


def test_no_hdf5(tmp_path: Path) -> None:
    path = tmp_path / "text.h5"
    path.write_text("features")
    with pytest.raises(InputError, match=r"text\.h5: not a readable HDF5 file"):
        FeatureFile.open(path)


def test_truncated(written: Path) -> None:
    data = written.read_bytes()
    written.write_bytes(data[: len(data) - 40])
    with pytest.raises(InputError, match=r"not a readable HDF5 file .*truncated"):
        FeatureFile.open(written)


def test_other_schema(written: Path) -> None:
    with h5py.File(written, "r+") as file:
        file.attrs["schema_version"] = 99
    with pytest.raises(
        InputError, match="expected a feature file of schema version 1, received 99"
    ):
        FeatureFile.open(written)
    with h5py.File(written, "r+") as file:
        del file.attrs["schema_version"]
    with pytest.raises(InputError, match="schema version 1, received none"):
        FeatureFile.open(written)


def test_missing_dataset(written: Path) -> None:
    with h5py.File(written, "r+") as file:
        del file["view"]
    with pytest.raises(InputError, match="no dataset view"):
        FeatureFile.open(written)


def test_column_of_another_length(written: Path) -> None:
    with h5py.File(written, "r+") as file:
        del file["view"]
        file["view"] = np.zeros(3, np.int32)
    with pytest.raises(InputError, match=r"dataset view: expected int32 of shape \(12,\)"):
        FeatureFile.open(written)


def test_features_of_another_type(written: Path) -> None:
    with h5py.File(written, "r+") as file:
        del file["features"]
        file["features"] = np.zeros((N_ROWS, 5))
    with pytest.raises(InputError, match=r"expected float32 features .* received float64"):
        FeatureFile.open(written)


def test_chunked_features(written: Path) -> None:
    with h5py.File(written, "r+") as file:
        del file["features"]
        file.create_dataset("features", data=np.zeros((N_ROWS, 5), np.float32), chunks=(1, 5))
    with pytest.raises(InputError, match="expected contiguous, uncompressed features"):
        FeatureFile.open(written)


def test_label_without_a_class_name(written: Path) -> None:
    with h5py.File(written, "r+") as file:
        file["label"][3] = 2
    with pytest.raises(InputError, match=r"expected labels from 0 to 1, .* received 0 to 2"):
        FeatureFile.open(written)


@pytest.mark.parametrize(
    ("attribute", "value", "digest"),
    [
        ("layer", "another", "feature_digest"),
        ("engine", "tensorflow", "fingerprint"),
        ("preprocessing", '{"divisor": 1.0}', "preprocessing_digest"),
    ],
)
def test_changed_header(written: Path, attribute: str, value: str, digest: str) -> None:
    with h5py.File(written, "r+") as file:
        file.attrs[attribute] = value
    with pytest.raises(InputError, match=f"{digest}: expected .*; the header was changed"):
        FeatureFile.open(written)


def test_unreadable_header(written: Path) -> None:
    with h5py.File(written, "r+") as file:
        del file.attrs["class_names"]
    with pytest.raises(InputError, match="the header cannot be read"):
        FeatureFile.open(written)
