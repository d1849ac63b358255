"""`headstart suggest`, as a user runs it: in a new project, after a run, and with its labels back.

The photos are 12 reddish and 12 bluish ones without a label, and what must be left out.
"""

import csv
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from headstart.commands import cli
from headstart.dataset.sources import list_files

Run = Callable[..., tuple[int, str, str]]
_FRESH = 24


@pytest.fixture(scope="module")
def project(
    trained: Path, tmp_path_factory: pytest.TempPathFactory, photo: Callable[..., np.ndarray]
) -> Path:
    """A copy of the trained project with a folder `new`."""
    root = tmp_path_factory.mktemp("suggest") / "project"
    shutil.copytree(trained, root)
    new = root / "new"
    (new / "deep").mkdir(parents=True)
    for number in range(_FRESH):
        image = photo(1000 + number) // 2
        image[..., 2 * (number % 2)] += 100
        folder = new / "deep" if number < 4 else new
        Image.fromarray(image).save(folder / f"{number:02}.png")
    labelled = root / "photos/warm/03.jpg"
    shutil.copy(labelled, new / "the same.jpg")
    with Image.open(labelled) as image:
        image.resize((110, 83)).save(new / "smaller.jpg", quality=60)
    with Image.open(new / "07.png") as image:
        image.save(new / "07 again.jpg", quality=80)
    return root


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `headstart suggest`; give status, output and messages."""

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = cli.main(["suggest", *map(str, arguments)])
        return (status, *capsys.readouterr())

    return call


@pytest.fixture
def here(project: Path) -> Iterator[Path]:
    """Be in the project; leave no suggestions behind."""
    with chdir(project):
        yield project
    for path in project.glob("suggestions.*"):
        path.unlink()


def _rows(table: str = "suggestions.csv") -> list[dict[str, str]]:
    with Path(table).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_after_a_run(run: Run, here: Path) -> None:
    status, output, messages = run("new", "--count", 10)
    assert (status, messages) == (0, "")
    assert "left out: 2 that are labelled or look like one that is, 1 that look like" in output
    assert "10 suggested: " in output
    rows = _rows()
    assert [int(row["rank"]) for row in rows] == list(range(1, 11))
    assert len({row["sha256"] for row in rows}) == 10
    for row in rows:
        assert Path(row["path"]).is_file()
        assert (row["label"], row["reason"] in ("typical", "uncertain")) == ("", True)
        assert row["likeliest"] in ("warm", "cold")
        assert 0.5 <= float(row["probability"]) <= 1
    page = Path("suggestions.html").read_text(encoding="utf-8")
    assert page.count("<img src=") == 10
    assert "default-src 'none'" in page
    # Never again: neither the backbone nor another order.
    assert "27 photos, 0 computed, 24 reused" in run("new", "--count", 10)[1]
    assert _rows() == rows


def test_fewer_than_wanted_are_all_of_them(run: Run, here: Path) -> None:
    status, output, _ = run("new", "--count", 500)
    assert status == 0
    assert f"{_FRESH} suggested, all there are of the 500 wanted" in output
    shown = {Path(row["path"]).stem.removesuffix(" again") for row in _rows()}
    assert shown == {f"{number:02}" for number in range(_FRESH)}


def test_what_is_labelled_comes_back_as_a_source(run: Run, here: Path) -> None:
    run("new", "--count", 6)
    rows = _rows()
    with Path("suggestions.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows({**row, "label": "warm"} for row in rows)
    status, _, messages = run("new", "--count", 6)
    assert status == 1
    assert "received one with 6 labels filled in" in messages
    before = {file.path for file in list_files("photos").files}
    files = list_files(["photos", "suggestions.csv"]).files
    added = [file for file in files if file.path not in before]
    assert len(added) == 6
    assert {file.label for file in added} == {"warm"}
    assert {Path(file.path).resolve() for file in added} == {
        Path(row["path"]).resolve() for row in rows
    }
    assert run("new", "--count", 6, "--overwrite")[0] == 0


def test_all_labelled_leaves_nothing(run: Run, here: Path) -> None:
    status, output, _ = run("photos")
    assert status == 0
    assert "nothing to suggest" in output
    assert not Path("suggestions.csv").exists()


def test_what_cannot_be_read_is_told_one_by_one(run: Run, here: Path, tmp_path: Path) -> None:
    shutil.copy("new/05.png", tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    (tmp_path / "two\nlines.png").write_bytes(b"never read")
    status, output, messages = run(tmp_path, "nowhere/*.jpg", "--output", "other.csv")
    assert status == 1
    assert "1 suggested" in output
    assert len(messages.splitlines()) == 3
    for text in ("bad.png: ", "two\\nlines.png: its name holds", "no image matches this pattern"):
        assert text in messages
    assert [Path(row["path"]).name for row in _rows("other.csv")] == ["good.png"]
    for name in ("other.csv", "other.html"):
        Path(name).unlink()


def test_a_folder_without_photos_is_an_error(run: Run, here: Path, tmp_path: Path) -> None:
    status, _, messages = run(tmp_path)
    assert status == 1
    assert messages.splitlines()[-1] == (
        f"error: {tmp_path}: expected photos, received none that can be read"
    )
    assert not Path("suggestions.csv").exists()


@pytest.mark.parametrize(
    "arguments",
    [("new", "--count", "0"), ("new", "--count", "x"), ("new", "--seed", "-1"), ("",)],
)
def test_wrong_arguments_exit_with_2(arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["suggest", *arguments])
    assert stopped.value.code == 2
    with pytest.raises(SystemExit):
        cli.main(["suggest", "new", "--output", "suggestions.txt"])


def test_a_cold_start_needs_params_alone(run: Run, project: Path, tmp_path: Path) -> None:
    params = YAML(typ="safe").load((project / "params.yaml").read_text())
    params["extract"] |= {"seed": 4}
    YAML().dump(params, tmp_path / "params.yaml")
    with chdir(tmp_path):
        status, output, messages = run(project / "new", "--count", 8)
        assert (status, messages) == (0, "")
        assert "8 suggested: 8 typical, 0 uncertain" in output
        rows = _rows()
        assert {row["likeliest"] for row in rows} == {""}
        assert all(Path(row["path"]).is_absolute() for row in rows)
        # Both kinds, which nobody has named yet.
        numbers = [
            int(Path(row["path"]).stem.split()[0])
            for row in rows
            if row["path"][-5] in "0123456789"
        ]
        assert {number % 2 for number in numbers} == {0, 1}


def test_nothing_but_photos_is_an_error(run: Run, project: Path, tmp_path: Path) -> None:
    with chdir(tmp_path):
        status, _, messages = run(project / "new")
    assert status == 1
    assert "params.yaml" in messages


@pytest.mark.slow
def test_kept_features_need_no_tensorflow(run: Run, here: Path) -> None:
    run("new", "--count", 3)
    code = (
        "import sys; from headstart.commands import cli\n"
        "assert cli.main(['suggest', 'new', '--count', '3']) == 0\n"
        "assert not {'tensorflow', 'openvino'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "0 computed" in done.stdout
