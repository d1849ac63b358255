"""The main road, as a user walks it: `dvc repro` in a checkout, edits, comparisons."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from headstart.heads.finetuned_card import NAME as FINETUNED
from tests.e2e.conftest import LOOKING, ROOT, Project, stages_in

pytestmark = pytest.mark.slow
CATS_DOGS = ROOT.parent / "shared" / "data" / "cats_dogs"


def _metrics(project: Project) -> dict:
    return json.loads((project.root / "metrics" / "test.json").read_text())


def _digests(root: Path) -> dict[str, str]:
    """Digest of every file that the stages wrote."""
    folders = ("data", "features", "models", "metrics", "plots", "predictions", "report")
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in folders
        for path in sorted((root / folder).rglob("*"))
        if path.is_file() and path.name != ".gitignore"
    }


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def _bring_back(project: Project) -> None:
    """Undo edits of tracked files, and bring back what belongs to them without running a stage."""
    project.run("git", "checkout", "--quiet", ".")
    assert project.repro() == []


@pytest.fixture(scope="module")
def project(make_project: Callable[[str], Project]) -> Project:
    """The default run, done once."""
    project = make_project("project")
    ran = project.repro()
    assert {"sample@faces", "extract", "train", "evaluate", "report"} <= set(ran)
    project.commit("default run")
    return project


def test_the_default_run_scores_well_on_faces(project: Project) -> None:
    scores = _metrics(project)
    assert scores["selected"]["accuracy"] >= 0.95
    assert scores["selected"]["head"] in scores["heads"]
    printed = project.run("headstart", "scores").stdout
    assert scores["selected"]["head"] in printed
    assert f"models/heads/{scores['selected']['head']}/" in printed


def test_a_second_run_does_nothing(project: Project) -> None:
    assert project.repro() == []
    assert set(json.loads(project.run("dvc", "status", "--json").stdout)) == LOOKING


def test_the_same_data_and_params_give_the_same_bytes(project: Project) -> None:
    before = _digests(project.root)
    shutil.rmtree(project.root / ".store")
    ran = project.repro("--force", "--downstream", "prepare")
    assert {"extract", "train", "evaluate", "report"} <= set(ran)
    after = _digests(project.root)
    assert [name for name in before if before[name] != after.get(name)] == []
    assert before.keys() == after.keys()


def test_an_edit_runs_only_what_depends_on_it_and_the_way_back_is_cached(project: Project) -> None:
    project.edit(train__heads={"dense": {"units": [16], "epochs": 5}, "logistic": {}})
    assert "extract" not in project.repro()
    heads = {"dense", "logistic"}
    assert _names(project.root / "models/heads") == _names(project.root / "plots/heads") == heads
    assert set(json.loads((project.root / "metrics/heads.json").read_text())) == heads
    project.commit("fewer heads")

    project.edit(train__heads__dense__units=[32])
    printed = project.run("dvc", "repro").stdout
    assert set(stages_in(printed)) <= {"train", "evaluate", "report"}
    assert "dense: fitted in" in printed
    assert "logistic: taken over, nothing that decides it has changed" in printed
    # A screenful for people; the rest where they ask for it.
    assert 2 <= len(project.run("dvc", "metrics", "diff").stdout.splitlines()) <= 25
    every = project.run("dvc", "metrics", "diff", "--targets", "metrics/test.json").stdout
    assert "heads.dense.brier" in every

    keys = _metrics(project)["selected"].keys()
    project.edit(extract__pooling="max")
    ran = project.repro()
    assert "extract" in ran
    assert _metrics(project)["selected"].keys() == keys
    difference = json.loads(project.run("dvc", "metrics", "diff", "--json").stdout)
    assert "selected.log_loss" in difference["metrics/summary.json"]

    project.run("git", "checkout", "--quiet", "params.yaml")
    assert project.repro() == []
    assert project.run("dvc", "metrics", "diff").stdout.strip() == ""


def test_a_head_may_be_called_anything_and_need_not_be_there_for_finetuning(
    project: Project,
) -> None:
    """Nothing is unfrozen, so that the head that finetune.head names may be missing."""
    project.edit(
        train__heads={"finetuned": {"kind": "ridge"}, "selected": {"kind": "prototype"}},
        finetune__head="logistic",
    )
    assert {"train", "evaluate", "report"} <= set(project.repro())
    scores = _metrics(project)
    assert set(scores["heads"]) == {"finetuned", "selected"}
    assert scores["selected"]["head"] != FINETUNED
    printed = project.run("headstart", "scores").stdout
    assert f"models/heads/{scores['selected']['head']}/" in printed
    photo = next((project.root / "data/samples/faces/face").iterdir())
    for head in scores["heads"]:
        answer = project.run("headstart", "predict", "--head", head, str(photo)).stdout
        assert "face" in answer
    _bring_back(project)


def test_a_name_that_is_a_path_or_a_command_is_refused_and_harms_nothing(project: Project) -> None:
    precious = [
        project.root / folder / "mine" / "photo.jpg"
        for folder in ("", "..", "models", "plots", "metrics", "predictions")
    ]
    for path in precious:
        path.parent.mkdir()
        path.write_text("precious")
    try:
        project.edit(train__heads={"../mine": {"kind": "ridge"}, "l; touch x #": {"kind": "ridge"}})
        done = project.run("dvc", "repro", check=False)
        assert done.returncode != 0
        assert "error: params.yaml: train.heads.../mine: nothing can be called '../mine'" in (
            done.stdout
        )
        assert "params.yaml: train.heads.l; touch x #: nothing can be called" in done.stdout
        assert "Traceback" not in done.stdout
        assert {path.read_text() for path in precious} == {"precious"}
        assert not list(project.root.rglob("x"))
    finally:
        for path in precious:
            shutil.rmtree(path.parent)
    _bring_back(project)


def test_a_new_option_of_one_section_makes_no_other_stage_stale(project: Project) -> None:
    assert set(json.loads(project.run("dvc", "status", "--json").stdout)) == LOOKING
    options = project.root / "headstart/report/options.py"
    options.write_text(options.read_text() + "    margin: int = 3\n")
    project.edit(report__margin=3)
    assert set(json.loads(project.run("dvc", "status", "--json").stdout)) == {
        "report",
        *LOOKING,
    }
    assert project.repro() == ["report"]
    _bring_back(project)


def test_experiments_run_in_place_and_queued(project: Project) -> None:
    project.run("dvc", "exp", "run", "--name", "direct", "-S", "extract.pooling=max")
    project.run("git", "checkout", "--quiet", ".")
    project.run("dvc", "exp", "run", "--queue", "--name", "queued", "-S", "extract.pooling=max")
    project.run("dvc", "exp", "run", "--run-all")
    listed = project.run("dvc", "exp", "list", "--name-only").stdout.split()
    assert {"direct", "queued"} <= set(listed)
    shown = json.loads(project.run("dvc", "exp", "show", "--json").stdout)
    assert '"failed"' not in json.dumps(shown).lower()


def test_wrong_params_end_in_one_message(project: Project) -> None:
    project.edit(extract__pooling="average")
    done = project.run("dvc", "repro", check=False)
    project.run("git", "checkout", "--quiet", "params.yaml")
    assert done.returncode != 0
    assert "params.yaml: extract.pooling: " in done.stdout
    assert "'average'" in done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.skipif(not CATS_DOGS.is_dir(), reason="shared/data/cats_dogs is not there")
def test_own_photos(project: Project) -> None:
    project.edit(prepare__source=str(CATS_DOGS), train__heads={"linear_svc": {}, "logistic": {}})
    project.repro()
    scores = _metrics(project)
    assert scores["selected"]["accuracy"] >= 0.97
    project.run("git", "checkout", "--quiet", ".")
