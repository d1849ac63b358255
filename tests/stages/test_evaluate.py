import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headstart import heads
from headstart.commands.params import load_params
from headstart.common.errors import InputError
from headstart.dataset.duplicates import Leak, write_leaks
from headstart.dataset.manifest import Manifest, read_manifest
from headstart.evaluation.options import EvaluateOptions
from headstart.features.file import FeatureFile
from headstart.heads.options import TrainOptions
from headstart.scoring.metrics import scores
from headstart.scoring.predictions import Predictions
from pipeline import evaluate, train
from tests.feature_files import blobs, write_project

ROOT = Path(__file__).parents[2]
NAMES = ("logistic", "prototype", "knn")


@dataclass
class Project:
    root: Path
    file: FeatureFile
    manifest: Manifest

    @property
    def models(self) -> dict[str, Path]:
        return {name: self.root / "models" / name for name in NAMES}

    def outputs(self, folder: str = ".") -> evaluate.Outputs:
        root = self.root / folder
        return evaluate.Outputs(
            metrics=root / "test.json",
            plots=root / "plots",
            predictions=root / "predictions",
            leaks=root / "feature_leaks.csv",
        )

    def run(self, folder: str = ".", **changes: Any) -> dict[str, Any]:
        options = EvaluateOptions(seed=0, bootstrap=200, views=0)
        evaluate.run(
            self.file, self.manifest, self.models, options, self.outputs(folder), **changes
        )
        content: dict[str, Any] = json.loads(self.outputs(folder).metrics.read_text())
        return content


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Three heads trained on images in groups of two."""
    root = tmp_path_factory.mktemp("project")
    features, labels = blobs(100, 3, 12)
    group = np.where(np.arange(300) % 10 < 5, np.arange(300) % 5 + 5 * (np.arange(300) // 20), -1)
    file = write_project(root, features, labels, group=group)
    given = load_params(ROOT / "params.yaml").train.model_dump()
    options = TrainOptions.model_validate({**given, "heads": {name: {} for name in NAMES}})
    for name in NAMES:
        places = train.Outputs(
            root / "models" / name, root / f"{name}.json", root / "t.json", root / "curves" / name
        )
        train.run(name, file, options, places)
    return Project(root, file, read_manifest(root / "data" / "manifest.csv"))


@pytest.fixture(scope="module")
def content(project: Project) -> dict[str, Any]:
    return project.run()


def test_scores_are_those_of_the_loaded_heads(project: Project, content: dict[str, Any]) -> None:
    rows = project.file.rows("test")
    assert set(content) == {*NAMES, "selected", "leaks", "cost"}
    for name, folder in project.models.items():
        probabilities = heads.load(folder).predict_proba(project.file.features, rows)
        expected = scores(project.file.label[rows], probabilities, project.file.header.class_names)
        for key, value in expected.items():
            assert content[name][key] == value
        told = Predictions.read(project.root / "predictions" / f"{name}.h5")
        np.testing.assert_array_equal(told.probabilities, probabilities)
        np.testing.assert_array_equal(told.image, project.file.image[rows])


def test_cost_stands_beside_quality(content: dict[str, Any]) -> None:
    """LeNet-5 up to c5 at 32 x 32; by hand in tests/unit/test_network_size.py."""
    assert content["cost"] == {
        "feature_dim": 12,
        "multiply_adds": 405_600,
        "parameters": 50_692,
    }


def test_headline_scores_have_intervals(content: dict[str, Any]) -> None:
    for name in NAMES:
        for score in ("accuracy", "balanced_accuracy", "macro_f1", "log_loss"):
            low, high = content[name]["intervals"][score]
            assert low < content[name][score] < high


def test_the_winner_is_the_best_on_validation(project: Project, content: dict[str, Any]) -> None:
    selected = content["selected"]
    accuracies = {
        name: json.loads((project.root / f"{name}.json").read_text())["validation"]["accuracy"]
        for name in NAMES
    }
    assert accuracies[selected["head"]] == max(accuracies.values())
    assert isinstance(selected["tie"], bool)
    for key, value in content[selected["head"]].items():
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
        assert content[name]["without_leaks"]["accuracy"] == content[name]["accuracy"]
    rows = project.file.rows("test")
    probabilities = heads.load(project.models["logistic"]).predict_proba(
        project.file.features, rows
    )
    right = probabilities.argmax(axis=1) == project.file.label[rows]
    leaking = np.flatnonzero(right)[:10]
    paths = [project.manifest.rows[project.file.image[rows[i]]].path for i in leaking]
    known = tmp_path / "leaks.csv"
    write_leaks(known, [Leak("a.png", "train", "x", p, "test", "x", "near", "0.99") for p in paths])
    found = project.run("leaks", known_leaks=known)
    assert found["leaks"] == {"test_images": 10, "by_hash": 10, "by_features": 0}
    assert found["logistic"]["accuracy"] == content["logistic"]["accuracy"]
    without = found["logistic"]["without_leaks"]
    assert without["images"] == len(rows) - 10
    assert without["accuracy"] == pytest.approx((right.sum() - 10) / (len(rows) - 10))


def test_copies_that_features_show_are_listed(tmp_path: Path) -> None:
    features, labels = blobs(100, 3, 40)
    features[4] = features[0]
    file = write_project(tmp_path, features, labels)
    given = load_params(ROOT / "params.yaml").train.model_dump()
    options = TrainOptions.model_validate({**given, "heads": {"logistic": {}}})
    model = tmp_path / "models" / "logistic"
    train.run(
        "logistic", file, options,
        train.Outputs(model, tmp_path / "m.json", tmp_path / "t.json", tmp_path / "plots"),
    )  # fmt: skip
    project = Project(tmp_path, file, read_manifest(tmp_path / "data" / "manifest.csv"))
    evaluate.run(
        file,
        project.manifest,
        {"logistic": model},
        EvaluateOptions(seed=0, bootstrap=0, views=0),
        project.outputs(),
    )
    content = json.loads((tmp_path / "test.json").read_text())
    assert content["leaks"] == {"test_images": 1, "by_hash": 0, "by_features": 1}
    assert "intervals" not in content["logistic"]
    with (tmp_path / "feature_leaks.csv").open(newline="") as table:
        (line,) = csv.DictReader(table)
    assert (line["path"], line["other_path"], line["kind"]) == (
        "00000.png",
        "00004.png",
        "features",
    )


def test_a_head_of_other_features_is_refused(project: Project, tmp_path: Path) -> None:
    features, labels = blobs(20, 3, 9)
    file = write_project(tmp_path, features, labels)
    other = Project(project.root, file, read_manifest(tmp_path / "data" / "manifest.csv"))
    with pytest.raises(InputError, match=r"feature_shape: expected \(12,\), received \(9,\)"):
        other.run("refused")


def test_no_test_image_is_refused(project: Project, tmp_path: Path) -> None:
    features, labels = blobs(20, 3, 12)
    file = write_project(tmp_path, features, labels, split=np.full(60, "train"))
    other = Project(project.root, file, read_manifest(tmp_path / "data" / "manifest.csv"))
    with pytest.raises(InputError, match="expected test images, received none: raise prepare.test"):
        other.run("refused")
