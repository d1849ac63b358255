from collections.abc import Callable
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from headstart.commands import cli
from headstart.commands.project import init
from headstart.common.lock import check_lock, read_lock
from headstart.common.params import read_params

Run = Callable[..., str]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in, with photos and without git."""
    folder = tmp_path / "work"
    (folder / "photos" / "cat").mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str, status: int = 0) -> str:
        assert cli.main(["init", *arguments]) == status
        printed = capsys.readouterr()
        return printed.err if status else printed.out

    return run


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_project_on_own_photos(work: Path, run: Run) -> None:
    printed = run("pets", "--source", "photos", "--backbone", "ResNet50")
    params = read_params(work / "pets/params.yaml")
    assert params["prepare"]["source"] == str(work / "photos")
    assert params["extract"]["backbone"] == "ResNet50"
    template = (Path(__file__).parents[4] / "params.yaml").read_text().splitlines()
    own = (work / "pets/params.yaml").read_text().splitlines()
    assert len(own) == len(template)
    assert sum(line not in template for line in own) == 2
    assert "cd pets\n" in printed
    assert f"`{work / 'photos'}`" in (work / "pets/README.md").read_text()
    assert len((work / "pets/README.md").read_text().splitlines()) <= 12
    lock = read_lock(work / "pets/headstart.lock")
    for stage in lock.stages:
        check_lock(stage, work / "pets/headstart.lock")


def test_without_photos_it_runs_on_the_sample(work: Path, run: Run) -> None:
    run()
    assert "sample" in YAML(typ="safe").load(Path("dvc.yaml").read_text())["stages"]
    assert read_params()["prepare"]["source"] == "data/samples/faces"
    assert Path("pipeline/sample.py").is_file()


def test_photos_within_the_project_are_named_relative_to_it(work: Path, run: Run) -> None:
    (work / ".git").mkdir()
    printed = run(".", "--source", str(work / "photos"))
    assert read_params()["prepare"]["source"] == "photos"
    assert "dvc add photos " in printed


def test_a_link_to_photos_keeps_its_name(work: Path, run: Run) -> None:
    (work / "linked").symlink_to(work.parent)
    run("--source", "linked/work/photos")
    assert read_params()["prepare"]["source"] == "linked/work/photos"


def test_photos_elsewhere_keep_their_url(work: Path, run: Run) -> None:
    run("pets", "--source", "s3://bucket/photos")
    assert read_params(work / "pets/params.yaml")["prepare"]["source"] == "s3://bucket/photos"
    run("others", "--source", "s3://me:secret@bucket/photos", status=1)
    assert not (work / "others").exists()


def test_shards_are_named_by_a_range(work: Path, run: Run) -> None:
    (work / "0.tar").touch()
    run("pets", "--source", "{0..1}.tar", status=1)
    assert not (work / "pets").exists()
    (work / "1.tar").touch()
    run("pets", "--source", "{0..1}.tar")
    assert read_params(work / "pets/params.yaml")["prepare"]["source"] == str(work / "{0..1}.tar")


def test_without_git_it_says_what_is_missed(work: Path, run: Run) -> None:
    printed = run()
    assert "no_scm = true" in Path(".dvc/config").read_text()
    assert "`dvc metrics diff`" in printed
    assert "dvc config --unset core.no_scm" in printed


def test_a_subfolder_of_a_git_repository_joins_it(work: Path, run: Run) -> None:
    (work / ".git").mkdir()
    printed = run("models/pets")
    assert "no_scm" not in Path("models/pets/.dvc/config").read_text()
    assert "git add . && git commit" in printed
    assert "Without git" not in printed
    run("other", "--no-scm")
    assert "no_scm = true" in Path("other/.dvc/config").read_text()


def test_what_a_repository_has_is_kept(work: Path, run: Run) -> None:
    Path("README.md").write_text("# Mine\n")
    Path(".gitignore").write_text("*.log\n__pycache__/")
    Path(".dvc").mkdir()
    Path(".dvc/config").write_text("[core]\n    remote = there\n")
    run()
    assert Path("README.md").read_text() == "# Mine\n"
    assert Path(".dvc/config").read_text() == "[core]\n    remote = there\n"
    lines = Path(".gitignore").read_text().splitlines()
    assert lines[:3] == ["*.log", "__pycache__/", "/exports/"]
    assert set(init.IGNORED) <= set(lines)
    assert lines.count("__pycache__/") == 1


def test_git_ignores_what_commands_write_here_as_in_this_repository() -> None:
    here = (Path(__file__).parents[4] / ".gitignore").read_text().splitlines()
    assert set(init.IGNORED) <= set(here)


def test_it_overwrites_nothing(work: Path, run: Run) -> None:
    Path("params.yaml").write_text("mine: 1\n")
    Path("pipeline/train.py").mkdir(parents=True)
    before = content(work)
    told = run(status=1)
    assert told == (
        "error: .: exists already: pipeline/train.py, params.yaml; nothing is written. Move them "
        "away, or choose another folder\n"
    )
    assert content(work) == before


@pytest.mark.parametrize("written", [1, 9, 20])
def test_a_run_that_was_cut_off_is_finished_by_the_next(
    work: Path, run: Run, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    run("whole", "--source", "photos")
    left = iter(range(written))
    write = init.atomic_write

    def cut_off(path: Path):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return write(path)

    monkeypatch.setattr(init, "atomic_write", cut_off)
    Path("again").mkdir()
    run("again", "--source", "photos", status=130)
    monkeypatch.setattr(init, "atomic_write", write)
    assert len(content(work / "again")) == written
    assert not Path("again/headstart.lock").exists()
    run("again", "--source", "photos")
    whole, again = content(work / "whole"), content(work / "again")
    assert whole.pop("README.md") != again.pop("README.md")
    assert whole == again


def test_a_project_is_not_made_twice(work: Path, run: Run) -> None:
    run()
    before = content(work)
    told = run("--backbone", "ResNet50", status=1)
    assert told.startswith("error: headstart.lock exists: this is a project already; `headstart up")
    assert content(work) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--source", "nowhere"], "--source nowhere: there is no such folder or file; expected a"),
        (["--source", "."], "--source .: the project would lie among its own photos; choose"),
        (["photos/cat", "--source", "photos"], "the project would lie among its own photos"),
        (
            ["--backbone", "ResNet5"],
            "there is no 'ResNet5' in the catalog; did you mean ResNet50",
        ),
    ],
)
def test_errors(work: Path, run: Run, arguments: list[str], message: str) -> None:
    assert message in run(*arguments, status=1)
    assert content(work) == {}


def test_a_folder_that_cannot_be_one(work: Path, run: Run) -> None:
    Path("file").write_text("")
    assert "error: file" in run("file", status=1)
