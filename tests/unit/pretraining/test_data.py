from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from headstart.common.errors import InputError
from headstart.images import decoding
from headstart.pretraining.data import SourceImages, open_source
from headstart.pretraining.options import PretrainOptions

SIZE = (12, 16)


def options(source: Path, **changes: Any) -> PretrainOptions:
    return PretrainOptions(**{"source": str(source), "backbone": "LeNet5", "seed": 0, **changes})


def opened(source: Path, scratch: Path, **changes: Any) -> SourceImages:
    """Return what a source holds; the pixels are copied, since their file goes."""
    import dataclasses

    chosen = options(source, **changes)
    with open_source("pretrain.x", chosen, SIZE, "bilinear", scratch) as found:
        return dataclasses.replace(found, pixels=np.array(found.pixels))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes of ten images of one colour each, all different."""
    root = tmp_path / "source"
    for label in range(3):
        (root / str(label)).mkdir(parents=True)
        for index in range(10):
            colour = (80 * label, 10 * index, 255 - index)
            Image.new("RGB", (20, 10), colour).save(root / str(label) / f"{index}.png")
    return root


def test_images_are_decoded_labelled_and_split(folder: Path, tmp_path: Path) -> None:
    found = opened(folder, tmp_path)
    assert found.class_names == ("0", "1", "2")
    assert found.pixels.shape == (30, *SIZE, 3)
    expected = decoding.decode((folder / "1" / "4.png").read_bytes())
    np.testing.assert_array_equal(found.pixels[14], decoding.resize(expected, SIZE))
    np.testing.assert_array_equal(found.labels, np.repeat([0, 1, 2], 10))
    assert sorted([*found.train, *found.validation]) == list(range(30))
    np.testing.assert_array_equal(np.bincount(found.labels[found.validation]), [2, 2, 2])


def test_nothing_is_left_behind(folder: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    opened(folder, scratch)
    assert list(scratch.iterdir()) == []


def test_classes_may_be_chosen(folder: Path, tmp_path: Path) -> None:
    found = opened(folder, tmp_path, classes=[0, 2])
    assert found.class_names == ("0", "2")
    assert len(found.pixels) == 20
    assert set(found.pixels[:, 0, 0, 0]) == {0, 160}


def test_images_that_cannot_be_read_are_left_out_and_told(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "1" / "4.png").write_bytes(b"no image")
    found = opened(folder, tmp_path)
    assert found.unreadable == 1
    assert 14 not in {*found.train, *found.validation}
    assert len(found.train) + len(found.validation) == 29
    assert f"1 of 30 files of {folder} left out" in capsys.readouterr().err


def test_what_the_source_gives_for_testing_is_left_out(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "split"
    for split, labels in (("train", "01"), ("test", "01")):
        (root / split).mkdir(parents=True)
        for label in labels:
            (folder / label).rename(root / split / label) if split == "train" else None
    (root / "test" / "0").mkdir()
    (root / "test" / "1").mkdir()
    (root / "train" / "0" / "3.png").rename(root / "test" / "0" / "3.png")
    (root / "train" / "1" / "5.png").rename(root / "test" / "1" / "5.png")
    found = opened(root, tmp_path)
    assert len(found.train) + len(found.validation) == 18


def test_equal_images_share_a_split(folder: Path, tmp_path: Path) -> None:
    content = (folder / "0" / "0.png").read_bytes()
    for index in range(1, 10):
        (folder / "0" / f"{index}.png").write_bytes(content)
    found = opened(folder, tmp_path)
    assert len({row in found.train for row in range(10)}) == 1


def test_reconstruction_needs_no_class_folders(folder: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in (folder / "0").iterdir():
        path.rename(flat / path.name)
    (flat / "notes.txt").write_text("no image")
    (flat / ".hidden.png").write_bytes((flat / "0.png").read_bytes())
    found = opened(flat, tmp_path, objective="reconstruct")
    assert found.class_names == ()
    assert len(found.train) + len(found.validation) == len(found.pixels) == 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "gone"}, r"pretrain\.x\.source: gone does not exist"),
        ({"classes": ["0", "7"]}, r"pretrain\.x\.classes: 7 not among the classes of .* \(0, 1, 2"),
        ({"classes": ["0"]}, r"pretrain\.x: objective classify needs two classes .* received 0"),
        (
            {"source": "gone", "objective": "reconstruct"},
            r"pretrain\.x\.source: expected a folder of images, received gone",
        ),
    ],
)
def test_a_source_that_cannot_be_used_is_told(
    folder: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    source = Path(changes.pop("source", folder))
    with pytest.raises(InputError, match=message):
        opened(source, tmp_path, **changes)


def test_a_source_without_readable_images_is_told(folder: Path, tmp_path: Path) -> None:
    for path in folder.rglob("*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"pretrain\.x\.source: none of the 30 files of .* is an"):
        opened(folder, tmp_path)
    for path in folder.rglob("*.png"):
        path.unlink()
    with pytest.raises(InputError, match=r"pretrain\.x\.source: no image below"):
        opened(folder, tmp_path, objective="reconstruct")


def test_one_readable_class_is_not_enough(folder: Path, tmp_path: Path) -> None:
    for path in (folder / "1").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(InputError, match="fewer than two classes of .* can be read"):
        opened(folder, tmp_path, classes=[0, 1])
