"""A DINOv2 from a local folder, from photos to predictions, as the README shows it; offline."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import Project

pytest.importorskip("keras_hub", reason="hub backbones need the extra: headstart[hub]")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(make_project: Callable[[str], Project], photo_folder: Path) -> Project:
    """Warm and cold photos, and DINOv2-S as Transformers saves it, with random weights."""
    from tests.hub_presets import transformers_folder

    project = make_project("hub")
    # Who tries to reach the network is told that there is none.
    nowhere = "http://127.0.0.1:9"
    project.environment |= {"http_proxy": nowhere, "https_proxy": nowhere, "no_proxy": ""}
    shutil.copytree(photo_folder, project.root / "photos")
    transformers_folder("dinov2_small", project.root / "models/weights/dinov2-small")
    project.edit(
        prepare__source="photos",
        extract__backbone="DINOv2Small",
        extract__weights="models/weights/dinov2-small",
        extract__image_size=56,
        extract__pooling="cls+avg",
        train__heads={"logistic": {}},
        report__projections=["pca"],
    )
    return project


def test_from_photos_to_report_and_predictions(project: Project) -> None:
    ran = project.repro()
    assert {"extract", "train", "evaluate", "report"} <= set(ran)
    metrics = json.loads((project.root / "metrics/extract.json").read_text())
    assert metrics["feature_dim"] == 2 * 384
    scores = json.loads((project.root / "metrics/test.json").read_text())
    # Even random weights tell red from blue, if their inputs are right.
    assert scores["heads"]["logistic"]["accuracy"] >= 0.8
    assert "DINOv2Small" in (project.root / "report/index.html").read_text(encoding="utf-8")

    project.commit("hub")
    assert project.repro() == []

    # What has been computed is looked up by what decides it: the pass itself is not run again.
    (project.root / "features/bottleneck.h5").unlink()
    printed = project.run("dvc", "repro", "--force", "--single-item", "extract").stdout
    metrics = json.loads((project.root / "metrics/extract.json").read_text())
    assert metrics["computed"] == 0, printed

    photo = project.root / "photos/warm/00.jpg"
    assert "warm" in project.run("headstart", "predict", str(photo)).stdout
