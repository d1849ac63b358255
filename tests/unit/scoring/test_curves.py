"""The tables that `dvc plots` draws."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML
from sklearn.metrics import average_precision_score, confusion_matrix, roc_auc_score

from headstart.scoring.curves import (
    mean_curves,
    write_fit_plots,
    write_joint_curves,
    write_test_plots,
)
from headstart.scoring.predictions import Predictions

ROOT = Path(__file__).parents[3]


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _case(n_classes: int, n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.arange(n) % n_classes
    logits = rng.standard_normal((n, n_classes))
    logits[np.arange(n), labels] += 1
    return labels, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def test_confusion_counts_and_shares(tmp_path: Path) -> None:
    labels, probabilities = _case(3)
    names = ("개", "cat", "dog")
    one = Predictions(np.arange(300), probabilities)
    write_test_plots(tmp_path, labels, {"gap": one, "knn": one}, names, "gap")
    rows = _read(tmp_path / "confusion.csv")
    assert {row["head"] for row in rows} == {"gap"}
    expected = confusion_matrix(labels, probabilities.argmax(axis=1))
    counts = {(row["actual"], row["predicted"]): int(row["images"]) for row in rows}
    assert len(counts) == 9
    for (actual, predicted), count in counts.items():
        assert count == expected[names.index(actual), names.index(predicted)]
    for name in names:
        shares = [float(row["share"]) for row in rows if row["actual"] == name]
        assert sum(shares) == pytest.approx(1)


def test_of_many_classes_only_the_cells_with_images_are_written(tmp_path: Path) -> None:
    labels = np.arange(60)
    probabilities = np.full((60, 60), 0.001) + np.eye(60)
    names = tuple(f"{index:02}" for index in range(60))
    write_test_plots(tmp_path, labels, {"a": Predictions(np.arange(60), probabilities)}, names, "a")
    assert len(_read(tmp_path / "confusion.csv")) == 60


@pytest.mark.parametrize("n_classes", [2, 4])
def test_curves_enclose_the_areas_that_are_scored(n_classes: int) -> None:
    labels, probabilities = _case(n_classes)
    rates, precisions = mean_curves(labels, probabilities)
    grid = np.linspace(0, 1, len(rates))
    scored = probabilities[:, 1] if n_classes == 2 else probabilities
    one_hot = labels if n_classes == 2 else np.eye(n_classes)[labels]
    area = roc_auc_score(labels, scored, multi_class="ovr")
    assert np.trapezoid(rates, grid) == pytest.approx(area, abs=0.005)
    average = average_precision_score(one_hot, scored, average="macro")
    assert precisions.mean() == pytest.approx(average, abs=0.01)
    assert (np.diff(rates) >= 0).all()


def test_a_curve_that_the_data_cannot_define_is_left_out(tmp_path: Path) -> None:
    predictions = {"a": Predictions(np.arange(4), np.full((4, 2), 0.5))}
    write_test_plots(tmp_path, np.zeros(4, int), predictions, ("x", "y"), "gap")
    assert _read(tmp_path / "roc.csv") == []
    assert _read(tmp_path / "precision_recall.csv") == []


def test_reliability_counts_every_image_once(tmp_path: Path) -> None:
    labels, probabilities = _case(3)
    predictions = {"gap": Predictions(np.arange(300), probabilities)}
    write_test_plots(tmp_path, labels, predictions, ("a", "b", "c"), "gap")
    rows = _read(tmp_path / "reliability.csv")
    assert sum(int(row["images"]) for row in rows) == 300
    right = sum(float(row["accuracy"]) * int(row["images"]) for row in rows)
    assert right == pytest.approx((probabilities.argmax(axis=1) == labels).sum())


def test_a_fit_is_drawn_by_epoch_or_by_setting_and_all_fits_together(tmp_path: Path) -> None:
    history = [{"epoch": 1, "train_loss": 0.5, "train_accuracy": 0.7,
                "validation_loss": 0.6, "validation_accuracy": 0.65}]  # fmt: skip
    blind = [{"epoch": 1, "train_loss": 0.4, "train_accuracy": 0.8}]
    path = [{"l2": 0.1, "accuracy": 0.5, "log_loss": 0.9}]
    learning = [{"images_per_class": 2, "accuracy": 0.4, "log_loss": 1.5}]
    write_fit_plots(tmp_path / "dense", [], history)
    write_fit_plots(tmp_path / "blind", [], blind)
    write_fit_plots(tmp_path / "ridge", path, [], learning)
    assert _read(tmp_path / "ridge" / "path.csv") == [
        {"l2": "0.1", "accuracy": "0.5", "log_loss": "0.9"}
    ]
    fits = {name: tmp_path / name for name in ("dense", "blind", "ridge", "without")}
    write_joint_curves(tmp_path / "all", fits)
    assert [tuple(row.values()) for row in _read(tmp_path / "all" / "epochs.csv")] == [
        ("dense", "1", "train", "0.5", "0.7"),
        ("dense", "1", "validation", "0.6", "0.65"),
        ("blind", "1", "train", "0.4", "0.8"),
    ]
    assert [tuple(row.values()) for row in _read(tmp_path / "all" / "path.csv")] == [
        ("ridge", "l2", "0.1", "0.5", "0.9")
    ]
    assert [tuple(row.values()) for row in _read(tmp_path / "all" / "learning_curve.csv")] == [
        ("ridge", "2", "0.4", "1.5")
    ]


def test_declared_plots_have_titles_axes_and_columns_that_exist(tmp_path: Path) -> None:
    labels, probabilities = _case(3)
    root = tmp_path / "plots"
    predictions = {"gap": Predictions(np.arange(300), probabilities)}
    write_test_plots(root / "test", labels, predictions, ("a", "b", "c"), "gap")
    write_joint_curves(root / "curves", {})
    declared = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["plots"]
    drawn = [next(iter(plot.items())) for plot in declared if isinstance(plot, dict)]
    assert len(drawn) >= 8
    for name, plot in drawn:
        assert {"title", "x_label", "y_label"} <= set(plot), name
        sources = plot["y"] if isinstance(plot["y"], dict) else {name: plot["y"]}
        for source, column in sources.items():
            with (tmp_path / source).open() as file:
                header = next(csv.reader(file))
            assert {plot["x"], column} <= set(header), name
        template = (ROOT / ".dvc" / "plots" / plot["template"]).with_suffix(".json")
        content = template.read_text()
        assert json.loads(content)["$schema"].endswith("/vega-lite/v5.json")
        for anchor in ("DATA", "TITLE", "X", "Y", "X_LABEL", "Y_LABEL"):
            assert f"<DVC_METRIC_{anchor}>" in content, (name, anchor)
