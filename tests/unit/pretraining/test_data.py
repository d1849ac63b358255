import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from headstart.common.errors import InputError
from headstart.common.files import sha256_of
from headstart.common.places import MANIFEST
from headstart.common.vocabulary import Sizing
from headstart.dataset.manifest import Manifest, ManifestRow, write_manifest
from headstart.images import decoding
from headstart.images.resizing import resize
from headstart.pretraining.data import SourceImages, open_source
from headstart.pretraining.listing import Source
from headstart.pretraining.options import PretrainOptions, PretrainRun

SIZE = (12, 16)


def opened(source: Path | str, scratch: Path, **changes: Any) -> SourceImages:
    """Return what a source holds; the pixels are copied, since their file goes."""
    run = PretrainRun(**{"backbone": "LeNet5", "seed": 0, **changes})
    listing = Source(PretrainOptions(source=str(source), runs={})).listing("pretrain.runs.x", run)
    with open_source(listing, run, Sizing(SIZE), scratch) as found:
        return dataclasses.replace(found, pixels=np.array(found.pixels))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes of ten images of one color each, all different."""
    root = tmp_path / "source"
    for label in range(3):
        (root / str(label)).mkdir(parents=True)
        for index in range(10):
            color = (80 * label, 10 * index, 255 - index)
            Image.new("RGB", (20, 10), color).save(root / str(label) / f"{index}.png")
    return root


def test_images_are_decoded_labeled_and_split(folder: Path, tmp_path: Path) -> None:
    found = opened(folder, tmp_path)
    assert found.class_names == ("0", "1", "2")
    assert found.pixels.shape == (30, *SIZE, 3)
    expected = decoding.decode((folder / "1" / "4.png").read_bytes())
    np.testing.assert_array_equal(found.pixels[14], resize(expected, Sizing(SIZE)))
    np.testing.assert_array_equal(found.labels, np.repeat([0, 1, 2], 10))
    assert found.sha256[14] == sha256_of(folder / "1" / "4.png")
    assert sorted([*found.train, *found.validation]) == list(range(30))
    np.testing.assert_array_equal(np.bincount(found.labels[found.validation]), [2, 2, 2])


def test_nothing_is_left_behind(folder: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    opened(folder, scratch)
    assert list(scratch.iterdir()) == []


def test_images_that_cannot_be_read_are_left_out_and_told(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "1" / "4.png").write_bytes(b"no image")
    (folder / "1" / "5.png").unlink()
    (folder / "1" / "5.png").symlink_to("gone")
    found = opened(folder, tmp_path)
    assert found.unreadable == 2
    assert not {14, 15} & {*found.train, *found.validation}
    assert len(found.train) + len(found.validation) == 28
    assert f"2 of 30 files of {folder} left out" in capsys.readouterr().err


def test_equal_images_share_a_split(folder: Path, tmp_path: Path) -> None:
    content = (folder / "0" / "0.png").read_bytes()
    for index in range(1, 10):
        (folder / "0" / f"{index}.png").write_bytes(content)
    found = opened(folder, tmp_path)
    assert len({row in found.train for row in range(10)}) == 1


def test_a_group_shares_a_split_with_the_copies_of_its_images(folder: Path, tmp_path: Path) -> None:
    copy = (folder / "0" / "9.png").read_bytes()
    (folder / "0" / "0.png").write_bytes(copy)
    lines = [f"{label}/{index}.png,{label}," for label in range(3) for index in range(10)]
    lines[5:10] = [f"{line}one" for line in lines[5:10]]
    table = folder / "table.csv"
    table.write_text("\n".join(["path,label,group", *lines]))
    for seed in range(6):
        found = opened(table, tmp_path, seed=seed, validation=0.5)
        assert len({row in found.train for row in (0, 5, 6, 7, 8, 9)}) == 1


def test_labels_do_not_matter_to_reconstruction(folder: Path, tmp_path: Path) -> None:
    found = opened(folder, tmp_path, objective="reconstruct")
    assert found.class_names == ()
    assert not found.labels.any()
    assert len(found.validation) == 6


@pytest.fixture
def manifest(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The images as the project's own; of those for testing no file is left."""
    monkeypatch.chdir(folder.parent)
    rows = []
    for path in sorted(Path(folder.name).rglob("*.png")):
        split = {"0": "test", "1": "validation"}.get(path.stem, "train")
        digest = sha256_of(path)
        rows.append(ManifestRow(path.as_posix(), digest, path.parent.name, split, "", 20, 10))
        if split == "test":
            path.unlink()
    write_manifest(MANIFEST, Manifest(rows))
    return MANIFEST


@pytest.mark.parametrize("objective", ["classify", "reconstruct"])
def test_the_manifest_splits_and_its_test_images_are_never_read(
    manifest: Path, tmp_path: Path, objective: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: set[str] = set()
    original = decoding.read
    monkeypatch.setattr(decoding, "read", lambda path: read.add(Path(path).stem) or original(path))
    found = opened(manifest, tmp_path, objective=objective, validation=0.5)
    assert read == set("123456789")
    np.testing.assert_array_equal(found.validation, [0, 9, 18])
    assert len(found.train) == 24
    assert found.pixels[found.validation, 0, 0, 1].tolist() == [10, 10, 10]


def test_an_image_of_the_manifest_that_changed_is_told(manifest: Path, tmp_path: Path) -> None:
    Image.new("RGB", (20, 10)).save("source/1/4.png")
    with pytest.raises(InputError, match=r"source/1/4\.png: the file has changed"):
        opened(manifest, tmp_path)
    Path("source/1/4.png").unlink()
    with pytest.raises(InputError, match=r"source/1/4\.png: .* could be read before, but not now"):
        opened(manifest, tmp_path)


def test_a_file_that_changes_meanwhile_is_told(folder: Path, tmp_path: Path) -> None:
    run = PretrainRun(backbone="LeNet5", seed=0)
    listing = Source(PretrainOptions(source=str(folder), runs={})).listing("pretrain.runs.x", run)
    Image.new("RGB", (20, 10)).save(folder / "1" / "4.png")
    with (
        pytest.raises(InputError, match=r"1/4\.png: the file has changed while the stage was runn"),
        open_source(listing, run, Sizing(SIZE), tmp_path),
    ):
        pass


def test_a_source_without_readable_images_is_told(folder: Path, tmp_path: Path) -> None:
    for path in folder.rglob("*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"^pretrain\.source: none of the 30 files of .* is an"):
        opened(folder, tmp_path)


def test_one_readable_class_is_not_enough(folder: Path, tmp_path: Path) -> None:
    for path in (folder / "1").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(InputError, match="fewer than two classes of .* can be read"):
        opened(folder, tmp_path, classes=[0, 1])
