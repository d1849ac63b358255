"""The tables that `dvc plots` draws."""

import csv

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve, roc_auc_score

from pipeline.manifest import Manifest, ManifestRow
from pipeline.plots import write_fit_plots, write_test_plots
from pipeline.predictions import Predictions


def _read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("n_classes", [2, 3])
def test_test_plots_hold_the_curves_of_the_probabilities(tmp_path, n_classes):
    rng = np.random.default_rng(0)
    names = ("개", "cat", "dog")[:n_classes]
    labels = np.arange(60) % n_classes
    noise = rng.dirichlet(np.ones(n_classes), 60)
    probabilities = 0.5 * noise + 0.5 * np.eye(n_classes)[rng.permutation(labels)]
    rows = [
        ManifestRow(f"{index:02}.png", f"{index:064}", names[label], "test", "", 8, 8)
        for index, label in enumerate(labels)
    ]
    predictions = {"gap": Predictions(np.arange(60), probabilities)}
    write_test_plots(tmp_path, Manifest(rows), labels, predictions, names)

    said = _read(tmp_path / "predictions" / "gap.csv")
    assert [row["actual"] for row in said] == [names[label] for label in labels]
    assert [row["predicted"] for row in said] == [names[c] for c in probabilities.argmax(axis=1)]

    positive = labels == 1 if n_classes == 2 else np.eye(n_classes)[labels].ravel() == 1
    scores = probabilities[:, 1] if n_classes == 2 else probabilities.ravel()
    roc = _read(tmp_path / "roc" / "gap.csv")
    area = np.trapezoid(
        [float(row["true_positive_rate"]) for row in roc],
        [float(row["false_positive_rate"]) for row in roc],
    )
    assert area == pytest.approx(roc_auc_score(positive, scores))

    precision, recall, _ = precision_recall_curve(positive, scores)
    own = _read(tmp_path / "precision_recall" / "gap.csv")
    expected = {(round(r, 9), round(p, 9)) for r, p in zip(recall, precision, strict=True)}
    assert {
        (round(float(r["recall"]), 9), round(float(r["precision"]), 9)) for r in own
    } <= expected

    bins = _read(tmp_path / "reliability" / "gap.csv")
    assert sum(int(row["images"]) for row in bins) == 60


def test_a_fit_is_drawn_by_epoch_or_by_setting(tmp_path):
    write_fit_plots(tmp_path / "dense", [], [{"epoch": 1.0, "train_loss": 0.5}])
    write_fit_plots(tmp_path / "ridge", [{"l2": 0.1, "accuracy": 0.5}], [])
    assert _read(tmp_path / "dense" / "history.csv") == [{"epoch": "1.0", "train_loss": "0.5"}]
    assert _read(tmp_path / "ridge" / "path.csv") == [{"l2": "0.1", "accuracy": "0.5"}]
