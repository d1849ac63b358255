import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart.commands.cli import main

PROJECT = Path(__file__).parents[3]


@pytest.fixture
def project(tmp_path, monkeypatch):
    shutil.copy(PROJECT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def picture(project, photo):
    path = project / "강아지 1.jpg"
    Image.fromarray(photo(1, 96, 128)).save(path)
    return path


def test_writes_a_sheet_of_one_image(picture, capsys):
    assert main(["augment", str(picture), "--image-size", "32x48", "--views", "3"]) == 0
    assert capsys.readouterr().out == "views.png: 3 views of 1 image at 32 x 48 pixels\n"
    with Image.open("views.png") as sheet:
        sheet.load()
        assert sheet.format == "PNG"


def test_follows_params_and_shows_a_folder(project, photo_folder, capsys):
    assert main(["augment", str(photo_folder), "-o", "out/sheet.webp"]) == 0
    out = capsys.readouterr().out
    assert out == "out/sheet.webp: 8 views of 6 images at 224 x 224 pixels\n"
    with Image.open("out/sheet.webp") as sheet:
        assert sheet.format == "WEBP"


def test_a_folder_shows_its_first_readable_images(project, picture, capsys):
    folder = project / "some"
    (folder / "sub.jpg").mkdir(parents=True)
    (folder / "a.jpg").write_text("<html>")
    shutil.copy(picture, folder / "b.jpg")
    assert main(["augment", "some", "--image-size", "32"]) == 0
    out, messages = capsys.readouterr()
    assert out == "views.png: 8 views of 1 image at 32 x 32 pixels\n"
    assert messages.startswith("warning: some/a.jpg: no image of a known format")
    assert messages.endswith("; passed over\n")
    assert messages.count("\n") == 1
    (folder / "b.jpg").unlink()
    assert main(["augment", "some"]) == 1
    assert capsys.readouterr().err.endswith(
        "error: some: no readable image in this folder; give an image or a folder with some\n"
    )


def test_a_folder_is_listed_as_prepare_lists_it(project, picture, capsys):
    """Links are followed, images without an ending are found, what systems leave is passed over."""
    elsewhere, folder = project / "elsewhere", project / "some"
    for place in (elsewhere, folder / "@eaDir"):
        place.mkdir(parents=True)
        shutil.copy(picture, place / "linked.jpg")
    (folder / "link").symlink_to(elsewhere)
    shutil.copy(picture, folder / "no ending")
    (folder / "phone.heic").write_bytes(b"x" * 100)
    assert main(["augment", "some", "--image-size", "32"]) == 0
    out, messages = capsys.readouterr()
    assert out == "views.png: 8 views of 2 images at 32 x 32 pixels\n"
    assert messages.startswith("warning: some/phone.heic: ")
    assert messages.count("\n") == 1


def test_the_sheet_is_the_same_every_time(picture):
    for name in ("one.png", "two.png"):
        assert main(["augment", str(picture), "--image-size", "32", "-o", name]) == 0
    np.testing.assert_array_equal(
        np.asarray(Image.open("one.png")), np.asarray(Image.open("two.png"))
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.jpg"], "error: missing.jpg: no such file\n"),
        (["params.yaml"], "error: params.yaml: no image of a known format"),
        (["empty"], "error: empty: no image in this folder; give an image or a folder with some\n"),
        (["강아지 1.jpg", "-o", "views"], "error: views: expected a file name that ends in .png"),
    ],
)
def test_says_what_is_wrong_and_writes_nothing(project, picture, capsys, arguments, message):
    (project / "empty").mkdir()
    before = sorted(project.iterdir())
    assert main(["augment", *arguments]) == 1
    assert capsys.readouterr().err.startswith(message)
    assert sorted(project.iterdir()) == before


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--", "", "expected a path, received an empty text"),
        ("--views", "0", "expected a whole number from 1 to 100, received 0"),
        ("--image-size", "9999", "expected pixels from 1 to 4096, such as 224 or 192x256"),
        ("--image-size", "big", "received big"),
    ],
)
def test_refuses_other_numbers(project, capsys, option, value, message):
    with pytest.raises(SystemExit, match="2"):
        main(["augment", "x.jpg", option, value])
    assert message in capsys.readouterr().err
