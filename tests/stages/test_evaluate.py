"""Test scores, the model that validation chose, leaks, and what it takes to tell them."""

import csv
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from headstart import heads
from headstart.common.durations import kept_seconds
from headstart.common.errors import InputError
from headstart.dataset.leak_table import Leak, write_leaks
from headstart.dataset.manifest import Manifest
from headstart.scoring.metrics import scores
from headstart.scoring.predictions import Predictions
from tests.evaluated_project import Project
from tests.feature_files import blobs

ROOT = Path(__file__).parents[2]
# Of these, no name means anything but a head.
NAMES = {"logistic": {}, "finetuned": {"kind": "prototype"}, "selected": {"kind": "knn"}}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Three heads trained on images in groups of two."""
    features, labels = blobs(100, 3, 12)
    group = np.where(np.arange(300) % 10 < 5, np.arange(300) % 5 + 5 * (np.arange(300) // 20), -1)
    project = Project.make(tmp_path_factory.mktemp("project"), features, labels, group=group)
    project.train(NAMES)
    return project


@pytest.fixture(scope="module")
def content(project: Project) -> dict[str, Any]:
    return project.run()


def test_the_summary_holds_few_scores_and_the_same(
    project: Project, content: dict[str, Any]
) -> None:
    """`dvc metrics diff` shows all of it, so an edit of one head must not fill the screen."""
    summary = json.loads((project.root / "summary.json").read_text())
    selected = content["selected"]
    assert summary["selected"] == {name: selected[name] for name in summary["selected"]}
    assert list(summary["selected"]) == [
        "head", "validation_accuracy", "accuracy", "balanced_accuracy", "macro_f1", "log_loss",
    ]  # fmt: skip
    trained = json.loads((project.root / "metrics/heads.json").read_text())
    assert summary["heads"] == {
        name: {
            "setting": trained[name]["setting"],
            "validation_accuracy": pytest.approx(trained[name]["validation"]["accuracy"]),
            "accuracy": content["heads"][name]["accuracy"],
            "log_loss": content["heads"][name]["log_loss"],
        }
        for name in NAMES
    }


def test_how_long_a_fit_took_is_kept_and_no_file_of_the_run_says_it(project: Project) -> None:
    card = project.root / "models/heads/logistic/head.json"
    assert 0 < kept_seconds(card) < 60
    assert "seconds" not in card.read_text()


def test_scores_are_those_of_the_loaded_heads(project: Project, content: dict[str, Any]) -> None:
    rows = project.file.rows("test")
    assert set(content) == {"selected", "heads", "leaks"}
    assert set(content["heads"]) == set(NAMES)
    for name in NAMES:
        head = heads.load(project.root / "models/heads" / name)
        probabilities = head.predict_proba(project.file.features, rows, np.float32)
        expected = scores(project.file.label[rows], probabilities, project.file.header.class_names)
        for key, value in expected.items():
            assert content["heads"][name][key] == value
        told = Predictions.read(project.root / "predictions/heads" / f"{name}.h5")
        np.testing.assert_array_equal(told.probabilities, probabilities)
        np.testing.assert_array_equal(told.image, project.file.image[rows])


def test_size_stands_beside_quality(content: dict[str, Any]) -> None:
    assert {one["feature_dim"] for one in content["heads"].values()} == {12}
    assert content["heads"]["logistic"]["parameters"] == 3 * 13


def test_headline_scores_have_intervals(content: dict[str, Any]) -> None:
    for name in NAMES:
        for score in ("accuracy", "balanced_accuracy", "macro_f1", "log_loss"):
            low, high = content["heads"][name]["intervals"][score]
            assert low < content["heads"][name][score] < high


def test_the_winner_is_the_best_on_validation(project: Project, content: dict[str, Any]) -> None:
    selected = content["selected"]
    trained = json.loads((project.root / "metrics/heads.json").read_text())
    accuracies = {name: trained[name]["validation"]["accuracy"] for name in NAMES}
    assert accuracies[selected["head"]] == max(accuracies.values())
    assert isinstance(selected["tie"], bool)
    for key, value in content["heads"][selected["head"]].items():
        assert selected[key] == value


def test_two_runs_give_the_same_bytes(project: Project, content: dict[str, Any]) -> None:
    assert project.run("again") == content
    for path in sorted((project.root / "again").rglob("*")):
        if path.is_file():
            first = project.root / path.relative_to(project.root / "again")
            assert path.read_bytes() == first.read_bytes(), path.name


def test_known_leaks_are_left_out_the_second_time(
    project: Project, content: dict[str, Any], tmp_path: Path
) -> None:
    assert content["leaks"] == {"test_images": 0, "by_hash": 0, "by_features": 0}
    for name in NAMES:
        own = content["heads"][name]
        assert own["without_leaks"]["accuracy"] == own["accuracy"]
    rows = project.file.rows("test")
    head = heads.load(project.root / "models/heads/logistic")
    probabilities = head.predict_proba(project.file.features, rows)
    right = probabilities.argmax(axis=1) == project.file.label[rows]
    leaking = np.flatnonzero(right)[:10]
    paths = [project.manifest.rows[project.file.image[rows[i]]].path for i in leaking]
    known = tmp_path / "leaks.csv"
    write_leaks(known, [Leak("a.png", "train", "x", p, "test", "x", "near", "0.99") for p in paths])
    found = project.run("leaks", known_leaks=known)
    assert found["leaks"] == {"test_images": 10, "by_hash": 10, "by_features": 0}
    assert found["heads"]["logistic"]["accuracy"] == content["heads"]["logistic"]["accuracy"]
    without = found["heads"]["logistic"]["without_leaks"]
    assert without["images"] == len(rows) - 10
    assert without["accuracy"] == pytest.approx((right.sum() - 10) / (len(rows) - 10))


def test_copies_that_features_show_are_listed(tmp_path: Path) -> None:
    features, labels = blobs(100, 3, 40)
    features[4] = features[0]
    project = Project.make(tmp_path, features, labels)
    project.train({"logistic": {}})
    content = project.run()
    assert content["leaks"] == {"test_images": 1, "by_hash": 0, "by_features": 1}
    with (tmp_path / "feature_leaks.csv").open(newline="") as table:
        (line,) = csv.DictReader(table)
    assert (line["path"], line["other_path"], line["kind"]) == (
        "00000.png",
        "00004.png",
        "features",
    )


def test_a_crop_is_listed_once_as_what_it_is(
    tmp_path: Path, photo: Callable[..., np.ndarray]
) -> None:
    features, labels = blobs(100, 3, 40)
    features[4] = features[0]
    project = Project.make(tmp_path, features, labels)
    project.train({"logistic": {}})
    rows = []
    for number, row in enumerate(project.manifest):
        path = tmp_path / row.path
        pixels = photo(0)[8:, :115] if number == 4 else photo(number)
        Image.fromarray(pixels).save(path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        rows.append(row._replace(path=str(path), sha256=digest))
    project.manifest = Manifest(rows)
    content = project.run()
    assert content["leaks"] == {"test_images": 1, "by_hash": 0, "by_features": 1}
    assert content["selected"]["without_leaks"]["images"] == 59
    with (tmp_path / "feature_leaks.csv").open(newline="") as table:
        (line,) = csv.DictReader(table)
    assert (Path(line["path"]).name, Path(line["other_path"]).name) == ("00000.png", "00004.png")
    assert line["kind"] == "crop"


def test_a_head_of_other_features_is_refused(tmp_path: Path) -> None:
    Project.make(tmp_path, *blobs(20, 3, 12)).train({"ridge": {}})
    other = Project.make(tmp_path, *blobs(20, 3, 9))
    with pytest.raises(InputError, match=r"feature_shape: expected \(12,\), received \(9,\)"):
        other.run()


def test_without_a_test_image_there_are_no_scores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features, labels = blobs(20, 3, 12)
    project = Project.make(tmp_path, features, labels, split=np.full(60, "train"))
    project.train({"ridge": {}, "knn": {}})
    content = project.with_columns(camera=labels).run(slices=["camera"])
    assert content["selected"]["slices"] == {"camera": {}}
    assert content["selected"]["weak_clusters"] == {}
    names = ["class 0", "class 1", "class 2"]
    for one in (*content["heads"].values(), content["selected"]):
        assert (one["images"], one["classes_without_images"]) == (0, names)
        assert not {"accuracy", "log_loss", "intervals", "roc_auc"} & set(one)
    # Validation still chooses.
    assert 0 < content["selected"]["validation_accuracy"] <= 1
    assert "there is no test image, so there are no test scores" in capsys.readouterr().err
    with (tmp_path / "plots/test/roc.csv").open(newline="") as table:
        assert list(csv.DictReader(table)) == []


def test_with_nothing_held_out_the_first_head_of_params_is_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features, labels = blobs(4, 3, 12)
    project = Project.make(tmp_path, features, labels, split=np.full(12, "train"), group=labels)
    project.train({"ridge": {}, "knn": {}})
    content = project.run()
    assert (content["selected"]["head"], content["selected"]["selected_by"]) == ("ridge", "default")
    assert "selected ridge, the first head of params.yaml" in capsys.readouterr().err


def test_a_class_without_a_test_image_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features, labels = blobs(20, 3, 12)
    split = np.where(labels == 1, "train", np.tile(["train", "train", "train", "test"], 15))
    project = Project.make(tmp_path, features, labels, split=split)
    project.train({"ridge": {}})
    assert project.run()["heads"]["ridge"]["classes_without_images"] == ["class 1"]
    assert "no test image of class 1, which test scores therefore" in capsys.readouterr().err


def test_no_head_is_refused(tmp_path: Path) -> None:
    project = Project.make(tmp_path, *blobs(20, 3, 12))
    with pytest.raises(InputError, match="models/heads: expected trained heads, received none"):
        project.run()


def test_all_fits_are_drawn_together(project: Project, content: dict[str, Any]) -> None:
    with (project.root / "plots/curves/path.csv").open(newline="") as table:
        drawn = {(row["head"], row["setting"]) for row in csv.DictReader(table)}
    assert drawn == {("logistic", "l2"), ("selected", "neighbors")}


def test_the_stage_needs_neither_tensorflow_nor_a_backbone(tmp_path: Path) -> None:
    project = Project.make(tmp_path, *blobs(40, 2, 8))
    project.train({"logistic": {}, "ridge": {}})
    yaml = YAML()
    yaml.dump(yaml.load(ROOT / "params.yaml"), tmp_path / "params.yaml")
    code = (
        "import sys\n"
        "from pipeline import evaluate\n"
        "evaluate.main()\n"
        "needless = ('tensorflow', 'keras', 'openvino', 'headstart.catalog',\n"
        "            'headstart.extraction', 'headstart.images')\n"
        "print([name for name in needless if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "[]\n"
    test = json.loads((tmp_path / "metrics/test.json").read_text())
    assert set(test["heads"]) == {"logistic", "ridge"}
    assert sorted(path.name for path in (tmp_path / "predictions/heads").iterdir()) == [
        "logistic.h5",
        "ridge.h5",
    ]
