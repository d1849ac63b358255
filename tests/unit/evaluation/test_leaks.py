import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart.common.errors import InputError
from headstart.dataset.leak_table import Leak, write_leaks
from headstart.dataset.manifest import Manifest, read_manifest, write_manifest
from headstart.evaluation.leaks import (
    cosine_limit,
    find_feature_leaks,
    find_picture_leaks,
    leaked_images,
    read_leaks,
)
from headstart.features.file import FeatureFile
from tests.feature_files import blobs, write_project


def _planted(root: Path, copies: int, noise: float) -> tuple[list[Leak], list[str]]:
    """Let the first test images be noisy copies of training images; return leaks and paths."""
    features, labels = blobs(100, 3, 40)
    rng = np.random.default_rng(5)
    test = np.arange(300)[np.arange(300) % 5 == 4][:copies]
    features[test] = features[test - 4] + noise * rng.standard_normal((copies, 40))
    file = write_project(root, features, labels, views=1)
    manifest = read_manifest(root / "data" / "manifest.csv")
    return find_feature_leaks(file, manifest), [manifest.rows[i].path for i in test]


@pytest.mark.parametrize("copies", [0, 4, 60])
def test_planted_copies_are_found_and_nothing_else(tmp_path: Path, copies: int) -> None:
    found, planted = _planted(tmp_path, copies, noise=0.15)
    assert [leak.path if leak.split == "test" else leak.other_path for leak in found] == planted
    for leak in found:
        assert {leak.split, leak.other_split} == {"train", "test"}
        assert leak.kind == "features"
        assert float(leak.similarity) > 0.9


def test_images_that_crowd_are_no_copies(tmp_path: Path) -> None:
    """One of several that are near each other is not a copy of one of them."""
    features, labels = blobs(100, 3, 40)
    rng = np.random.default_rng(6)
    crowd = [0, 1, 2, 5, 6, 4]  # five for training, one for the test
    features[crowd] = features[0] + 0.02 * rng.standard_normal((6, 40))
    file = write_project(tmp_path, features, labels)
    assert find_feature_leaks(file, read_manifest(tmp_path / "data" / "manifest.csv")) == []


def _with_photos(root: Path, photo: Callable[..., np.ndarray]) -> tuple[FeatureFile, Manifest]:
    """Write a project whose first test image is a crop of its first training image."""
    features, labels = blobs(12, 5, 8)
    write_project(root, features, labels)
    rows = list(read_manifest(root / "data" / "manifest.csv"))
    for number, row in enumerate(rows):
        path = root / row.path
        pixels = photo(0)[8:, :115] if number == 4 else photo(number)
        Image.fromarray(pixels).save(path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        rows[number] = row._replace(path=str(path), sha256=digest)
    write_manifest(root / "data" / "manifest.csv", Manifest(rows))
    file = FeatureFile.open(root / "features" / "bottleneck.h5")
    return file, read_manifest(root / "data" / "manifest.csv")


def test_a_crop_is_found_in_the_photos(
    tmp_path: Path, photo: Callable[..., np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    file, manifest = _with_photos(tmp_path, photo)
    (leak,) = find_picture_leaks(file, manifest)
    assert (Path(leak.path).name, Path(leak.other_path).name) == ("00000.png", "00004.png")
    assert (leak.split, leak.other_split, leak.kind) == ("train", "test", "crop")
    assert 0.97 < float(leak.similarity) <= 1
    assert capsys.readouterr().err == ""


def test_a_photo_that_has_gone_is_told_and_passed_over(
    tmp_path: Path, photo: Callable[..., np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    file, manifest = _with_photos(tmp_path, photo)
    (tmp_path / "00000.png").unlink()
    (tmp_path / "00001.png").write_bytes(b"another content")
    assert find_picture_leaks(file, manifest) == []
    said = capsys.readouterr().err
    assert said.count("warning: 2 of 60 images have gone or changed since they were prepared") == 1
    assert "they are not looked at for leaks" in said


def test_leaked_images_are_test_images(tmp_path: Path) -> None:
    found, planted = _planted(tmp_path, 3, noise=0.0)
    manifest = read_manifest(tmp_path / "data" / "manifest.csv")
    assert [manifest.rows[row].path for row in leaked_images(found, manifest)] == planted


def test_too_few_images_tell_nothing(tmp_path: Path) -> None:
    features, labels = blobs(10, 2)
    file = write_project(tmp_path, features, labels)
    assert find_feature_leaks(file, read_manifest(tmp_path / "data" / "manifest.csv")) == []


def test_the_limit_follows_how_alike_strangers_are() -> None:
    rng = np.random.default_rng(0)
    far = 1 - np.exp(rng.normal(-0.7, 0.2, 500))
    near = 1 - np.exp(rng.normal(-3.0, 0.2, 500))
    assert cosine_limit(far) == pytest.approx(1 - np.exp(-0.7 - 6 * 0.2), abs=0.03)
    assert cosine_limit(near) == pytest.approx(1 - np.exp(-3.0 - 6 * 0.2), abs=0.005)


def test_the_table_of_leaks_is_read_back(tmp_path: Path) -> None:
    leak = Leak("a.png", "test", "cat", "b, c.png", "train", "cat", "near", "0.9900")
    write_leaks(tmp_path / "leaks.csv", [leak])
    assert read_leaks(tmp_path / "leaks.csv") == [leak]


@pytest.mark.parametrize("content", [None, "a,b\n", ",".join(Leak._fields) + "\nx,y\n"])
def test_another_table_is_refused(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "leaks.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=r"leaks\.csv: expected the columns path,split,label"):
        read_leaks(path)
