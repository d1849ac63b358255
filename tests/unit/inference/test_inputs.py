import io
import os
from pathlib import Path

import pytest
from PIL import Image

from headstart.dataset.sources import list_files
from headstart.images.decoding import is_image_like
from headstart.inference.inputs import NothingFound, expand


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("a/2.jpg", "a/1.PNG", "a/notes.txt", "a/b/3.webp", "a/.hidden.jpg", "x[1].jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    for name in ("a/.git/4.jpg", "empty/note.md", "a/b.jpg/5.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    (tmp_path / "a" / "loop").symlink_to(tmp_path / "a")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*given: str, lines: str = "") -> list[str]:
    found = expand(given, io.StringIO(lines))
    return [
        one.as_posix() if isinstance(one, Path) else f"{one.name}: {one.reason}" for one in found
    ]


ALL_OF_A = ["a/1.PNG", "a/2.jpg", "a/b/3.webp", "a/b.jpg/5.jpg"]


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["a/2.jpg", "missing.jpg"], ["a/2.jpg", "missing.jpg"]),
        (["a/notes.txt"], ["a/notes.txt"]),
        (["a"], ALL_OF_A),
        (["a/*.jpg"], ["a/2.jpg", "a/b.jpg/5.jpg"]),
        (["**/*.webp"], ["a/b/3.webp"]),
        (["a/b/**"], ["a/b/3.webp"]),
        (["x[1].jpg"], ["x[1].jpg"]),
        (["x[[]1].jpg"], ["x[1].jpg"]),
        (["s3://b/a.jpg"], ["s3://b/a.jpg: a URL; copy the file to this machine"]),
        (["empty"], ["empty: no image in this folder"]),
        (["a/b/../*.PNG"], ["a/b/../1.PNG"]),
        (["a/.*.jpg"], ["a/.*.jpg: no image matches this pattern"]),
        (["*.gif", "a/b"], ["*.gif: no image matches this pattern", "a/b/3.webp"]),
    ],
)
def test_what_a_name_stands_for(given: list[str], expected: list[str]) -> None:
    assert names(*given) == expected


def test_a_folder_stands_for_what_prepare_takes_for_images(photos: Path) -> None:
    """Phones write HEIC, cameras raw files, some programs no ending; links lead elsewhere."""
    other = photos / "other"
    (other / "@eaDir").mkdir(parents=True)
    for name in ("phone.HEIC", "camera.nef", "notes.txt", "@eaDir/thumb.jpg", "Thumbs.db"):
        (other / name).write_bytes(b"x")
    Image.new("RGB", (4, 4)).save(other / "no_ending", "PNG")
    (other / "linked").symlink_to(photos / "a" / "b")
    (other / "gone.jpg").symlink_to("nowhere")
    of_predict = names("other")
    assert of_predict == [
        *("other/camera.nef", "other/gone.jpg", "other/no_ending", "other/phone.HEIC"),
        "other/linked/3.webp",
    ]
    (photos / "source").mkdir()
    other.rename(photos / "source" / "other")
    (photos / "source" / "more").mkdir()
    listed = [file.path for file in list_files("source").files]
    assert [path for path in listed if is_image_like(Path(path))] == sorted(
        f"source/{name}" for name in of_predict
    )


@pytest.mark.usefixtures("photos")
def test_standard_input_lists_names_of_any_kind() -> None:
    assert names("-", lines="a/b\r\n\na/*.jpg\n x.jpg") == [
        "a/b/3.webp", "a/2.jpg", "a/b.jpg/5.jpg", " x.jpg"
    ]  # fmt: skip


def test_absolute_patterns(photos: Path) -> None:
    assert names(f"{photos}/a/b/*") == [f"{photos}/a/b/3.webp"]


def test_files_come_one_by_one(photos: Path) -> None:
    """Nothing after the first file is looked at before it is asked for."""
    found = expand(["a/2.jpg", "late"], io.StringIO())
    assert next(found) == Path("a/2.jpg")
    (photos / "late").mkdir()
    (photos / "late" / "6.jpg").write_bytes(b"")
    assert next(found) == Path("late/6.jpg")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read any folder")
def test_a_closed_folder_is_told_and_the_rest_goes_on(photos: Path) -> None:
    (photos / "a" / "b").chmod(0)
    try:
        found = list(expand(["a"], io.StringIO()))
    finally:
        (photos / "a" / "b").chmod(0o755)
    assert NothingFound("a/b", "no permission to list this folder") in found
    assert Path("a/b.jpg/5.jpg") in found
