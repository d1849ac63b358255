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
from headstart.features.text import ClassTexts
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


def make_texts(shape: tuple[int, int] = (2, 5)) -> ClassTexts:
    vectors = make_features(shape)
    prompts = (("사진: 고양이", "고양이"), ("a photo of a dog.",))
    return ClassTexts(vectors=vectors, scale=14.3, bias=-9.5, prompts=prompts)


def test_text_vectors_stand_beside_the_features(written: Path, tmp_path: Path) -> None:
    content = (make_header(), make_columns(), make_features((N_ROWS, 5)))
    paths = [tmp_path / name for name in ("a.h5", "b.h5")]
    for path in paths:
        write_feature_file(path, *content, make_texts())
    opened, expected = FeatureFile.open(paths[0]), make_texts()
    assert isinstance(opened.texts, ClassTexts)
    np.testing.assert_array_equal(opened.texts.vectors, expected.vectors)
    assert opened.texts.vectors.dtype == np.float32
    for name in ("scale", "bias", "prompts"):
        assert getattr(opened.texts, name) == getattr(expected, name)
    np.testing.assert_array_equal(opened.features, content[2])
    # The same bytes, and another digest than without or with other text.
    assert paths[0].read_bytes() == paths[1].read_bytes()
    other = tmp_path / "other.h5"
    write_feature_file(other, *content, dataclasses.replace(expected, scale=14.4))
    digests = {FeatureFile.open(path).digest for path in (written, paths[0], other)}
    assert len(digests) == 3


def test_why_there_are_no_text_vectors_is_kept(written: Path, tmp_path: Path) -> None:
    assert FeatureFile.open(written).texts is None
    path = tmp_path / "other.h5"
    content = (make_header(), make_columns(), make_features((N_ROWS, 5)))
    write_feature_file(path, *content, "the preset lacks tokenizer.json")
    assert FeatureFile.open(path).texts == "the preset lacks tokenizer.json"


def test_text_vectors_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    content = (make_header(), make_columns(), make_features((N_ROWS, 5)))
    for shape in ((3, 5), (2, 4)):
        with pytest.raises(ValueError, match=r"text vectors: expected shape \(2, 5\)"):
            write_feature_file(tmp_path / "a.h5", *content, make_texts(shape))


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


def test_labels_and_rule_must_fit_the_header(tmp_path: Path) -> None:
    features = make_features((N_ROWS, 5))
    columns = dataclasses.replace(make_columns(), label=np.full(N_ROWS, 2))
    with pytest.raises(ValueError, match="column label: expected 0 to 1, .* got 2 to 2"):
        write_feature_file(tmp_path / "a.h5", make_header(), columns, features)
    header = dataclasses.replace(make_header(), preprocessing={"divisor": 1.0})
    with pytest.raises(ValueError, match="preprocessing: not the rule"):
        write_feature_file(tmp_path / "a.h5", header, make_columns(), features)
    with pytest.raises(ValueError, match="at least one row"):
        write_feature_file(tmp_path / "a.h5", make_header(), make_columns(0), features[:0])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_are_never_written(written: Path, value: float) -> None:
    before = written.read_bytes()
    features = make_features((N_ROWS, 5))
    features[7, 3] = value
    with pytest.raises(InputError, match=r"bottleneck\.h5: expected finite .* in row 7: check"):
        write_feature_file(written, make_header(), make_columns(), features)
    assert written.read_bytes() == before
    assert list(written.parent.iterdir()) == [written]


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.h5: no such file: run `dvc repro extract`"):
        FeatureFile.open(tmp_path / "none.h5")


def test_the_digest_stands_for_header_columns_and_features(written: Path, tmp_path: Path) -> None:
    digests = {FeatureFile.open(written).digest}
    features, other = make_features((N_ROWS, 5)), tmp_path / "other.h5"
    write_feature_file(other, make_header(), make_columns(), features)
    assert FeatureFile.open(other).digest in digests
    header = dataclasses.replace(make_header(), versions={"numpy": "3"})
    columns = dataclasses.replace(make_columns(), group=np.zeros(N_ROWS, np.int64))
    for content in (
        (header, make_columns(), features),
        (make_header(), columns, features),
        (make_header(), make_columns(), features * np.float32(1.5)),
    ):
        write_feature_file(other, *content)
        digests.add(FeatureFile.open(other).digest)
    assert len(digests) == 4


def test_large_features_start_on_a_page(tmp_path: Path) -> None:
    path, features = tmp_path / "large.h5", make_features((N_ROWS, 200))
    write_feature_file(path, make_header((200,)), make_columns(), features)
    opened = FeatureFile.open(path)
    assert opened.features.offset % 4096 == 0
    assert np.array_equal(opened.features, features)


def test_a_file_of_an_older_release(written: Path, tmp_path: Path) -> None:
    """Format 1 was the same HDF5 without the user block."""
    old = tmp_path / "old.h5"
    old.write_bytes(written.read_bytes()[4096:])
    with pytest.raises(InputError, match=r"old\.h5: written by an older .*`dvc repro extract`"):
        FeatureFile.open(old)


def test_a_file_changed_by_another_program(written: Path) -> None:
    with h5py.File(written, "r+") as file:
        file.attrs["class_names"] = '["dog", "cat"]'
    with pytest.raises(InputError, match=r"bottleneck\.h5: .*: run `dvc repro extract`"):
        FeatureFile.open(written)


def test_a_file_that_another_program_writes_to(written: Path) -> None:
    opened = FeatureFile.open(written)
    with h5py.File(written, "r+"):
        for read in (lambda: FeatureFile.open(written), lambda: opened.label):
            with pytest.raises(InputError, match=r"bottleneck\.h5: open for writing in another"):
                read()
    assert np.array_equal(opened.label, make_columns().label)
