"""Parts of the test images on which the selected model is weak: values of a column, clusters."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headstart.common.errors import InputError
from headstart.scoring.predictions import Predictions
from tests.evaluated_project import Project
from tests.feature_files import blobs


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A head trained on images in groups of two."""
    features, labels = blobs(100, 3, 12)
    group = np.where(np.arange(300) % 10 < 5, np.arange(300) % 5 + 5 * (np.arange(300) // 20), -1)
    project = Project.make(tmp_path_factory.mktemp("project"), features, labels, group=group)
    project.train({"logistic": {}})
    return project


@pytest.fixture(scope="module")
def content(project: Project) -> dict[str, Any]:
    return project.run()


def wrong_images(project: Project, content: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return the test images that the selected head has wrong, and those that it has right."""
    head = content["selected"]["head"]
    said = Predictions.read(project.root / f"predictions/heads/{head}.h5")
    wrong = said.probabilities.argmax(axis=1) != project.manifest.labels[said.image]
    return said.image[wrong], said.image[~wrong]


def test_each_value_of_a_column_is_scored_against_the_rest(
    project: Project, content: dict[str, Any]
) -> None:
    assert "slices" not in content["selected"]
    wrong, right = wrong_images(project, content)
    assert 6 <= len(wrong) < 20
    camera = np.full(300, "주간 f/2.8", dtype=object)
    camera[wrong] = camera[right[:8]] = "night"
    camera[right[8:12]] = ""
    camera[right[12:14]] = "rare"
    day = np.arange(300) % 2
    found = project.with_columns(camera=camera, day=day).run("slices", slices=["camera", "day"])[
        "selected"
    ]
    slices = found["slices"]
    assert {name: set(values) for name, values in slices.items()} == {
        "camera": {"night", "주간 f/2.8"},
        "day": {"0", "1"},
    }
    assert found["slices_left_out"] == {
        "camera": {"too_few": 1, "too_many": 0, "without_value": 4},
        "day": {"too_few": 0, "too_many": 0, "without_value": 0},
    }
    night = slices["camera"]["night"]
    assert night["images"] == len(wrong) + 8
    assert night["accuracy"] == pytest.approx(8 / night["images"])
    assert night["rest"] == 1
    assert night["difference"] == pytest.approx(night["accuracy"] - 1)
    assert -1 <= night["low"] < night["difference"] < night["high"] < 0
    assert (night["weak"], night["p"] < 0.05) == (1, True)
    low, high = night["intervals"]["accuracy"]
    assert low < night["accuracy"] < high
    assert [slices["day"][value]["weak"] for value in "01"] == [0, 0]
    assert slices["camera"]["주간 f/2.8"]["weak"] == 0


def test_a_slice_that_the_source_does_not_bring_is_refused(project: Project) -> None:
    with pytest.raises(InputError) as refused:
        project.run(slices=["camera"])
    assert str(refused.value) == (
        "params.yaml: evaluate.slices: expected columns of prepare.source beside path, label, "
        "split and group, of which there are none; received camera. A folder brings no columns: "
        "name a .csv file as prepare.source, or remove them here"
    )
    with pytest.raises(InputError, match=r"of which there are place, day; received camera\."):
        project.with_columns(place=np.arange(300), day=np.arange(300)).run(slices=["day", "camera"])


def test_clusters_where_mistakes_gather_are_listed(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    features, labels = blobs(200, 3, 12, gap=6)
    # A sixth of the test images lies apart, and there labels follow nothing.
    odd = (np.arange(600) % 5 == 4) & (np.arange(600) % 6 == 0)
    features[odd] = rng.normal(0, 0.3, (odd.sum(), 12)) + 8 * np.eye(12)[0]
    labels[odd] = np.arange(odd.sum()) % 3
    project = Project.make(tmp_path, features, labels)
    project.train({"logistic": {}})
    found = project.run()["selected"]["weak_clusters"]
    assert list(found) == ["1"]
    assert found["1"]["images"] == odd.sum() == 20
    assert found["1"]["high"] < 0
    assert found["1"]["p"] < 0.05
    with (tmp_path / "weak_clusters.csv").open(newline="") as table:
        lines = list(csv.DictReader(table))
    assert list(lines[0]) == ["cluster", "path", "label", "named", "probability"]
    paths = [f"{number:05}.png" for number in np.flatnonzero(odd)]
    assert sorted(line["path"] for line in lines) == paths
    assert {line["cluster"] for line in lines} == {"1"}
    assert np.mean([line["label"] == line["named"] for line in lines]) == pytest.approx(
        found["1"]["accuracy"]
    )
    middle = features[odd].mean(axis=0)
    away = [np.linalg.norm(features[int(line["path"][:5])] - middle) for line in lines]
    assert np.mean(away[:5]) < np.mean(away[-5:])


def test_without_mistakes_no_cluster_is_weak(tmp_path: Path) -> None:
    project = Project.make(tmp_path, *blobs(200, 3, 12, gap=20))
    project.train({"logistic": {}})
    assert project.run()["selected"]["weak_clusters"] == {}
    assert (tmp_path / "weak_clusters.csv").read_text() == "cluster,path,label,named,probability\n"
