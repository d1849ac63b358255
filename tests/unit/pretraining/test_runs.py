"""What is kept and what is trained, with a training that takes no time."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headstart.common.cache import Keep
from headstart.common.errors import InputError
from headstart.pretraining import runs
from headstart.pretraining.options import PretrainOptions
from headstart.pretraining.runs import pretrain_runs

RUN = {"backbone": "LeNet5", "seed": 0}
A, B = {**RUN, "classes": [0, 1]}, {**RUN, "epochs": 7}


def fake_training(plan: Any, folder: Path) -> None:
    """Write what decides a run as its weights."""
    (folder / "backbone.weights.h5").write_text(plan.digest)
    (folder / "run.json").write_text(json.dumps({"weights_sha256": plan.digest}))


class Project:
    """A source, the folder that the stage writes, and the names of the runs it trained."""

    def __init__(self, root: Path) -> None:
        self.source, self.output, self.kept = root / "source", root / "out", root / "cache"
        self.trained: list[str] = []

    def run(self, **sections: dict[str, Any]) -> list[str]:
        """Run the stage; return what it trained."""
        self.trained.clear()
        options = PretrainOptions.model_validate({"source": str(self.source), "runs": sections})
        pretrain_runs(options, self.output, Keep("pretrained", self.kept))
        return list(self.trained)

    def files(self) -> set[str]:
        return {path.name for path in self.output.iterdir()}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    made = Project(tmp_path)
    for label in "012":
        (made.source / label).mkdir(parents=True)
        (made.source / label / "0.png").write_text(label)

    def train(plan: Any, folder: Path) -> None:
        made.trained.append(plan.name)
        fake_training(plan, folder)

    monkeypatch.setattr(runs, "_train", train)
    return made


def test_an_edit_trains_one_run_alone(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert project.run(a=A, b=B) == ["a", "b"]
    assert project.run(a=A, b=B) == []
    capsys.readouterr()
    assert project.run(a=A, b={**B, "seed": 1}) == ["b"]
    first, second = capsys.readouterr().err.splitlines()
    assert first == "a: taken over, nothing that decides it has changed"
    assert second.startswith("b: trained in ")
    # Both of its states are kept.
    assert project.run(a=A, b=B) == []


def test_a_removed_run_leaves_nothing_behind(project: Project) -> None:
    project.run(a=A, b=B)
    assert project.files() == {
        "a.weights.h5",
        "a.json",
        "b.weights.h5",
        "b.json",
        "runs.sha256.json",
    }
    project.run(b=B)
    assert project.files() == {"b.weights.h5", "b.json", "runs.sha256.json"}
    digest = (project.output / "b.weights.h5").read_text()
    assert json.loads((project.output / "runs.sha256.json").read_text()) == {"b": digest}
    project.run()
    assert project.files() == {"runs.sha256.json"}
    assert json.loads((project.output / "runs.sha256.json").read_text()) == {}


def test_neither_names_nor_places_decide(project: Project) -> None:
    project.run(a=A)
    assert project.run(renamed=A) == []
    assert project.files() == {"renamed.weights.h5", "renamed.json", "runs.sha256.json"}
    moved = project.source.with_name("moved")
    shutil.move(project.source, moved)
    project.source = moved
    assert project.run(a=A) == []
    assert json.loads((project.output / "a.json").read_text())["source"] == str(moved)


def test_content_labels_code_and_versions_decide(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.run(a=A, b=B)
    (project.source / "2" / "0.png").write_text("another")
    assert project.run(a=A, b=B) == ["b"]  # a has no class 2
    (project.source / "0").rename(project.source / "9")
    (project.source / "1").rename(project.source / "0")
    (project.source / "9").rename(project.source / "1")
    assert project.run(a=A, b=B) == ["a", "b"]
    monkeypatch.setattr(runs, "digest_of_code", lambda packages: "other code")
    assert project.run(a=A, b=B) == ["a", "b"]
    monkeypatch.setattr(runs, "version", lambda package: "0")
    assert project.run(a=A, b=B) == ["a", "b"]


def test_kept_weights_that_are_damaged_are_trained_anew(project: Project) -> None:
    project.run(a=A)
    weights = (project.output / "a.weights.h5").read_bytes()
    (kept,) = project.kept.rglob("*.weights.h5")
    kept.write_bytes(b"half")
    assert project.run(a=A) == ["a"]
    assert (project.output / "a.weights.h5").read_bytes() == weights


def test_a_kill_loses_one_run_and_leaves_the_old_output(project: Project) -> None:
    project.run(old=A)
    before = {path: path.read_bytes() for path in project.output.iterdir()}
    # In a process that ends as a killed one does: nothing is cleaned up, nothing flushed.
    code = (
        "import os, sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from tests.unit.pretraining import test_runs as t\n"
        "def train(plan, folder):\n"
        "    t.fake_training(plan, folder)\n"
        "    if plan.name == 'c': os._exit(9)\n"
        "t.runs._train = train\n"
        "t.Project(Path(sys.argv[2])).run(old=t.A, b=t.B, c={**t.B, 'seed': 5})\n"
    )
    root = str(Path(__file__).parents[3])
    command = [sys.executable, "-c", code, root, str(project.source.parent)]
    assert subprocess.run(command, check=False).returncode == 9
    assert {path: path.read_bytes() for path in project.output.iterdir()} == before
    assert project.run(old=A, b=B, c={**B, "seed": 5}) == ["c"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"backbone": "LeNet6"}, r"^pretrain\.runs\.b\.backbone: there is no 'LeNet6'"),
        ({"image_size": 9}, r"^pretrain\.runs\.b\.image_size: LeNet5 takes images"),
        (
            {"backbone": "ResNet18"},
            r"^pretrain\.runs\.b\.backbone: expected .* one file, received Res",
        ),
        ({"classes": ["7"]}, r"^pretrain\.runs\.b\.classes: 7 not among the classes"),
    ],
)
def test_all_runs_are_checked_before_the_first_is_trained(
    project: Project, wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        project.run(a=A, b={**RUN, **wrong})
    assert project.trained == []


def test_a_run_that_fails_keeps_those_before_it(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(plan: Any, folder: Path) -> None:
        if plan.name == "b":
            raise InputError(f"{plan.key}.learning_rate: training diverged")
        fake_training(plan, folder)

    with monkeypatch.context() as patch:
        patch.setattr(runs, "_train", diverge)
        with pytest.raises(InputError, match=r"^pretrain\.runs\.b\.learning_rate"):
            project.run(a=A, b=B)
    assert project.run(a=A, b=B) == ["b"]
    assert len(list((project.kept / "pretrained").iterdir())) == 2
