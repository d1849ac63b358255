"""What a correction of the data costs and changes, from the photos to the page."""

import csv
import json
import shutil
from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from ruamel.yaml import YAML

from headstart.common import places
from headstart.dataset.manifest import Manifest, ManifestRow, read_manifest
from headstart.features.file import FeatureFile
from headstart.heads import finetuned_card
from headstart.scoring.predictions import Predictions
from pipeline import evaluate, extract, finetune, novelty, prepare, report, train

pytestmark = pytest.mark.slow


class Run(NamedTuple):
    """A project before and after a few corrections.

    Attributes:
        root: The project's folder, corrected.
        before: Its images without corrections.
        scores: Test scores without corrections.
        relabelled: One training and one test image.
        dropped: A test image.
    """

    root: Path
    before: Manifest
    scores: dict[str, Any]
    relabelled: Sequence[ManifestRow]
    dropped: ManifestRow


@pytest.fixture(scope="module")
def run(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    root = Path(shutil.copytree(trained, tmp_path_factory.mktemp("corrected") / "project"))
    with chdir(root):
        before = read_manifest(places.MANIFEST)
        scores = json.loads(places.TEST_METRICS.read_text())
        warm = {
            split: [row for row in before if (row.split, row.label) == (split, "warm")]
            for split in ("train", "test")
        }
        relabelled, dropped = [warm["train"][0], warm["test"][0]], warm["test"][1]
        with Path("corrections.csv").open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(("sha256", "action", "label"))
            table.writerows((row.sha256, "relabel", "cold") for row in relabelled)
            table.writerow((dropped.sha256, "drop", ""))
        params = YAML(typ="safe").load(Path("params.yaml"))
        params["prepare"]["corrections"] = "corrections.csv"
        params["finetune"] |= {"unfreeze": "last_block", "epochs": 1}
        params["report"]["heat_maps"] = 0
        YAML().dump(params, Path("params.yaml"))
        for stage in (prepare, extract, train, novelty, finetune, evaluate, report):
            stage.main()
    return Run(root, before, scores, relabelled, dropped)


def test_no_image_passes_through_the_backbone_again(run: Run) -> None:
    told = json.loads((run.root / places.EXTRACT_METRICS).read_text())
    assert (told["computed"], told["reused"]) == (0, 40)


def test_features_are_as_before_beside_other_labels(run: Run, trained: Path) -> None:
    files = [FeatureFile.open(root / places.FEATURES) for root in (trained, run.root)]
    features = [dict(zip(file.sha256, file.features, strict=True)) for file in files]
    for digest, feature in features[1].items():
        np.testing.assert_array_equal(feature, features[0][digest])
    labels = dict(zip(files[1].sha256, files[1].label, strict=True))
    assert [files[1].header.class_names[labels[row.sha256]] for row in run.relabelled] == [
        "cold",
        "cold",
    ]


def test_a_dropped_test_image_is_neither_learned_from_nor_tested_nor_shown(run: Run) -> None:
    manifest = read_manifest(run.root / places.MANIFEST)
    (position,) = [i for i, row in enumerate(manifest) if row.sha256 == run.dropped.sha256]
    assert manifest.rows[position].split == "dropped"
    file = FeatureFile.open(run.root / places.FEATURES)
    assert position not in file.image[file.rows()]
    assert position in file.image[file.rows("dropped")]
    for name in ("heads/logistic", "heads/prototype", "finetuned"):
        told = Predictions.read(run.root / places.PREDICTIONS / f"{name}.h5")
        assert position not in told.image
        assert len(told.image) == 7
    # The page names it once, where it lists what was corrected.
    assert (run.root / places.REPORT).read_text().count(run.dropped.path) == 1


def test_scores_on_the_labels_of_the_source_stand_beside_the_others(run: Run) -> None:
    content = json.loads((run.root / places.TEST_METRICS).read_text())
    models = {**content["heads"], "selected": content["selected"], "tuned": content["finetuned"]}
    for one in models.values():
        assert one["images"] == 7
        assert one["uncorrected"]["images"] == 8
        assert one["uncorrected"].keys() == {
            "images",
            "accuracy",
            "balanced_accuracy",
            "macro_f1",
            "log_loss",
        }
        # The head knows warm from cold; so the wrong correction costs, and the source's label not.
        assert one["accuracy"] < one["uncorrected"]["accuracy"]
    # Of images that nobody touched both are the same, so that they compare with later ones.
    for one in (run.scores["selected"], *run.scores["heads"].values()):
        assert one["uncorrected"] == {name: one[name] for name in one["uncorrected"]}


def test_the_finetuned_model_was_asked_about_dropped_images_too(run: Run) -> None:
    told = finetuned_card.read_predictions(run.root / places.FINETUNED, "test")
    assert told is not None
    assert len(told.image) == 8
