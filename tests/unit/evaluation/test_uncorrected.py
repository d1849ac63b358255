"""Scores by the labels of the source, when corrections have changed, added or taken away some."""

import numpy as np
import pytest

from headstart.dataset.manifest import Manifest, ManifestRow
from headstart.evaluation.uncorrected import headlines, uncorrected_scores
from headstart.scoring.metrics import scores
from headstart.scoring.predictions import Predictions

PROBABILITIES = np.array([[0.7, 0.3], [0.2, 0.8], [0.6, 0.4], [0.1, 0.9], [0.8, 0.2]])


def test_of_known_classes_they_are_the_usual_scores() -> None:
    labels = np.array([0, 1, 1, 1, 0])
    usual = scores(labels, PROBABILITIES, ("cat", "dog"))
    found = headlines(labels, PROBABILITIES)
    assert found == {name: usual[name] for name in found}
    assert list(found) == ["images", "accuracy", "balanced_accuracy", "macro_f1", "log_loss"]


def test_images_of_a_class_that_no_model_knows_are_mistakes() -> None:
    known = headlines(np.array([0, 1, 0]), PROBABILITIES[:3])
    found = headlines(np.array([0, 1, 0, 2, 3]), PROBABILITIES)
    assert found["accuracy"] == pytest.approx(3 / 5)
    assert found["balanced_accuracy"] == pytest.approx(2 / 4)
    assert found["log_loss"] == known["log_loss"]
    assert "log_loss" not in headlines(np.array([2, 2, 2, 2, 2]), PROBABILITIES)


def test_no_image_has_no_score() -> None:
    assert headlines(np.array([], np.int64), np.empty((0, 2))) == {"images": 0}


def test_the_labels_are_those_of_the_source() -> None:
    def row(number: int, label: str, split: str = "test", **more: str) -> ManifestRow:
        return ManifestRow(f"{number}.jpg", f"{number:064x}", label, split, "", 8, 8, **more)

    manifest = Manifest(
        [
            row(0, "cat"),
            row(1, "cat", correction="relabel", given_label="dog"),
            row(2, "dog", correction="relabel"),  # no class folder holds it
            row(3, "dog", "dropped"),
            row(4, "dog", "train"),
            row(5, "dog", correction="relabel", given_label="wolf"),
        ]
    )
    images = np.array([0, 1, 2, 5, 3])
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.1, 0.9], [0.3, 0.7], [0.6, 0.4]])
    found = uncorrected_scores(Predictions(images, probabilities), manifest)
    assert found["images"] == 4
    assert found["accuracy"] == 2 / 4
