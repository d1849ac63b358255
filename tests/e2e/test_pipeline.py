"""The main road, as a user walks it: `dvc repro` in a checkout, edits, comparisons."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT, Project

pytestmark = pytest.mark.slow
CATS_DOGS = ROOT.parent / "shared" / "data" / "cats_dogs"


def _metrics(project: Project) -> dict:
    return json.loads((project.root / "metrics" / "test.json").read_text())


def _digests(root: Path) -> dict[str, str]:
    """Digest of every file under features/, models/ and metrics/, timings apart."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in ("features", "models", "metrics")
        for path in sorted((root / folder).rglob("*"))
        if path.is_file() and "timing" not in path.parts and path.name != ".gitignore"
    }


@pytest.fixture(scope="module")
def project(make_project: Callable[[str], Project]) -> Project:
    """The default run, done once."""
    project = make_project("project")
    ran = project.repro()
    assert {"sample@faces", "prepare", "extract", "train@dense", "evaluate"} <= set(ran)
    project.commit("default run")
    return project


def test_the_default_run_scores_well_on_faces(project: Project) -> None:
    scores = _metrics(project)
    assert scores["selected"]["accuracy"] >= 0.95
    assert scores["selected"]["head"] in scores
    printed = project.run("headstart", "scores").stdout
    assert scores["selected"]["head"] in printed
    assert "models/" in printed


def test_a_second_run_does_nothing(project: Project) -> None:
    output = project.run("dvc", "repro").stdout
    assert "Data and pipelines are up to date." in output
    assert "Running stage" not in output


def test_the_same_data_and_params_give_the_same_bytes(project: Project) -> None:
    before = _digests(project.root)
    shutil.rmtree(project.root / ".store")
    ran = project.repro("--force", "--downstream", "prepare")
    assert {"extract", "train@dense", "train@gap", "train@linear_svc", "evaluate"} <= set(ran)
    after = _digests(project.root)
    assert [name for name in before if before[name] != after.get(name)] == []
    assert before.keys() == after.keys()


def test_an_edit_runs_only_what_depends_on_it_and_the_way_back_is_cached(project: Project) -> None:
    project.edit(train__heads={"dense": {"units": [16], "epochs": 5}, "logistic": {}})
    assert "extract" not in project.repro()
    project.commit("fewer heads")

    project.edit(train__heads__dense__units=[32])
    assert set(project.repro()) <= {"train@dense", "finetune", "evaluate", "report"}

    keys = _metrics(project)["selected"].keys()
    project.edit(extract__pooling="max")
    ran = project.repro()
    assert "extract" in ran
    assert "prepare" not in ran
    assert _metrics(project)["selected"].keys() == keys
    difference = json.loads(project.run("dvc", "metrics", "diff", "--json").stdout)
    assert "selected.log_loss" in difference["metrics/test.json"]

    project.run("git", "checkout", "--quiet", "params.yaml")
    assert project.repro() == []
    assert project.run("dvc", "metrics", "diff").stdout.strip() == ""


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
