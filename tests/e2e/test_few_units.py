"""Data in which too little can be held out, through `dvc repro` and what users ask afterwards."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.e2e.conftest import Project

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(make_project: Callable[[str], Project]) -> Project:
    """A small backbone with random weights and two heads; photos come with the tests."""
    project = make_project("few_units")
    project.edit(
        prepare__source="photos",
        extract__backbone="LeNet5",
        extract__weights="random",
        train__heads={"logistic": {}, "dense": {"epochs": 2}},
        report__projections=["pca"],
    )
    return project


def _write(folder: Path, pictures: list[np.ndarray]) -> None:
    folder.mkdir(parents=True)
    for index, pixels in enumerate(pictures):
        Image.fromarray(pixels).save(folder / f"{index:02}.png")


def _run(project: Project) -> tuple[str, str, dict, dict]:
    """Return what `dvc repro` and `headstart scores` print, and both tables of scores."""
    printed = project.run("dvc", "repro").stdout
    scores = project.run("headstart", "scores").stdout
    photo = min((project.root / "photos").rglob("*.png"))
    assert (
        str(photo.relative_to(project.root))
        in project.run("headstart", "predict", str(photo.relative_to(project.root))).stdout
    )
    heads, test = (
        json.loads((project.root / "metrics" / f"{name}.json").read_text())
        for name in ("heads", "test")
    )
    return printed, scores, heads, test


def test_a_burst_is_trained_on_and_named_wherever_scores_stand(
    project: Project, photo: Callable[[int, int, int], np.ndarray]
) -> None:
    shot = photo(0, 48, 64).astype(float)
    burst = [np.clip(shot + step, 0, 255).astype(np.uint8) for step in range(8)]
    _write(project.root / "photos" / "burst", burst)
    for number, label in enumerate(("cat", "dog"), 1):
        pictures = [photo(100 * number + index, 48, 64) for index in range(15)]
        _write(project.root / "photos" / label, pictures)
    printed, scores, heads, test = _run(project)
    assert "class 'burst' has 8 images in 1 unit" in printed
    for one in heads.values():
        assert one["validation"]["classes_without_images"] == ["burst"]
        assert 1e-3 < one["temperature"] < 1e3
    assert test["heads"]["dense"]["classes_without_images"] == ["burst"]
    assert "No test image of burst, which test scores therefore leave out" in scores
    page = (project.root / "report/index.html").read_text(encoding="utf-8")
    assert "There is no test image of burst, so test scores leave these classes out" in page


def test_one_image_per_class_runs_to_the_end_without_a_made_up_number(project: Project) -> None:
    for label in ("burst", "cat", "dog"):
        for path in sorted((project.root / "photos" / label).iterdir())[1:]:
            path.unlink()
    printed, scores, heads, test = _run(project)
    assert "warning: no class has a test image" in printed
    assert "Raising prepare.test cannot help" in printed
    assert {one["selected_by"] for one in heads.values()} == {"default"}
    assert heads["logistic"]["setting"] == {"l2": 1.0}
    assert heads["dense"]["setting"] == {"epochs": 2}
    assert test["selected"]["head"] == "logistic"
    assert {one["images"] for one in test["heads"].values()} == {0}
    assert "accuracy" not in test["selected"]
    assert "No test image: there are no test scores." in scores
    assert "Selected: logistic, the first in params.yaml" in scores
    page = (project.root / "report/index.html").read_text(encoding="utf-8")
    assert "There are no test scores: there is no test image." in page
