"""`headstart predict --split`, `--grid` and `--mistakes`, as a user runs them."""

import json
import shutil
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest
from PIL import Image

from headstart.commands import cli
from headstart.dataset.manifest import read_manifest


@pytest.fixture
def project(trained: Path) -> Iterator[Path]:
    with chdir(trained):
        yield trained


def predict(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    status = cli.main(["predict", *map(str, arguments)])
    return (status, *capsys.readouterr())


def test_a_split_is_predicted_drawn_and_held_against_its_labels(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "new folder" / "예측.png"
    status, output, messages = predict(
        capsys, "--split", "test", "--grid", picture, "--format", "json", "--no-abstain"
    )
    assert status == 0
    test = {
        row.path: row.label
        for row in read_manifest(Path("data/manifest.csv"))
        if row.split == "test"
    }
    told = {one["path"]: one["prediction"] for one in map(json.loads, output.splitlines())}
    assert list(told) == list(test)
    right = sum(told[path] == label for path, label in test.items())
    assert f"{right / len(test):.1%} right: {right} of {len(test)} photos" in messages
    assert messages.endswith(f"{picture}: {len(test)} photos\n")
    with Image.open(picture) as drawn:
        drawn.load()
    wrong = [path for path, label in test.items() if told[path] != label]
    _, output, _ = predict(
        capsys, "--split", "test", "--mistakes", "--format", "json", "--no-abstain"
    )
    assert [json.loads(line)["path"] for line in output.splitlines()] == wrong


def test_a_label_of_the_manifest_goes_before_the_folders_name(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = next(row for row in read_manifest(Path("data/manifest.csv")) if row.label == "warm")
    for folder in ("cold", "elsewhere"):
        (tmp_path / folder).mkdir()
        shutil.copy(row.path, tmp_path / folder / "copy.jpg")
    arguments = (row.path, tmp_path, "--grid", tmp_path / "x.png", "--no-abstain")
    _, output, messages = predict(capsys, *arguments, "--format", "json")
    assert [json.loads(line)["prediction"] for line in output.splitlines()] == ["warm"] * 3
    assert "50.0% right: 1 of 2 labelled photos, 1 wrong; 1 without a known label" in messages


def test_photos_that_cannot_be_read_are_left_out(
    project: Path, tmp_path: Path, photo_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.jpg").write_text("no image")
    picture = tmp_path / "grid.png"
    photo = photo_folder / "warm" / "00.jpg"
    status, _, messages = predict(capsys, tmp_path, "missing.jpg", photo, "--grid", picture)
    assert status == 1
    assert messages.endswith(f"{picture}: 1 photo\n")
    picture.unlink()
    status, output, messages = predict(capsys, tmp_path / "bad.jpg", "--grid", picture)
    assert (status, output) == (1, "")
    assert messages.count("\n") == messages.count("error: ") == 1
    assert not picture.exists()


def test_where_nothing_is_wrong_nothing_is_drawn(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Nothing is wrong where no class is named.
    arguments = ("--split", "test", "--mistakes", "--threshold", "1e-9")
    status, output, messages = predict(capsys, *arguments, "--grid", tmp_path / "x.png")
    assert (status, output) == (0, "")
    assert messages.endswith("x.png: not written, since there is no mistake to show\n")
    assert not (tmp_path / "x.png").exists()


def test_a_place_that_cannot_be_written_to_is_told_before_anything_is_classified(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, output, messages = predict(capsys, "--split", "test", "--grid", "params.yaml/x.png")
    assert (status, output) == (1, "")
    assert messages.startswith("error: params.yaml")
    assert "cannot be written to" in messages


def test_a_split_needs_a_run(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with chdir(tmp_path):
        status, _, messages = predict(
            capsys, "--split", "test", "--model", project / "models/heads/logistic"
        )
    assert status == 1
    assert "data/manifest.csv: no such file: run from a project's folder" in messages


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "one of the arguments PATH --split is required"),
        (["x.jpg", "--split", "test"], "not allowed with argument PATH"),
        (["--split", "dropped"], "invalid choice: 'dropped'"),
        (["x.jpg", "--grid", "x.gif"], "expected a name that ends in .png, .jpg, .jpeg, .webp"),
    ],
)
def test_arguments_that_cannot_be_are_refused(
    project: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        predict(capsys, *arguments)
    assert message in capsys.readouterr().err
