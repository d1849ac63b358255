import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dvc.cli import main as dvc_main

from headstart.commands.compare.stages import Stages
from headstart.common.process import run_to_status

DVC_YAML = """
stages:
  sample:
    cmd: python -m pipeline.note sample
    outs: [sample]
  prepare:
    cmd: python -m pipeline.note prepare
    always_changed: true
    deps: [sample]
    params: [prepare]
    outs: [prepare]
  extract:
    cmd: python -m pipeline.note extract
    deps: [prepare]
    params: [extract]
    outs: [extract]
  train:
    cmd: python -m pipeline.note train
    deps: [extract]
    params: [train]
    outs: [train]
  own:
    cmd: echo "$(cat train) apart" > own && echo printed
    deps: [train]
    outs: [own]
"""
# Notes that it has run, whatever becomes of it.
NOTE = """
import os, sys
from pathlib import Path

from headstart.common.errors import InputError
from headstart.common.params import read_params
from headstart.common.stage import run_stage
from pipeline import MARK

name = sys.argv[1]


def main():
    value = read_params().get(name)
    with Path("ran").open("a") as file:
        file.write(f"{name}\\n")
    print("printed")
    if value == "refused":
        raise InputError(f"{name} cannot be {value}")
    if value == "defect":
        raise ZeroDivisionError("by a stage")
    if value != "lazy":
        Path(name).write_text(f"{MARK} {value} {os.environ['HEADSTART_CACHE']}")


if __name__ == "__main__":
    run_stage(name, main)
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with stages of its own, and one that runs a shell's command."""
    monkeypatch.setenv("HEADSTART_CACHE", "relative")
    monkeypatch.setenv("GIT_DIR", "elsewhere")
    root = tmp_path / "project"
    (root / "pipeline").mkdir(parents=True)
    (root / "pipeline" / "__init__.py").write_text("MARK = 'mine'\n")
    (root / "pipeline" / "note.py").write_text(NOTE)
    (root / "dvc.yaml").write_text(DVC_YAML)
    (root / "params.yaml").write_text("{}\n")
    with contextlib.chdir(root), monkeypatch.context() as outside:
        outside.delenv("GIT_DIR")
        subprocess.run(["git", "init", "--quiet"], check=True)
        with contextlib.redirect_stdout(io.StringIO()):
            assert dvc_main(["init", "--quiet"]) == 0
    return root


@pytest.fixture
def stages(root: Path) -> Iterator[Stages]:
    with (
        (root.parent / "lock").open("w") as lock,
        contextlib.closing(Stages(root, lock.fileno())) as made,
    ):
        yield made


def params(root: Path, **values: Any) -> dict[str, Any]:
    content = {"prepare": 1, "extract": 1, "train": 1} | values
    (root / "params.yaml").write_text(str(content))
    return content


def ran(root: Path) -> list[str]:
    """Return what has run since the last time."""
    path = root / "ran"
    names = path.read_text().split() if path.exists() else []
    path.unlink(missing_ok=True)
    return names


def test_stages_run_in_order_and_again_only_where_something_has_changed(
    root: Path, stages: Stages
) -> None:
    assert stages.run("train", params(root), itself=False)
    assert ran(root) == ["sample", "prepare", "extract"]
    assert stages.run("train", params(root))
    assert ran(root) == ["train"]
    assert stages.run("train", params(root, train=2))
    assert ran(root) == ["train"]
    assert stages.run("train", params(root, extract=2))
    assert ran(root) == ["extract", "train"]
    assert stages.run("own", params(root, extract=2))
    assert ran(root) == []
    assert (root / "own").read_text().startswith("mine 1")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("refused", "error: extract cannot be refused"),
        ("defect", "ZeroDivisionError: by a stage"),
        ("lazy", "error: the stage extract has not written extract"),
    ],
)
def test_a_stage_that_fails_is_told_and_what_follows_it_runs_again(
    root: Path, stages: Stages, capsys: pytest.CaptureFixture[str], value: str, message: str
) -> None:
    assert stages.run("train", params(root))
    ran(root)

    def work() -> int:
        assert not stages.run("train", params(root, extract=value))
        return 0

    # As a command does.
    assert run_to_status(work) == 0
    assert ran(root) == ["extract"]
    told = capsys.readouterr()
    assert message in told.err
    assert told.out == ""
    assert not (root / "extract").exists()
    assert stages.run("train", params(root))
    assert ran(root) == ["extract", "train"]


def test_a_shell_command_that_fails_is_told(
    root: Path, stages: Stages, capfd: pytest.CaptureFixture[str]
) -> None:
    assert stages.run("own", params(root))
    (root / "dvc.yaml").write_text(DVC_YAML.replace("echo printed", "exit 3"))
    with contextlib.closing(Stages(root, 1)) as others:
        assert not others.run("own", params(root))
    told = capfd.readouterr()
    assert "error: the stage own failed with status 3" in told.err
    assert told.out == ""


def test_the_process_is_as_it_was_and_the_cache_is_the_callers(
    root: Path, stages: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "pipeline", io)
    before = (Path.cwd(), list(sys.path), list(sys.argv), dict(os.environ))
    assert stages.run("train", params(root))
    assert (Path.cwd(), list(sys.path), list(sys.argv), dict(os.environ)) == before
    assert sys.modules["pipeline"] is io
    assert "pipeline.note" not in sys.modules
    assert (root / "train").read_text() == f"mine 1 {tmp_path / 'relative'}"


def test_what_was_committed_is_up_to_date_and_samples_come_from_the_cache(
    root: Path, stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = params(root)
    assert stages.run("own", values)
    assert stages.commit("own", values)
    ran(root)
    monkeypatch.delenv("GIT_DIR")
    with contextlib.chdir(root), contextlib.redirect_stdout(io.StringIO()) as output:
        assert dvc_main(["status"]) == 0
    # It always is.
    assert output.getvalue().split() == ["prepare:", "always", "changed"]

    (root / "sample").unlink()
    with contextlib.closing(Stages(root, 1)) as others:
        assert others.run("prepare", values)
    assert ran(root) == ["prepare"]
    assert (root / "sample").read_text().startswith("mine")


def test_samples_are_made_where_a_source_may_name_them(root: Path, stages: Stages) -> None:
    sample = "    cmd: python -m pipeline.note sample\n    outs: [sample]"
    assert sample in DVC_YAML
    other = sample.replace("note sample", "note data/samples/faces").replace(
        "[sample]", "[data/samples/faces]"
    )
    (root / "dvc.yaml").write_text(
        DVC_YAML.replace(sample, other).replace("deps: [sample]", "deps: [data/samples]")
    )
    (root / "data" / "samples").mkdir(parents=True)

    def made(source: str) -> bool:
        assert stages.run("prepare", params(root, prepare={"source": source}))
        assert stages.commit("prepare", params(root, prepare={"source": source}))
        return (root / "data" / "samples" / "faces").exists()

    assert not made("../photos")
    assert not made("data/manifest.csv")
    assert not made("data/samples/digits")
    assert made("./data/samples/faces/one")
    (root / "data" / "samples" / "faces").unlink()
    with contextlib.closing(Stages(root, 1)) as stages:
        assert made("table.CSV")
    (root / "data" / "samples" / "faces").unlink()
    # What does not look for itself reads all that it depends on.
    text = (root / "dvc.yaml").read_text().replace("    always_changed: true\n", "")
    (root / "dvc.yaml").write_text(text)
    with contextlib.closing(Stages(root, 1)) as stages:
        assert made("../photos")


def test_a_template_may_make_other_stages_of_other_values(
    root: Path, stages: Stages, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "dvc.yaml").write_text(DVC_YAML.replace("note sample", "note ${ train.who }"))
    assert not stages.run("sample", params(root, train={"whom": "first"}))
    assert "error: dvc.yaml: failed to parse 'stages.sample.cmd'" in capsys.readouterr().err
    assert not stages.run("sample", params(root, train={"who": "first"}))
    assert ran(root) == ["first"]
    assert stages.run("sample", params(root, train={"who": "sample"}))
    assert ran(root) == ["sample"]
