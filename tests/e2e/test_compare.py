"""`headstart compare`, as a user runs it, on a small project."""

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from headstart.commands import cli
from tests.e2e.conftest import Project

pytestmark = pytest.mark.slow
CANDIDATES = "train.heads.logistic.l2=1e-4,1e-2,1e3,1e4,1e5,1e6"


@pytest.fixture(scope="module")
def photos(
    tmp_path_factory: pytest.TempPathFactory, photo: Callable[[int, int, int], np.ndarray]
) -> Path:
    """480 warm and cold photos: 384 to train on and choose by, of which a round sees a third."""
    root = tmp_path_factory.mktemp("photos")
    for label, channel in (("warm", 0), ("cold", 2)):
        (root / label).mkdir()
        for index in range(240):
            image = photo(index + 1000 * channel, 40, 48) // 2
            image[..., channel] += 100
            Image.fromarray(image).save(root / label / f"{index:03}.png")
    return root


@pytest.fixture(scope="module")
def project(make_project: Callable[[str], Project], photos: Path) -> Project:
    """Warm and cold photos, LeNet5 with random weights, one head; committed, then edited."""
    project = make_project("comparison")
    project.edit(
        prepare__source=str(photos),
        extract__backbone="LeNet5",
        extract__weights="random",
        train__heads={"logistic": {"l2": "auto"}},
    )
    project.commit()
    project.edit(train__min_validation=3)
    # Of files written less than two seconds ago nothing is kept: a later write might not show.
    newest = max(path.stat().st_ctime for path in photos.rglob("*"))
    time.sleep(max(0.0, newest + 2.5 - time.time()))
    return project


def contents(root: Path) -> dict[str, str]:
    """Digests of all files of the user's; what git, DVC, Python and comparisons keep left out."""
    own = {".git", ".dvc", ".store", "__pycache__"}
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
        and not own & set(path.relative_to(root).parts)
        and not path.name.startswith("comparison.")
    }


def test_compare_with_a_budget(project: Project) -> None:
    before = contents(project.root)
    done = project.run("headstart", "compare", "--over", CANDIDATES, "--budget")
    assert contents(project.root) == before
    record = json.loads((project.root / "plots" / "comparison.json").read_text())
    assert len(record["candidates"]) == 2
    # So strong a penalty leaves chance.
    labels = {one["label"] for one in record["dropped"]}
    assert labels == {"l2=1000.0", "l2=10000.0", "l2=100000.0", "l2=1000000.0"}
    assert {(one["share"], one["reason"]) for one in record["dropped"]} == {(0.313, "worse")}
    assert "Dropped at 31% of the images: l2=100000.0" in done.stdout
    assert "better by more than chance" in done.stdout
    assert record["method"] == "paired interval"
    assert record["failed"] == []
    # 480 photos once, whatever the number of candidates: they share their features.
    assert record["forward_passes"] == {"computed": 480, "without_budget": 480}
    assert all(one["multiply_adds"] == 405_600 for one in record["candidates"])
    assert Image.open(project.root / "plots" / "comparison.png").width > 1000

    shown = project.run("dvc", "exp", "show", "--csv").stdout
    names = [candidate["experiment"] for candidate in record["candidates"]]
    assert all(name in shown for name in names)
    kept = project.run("git", "show", f"{_reference(project, names[0])}:params.yaml").stdout
    assert "min_validation: 3" in kept

    again = project.run(
        "headstart", "compare", "--over", CANDIDATES, "--budget", "--format", "json"
    )
    repeated = json.loads(again.stdout[again.stdout.index("{") :])
    assert again.stdout.count("taken over, nothing that decides it has changed") == 2
    assert "[1]" not in again.stdout
    assert repeated["forward_passes"]["computed"] == 0
    for name in ("winner", "dropped"):
        assert repeated[name] == record[name]
    # Of equals the faster one stands first, which a pass that is timed again may change.
    first = {one["label"]: one for one in record["candidates"]}
    assert sorted(first) == sorted(one["label"] for one in repeated["candidates"])
    for one in repeated["candidates"]:
        other = first[one["label"]]
        apart = {"computed", "seconds"}
        if other["busy"]:  # then the pass is timed again
            apart |= {"milliseconds", "busy", "on_front"}
        assert {key: one[key] for key in one if key not in apart} == {
            key: other[key] for key in other if key not in apart
        }


def test_an_experiment_can_be_taken_over(project: Project) -> None:
    project.run("headstart", "compare", "--over", CANDIDATES)
    record = json.loads((project.root / "plots" / "comparison.json").read_text())
    (other, *_) = (one for one in record["candidates"] if one["label"] != record["winner"])
    project.run("dvc", "exp", "apply", other["experiment"], check=False)
    params = YAML(typ="safe").load(project.root / "params.yaml")
    assert (
        params["train"]["heads"]["logistic"]["l2"] == other["overrides"]["train.heads.logistic.l2"]
    )
    # What no candidate has run: `evaluate` reads neither.
    assert set(project.repro("report")) <= {"sample@faces", "sample@digits", "audit", "report"}
    test = json.loads((project.root / "metrics" / "test.json").read_text())
    assert test["selected"]["accuracy"] == other["accuracy"]


def _reference(project: Project, name: str) -> str:
    (reference,) = [
        line
        for line in project.run("git", "for-each-ref", "--format=%(refname)").stdout.split()
        if line.endswith(f"/{name}")
    ]
    return reference


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["EfficientNetLite9", "LeNet5"], "did you mean EfficientNetLite"),
        (["LeNet5"], "expected at least two candidates, received LeNet5"),
        (["--over", "extract.layr=a,b"], "did you mean extract.layer"),
        (["--over", "extract.resize=stretch,squeeze"], "params.yaml with resize=squeeze"),
        (["--over", "extract.image_size=64,8"], "at least 32"),
        (["--over", "extract.layer=a,b", "-o", "plot.txt"], "expected a name that ends in .png"),
        (["--strategies", "--budget"], "leave --budget out where finetune.* is compared"),
        (["--strategies", "--over", "finetune.unfreeze=all,none"], "finetune.unfreeze is named tw"),
        (["--strategies", "--over", "finetune.head=gone,gap"], "expected one of train.heads"),
        (
            ["--over", "finetune.learning_rate=1e-4,1e-3"],
            "but finetune.unfreeze in params.yaml is none: say what",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_runs(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    root = Path(__file__).parents[2]
    (tmp_path / "params.yaml").write_text((root / "params.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    assert cli.main(["compare", *arguments]) == 1
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


def test_outside_a_repository_one_message_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(__file__).parents[2]
    (tmp_path / "params.yaml").write_text((root / "params.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    assert cli.main(["compare", "--over", "train.seed=1,2"]) == 1
    assert "this is no git repository: run `git init`" in capsys.readouterr().err
