"""The tables behind the plots that dvc.yaml declares: CSV files, one row per point.

What belongs in one picture lies in one file, with the head as a column, so that heads can come and
go in params.yaml without dvc.yaml naming them.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from headstart.common.files import write_table
from headstart.common.system_errors import writing
from headstart.scoring.metrics import (
    Floats,
    Labels,
    Ranking,
    by_class,
    confusion_matrix,
    reliability,
)
from headstart.scoring.predictions import Predictions

HISTORY, PATH, LEARNING_CURVE = "history.csv", "path.csv", "learning_curve.csv"

FULL_MATRIX_UP_TO = 50
"""Number of classes up to which empty cells of a confusion matrix are written too."""

_GRID = np.linspace(0, 1, 201)

Points = Sequence[Mapping[str, Any]]


def write_fit_plots(folder: Path, curve: Points, history: Points, learning: Points = ()) -> None:
    """Write how a fit went: history.csv by epoch or path.csv by setting, and learning_curve.csv.

    Args:
        folder: Made when missing.
        curve: One entry per setting tried.
        history: One entry per epoch, if it was trained in epochs.
        learning: One entry per number of training images.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if history:
        _write(folder / HISTORY, history)
    elif curve:
        _write(folder / PATH, curve)
    if learning:
        _write(folder / LEARNING_CURVE, learning)


def write_joint_curves(folder: Path, fits: Mapping[str, Path]) -> None:
    """Join the heads' own curves, so that one picture holds them all.

    Writes epochs.csv (head, epoch, split, loss, accuracy), path.csv (head, setting, value,
    accuracy, log_loss) and learning_curve.csv (head, images_per_class, accuracy, log_loss); a
    header alone where no head has any.

    Args:
        folder: Made when missing.
        fits: Folder of `write_fit_plots` by head.
    """
    epochs: list[tuple[Any, ...]] = [
        (head, point["epoch"], split, point[f"{split}_loss"], point[f"{split}_accuracy"])
        for head, fit in fits.items()
        for point in _read(fit / HISTORY)
        for split in ("train", "validation")
        if f"{split}_loss" in point
    ]
    write_table(folder / "epochs.csv", ("head", "epoch", "split", "loss", "accuracy"), epochs)
    paths = []
    for head, fit in fits.items():
        for point in _read(fit / PATH):
            setting, value = next(iter(point.items()))
            # Of many images and classes only settings that may win have one.
            paths.append((head, setting, value, point["accuracy"], point.get("log_loss", "")))
    header = ("head", "setting", "value", "accuracy", "log_loss")
    write_table(folder / PATH, header, paths)
    learning = [
        (head, point["images_per_class"], point["accuracy"], point["log_loss"])
        for head, fit in fits.items()
        for point in _read(fit / LEARNING_CURVE)
    ]
    write_table(
        folder / LEARNING_CURVE, ("head", "images_per_class", "accuracy", "log_loss"), learning
    )


def write_test_plots(
    folder: Path,
    labels: Labels,
    predictions: Mapping[str, Predictions],
    class_names: tuple[str, ...],
    selected: str,
) -> None:
    """Write what the heads made of the test images.

    confusion.csv (head, actual, predicted, images, share of the actual class) of the selected head
    alone, and of all heads roc.csv (head, false_positive_rate, true_positive_rate),
    precision_recall.csv (head, recall, precision) and reliability.csv (head, confidence, accuracy,
    images); a header alone without a test image.

    Args:
        folder: Made when missing.
        labels: (n_samples,) true classes.
        predictions: Of the same test images, by head.
        class_names: By class index.
        selected: The head whose confusions are written; one of `predictions`.
    """
    cells: list[tuple[Any, ...]] = []
    roc: list[tuple[Any, ...]] = []
    precision_recall: list[tuple[Any, ...]] = []
    bins: list[tuple[Any, ...]] = []
    for head, one in predictions.items() if len(labels) else ():
        probabilities = one.probabilities
        if head == selected:
            cells += [(head, *cell) for cell in _cells(labels, probabilities, class_names)]
        curves = mean_curves(labels, probabilities)
        for table, values in zip((roc, precision_recall), curves, strict=True):
            table += [(head, x, y) for x, y in zip(_GRID.tolist(), values.tolist(), strict=False)]
        found = reliability(labels, probabilities)
        columns = (found.confidence.tolist(), found.accuracy.tolist(), found.count.tolist())
        bins += [(head, *point) for point in zip(*columns, strict=True)]
    tables: dict[str, tuple[tuple[str, ...], list[tuple[Any, ...]]]] = {
        "confusion": (("head", "actual", "predicted", "images", "share"), cells),
        "roc": (("head", "false_positive_rate", "true_positive_rate"), roc),
        "precision_recall": (("head", "recall", "precision"), precision_recall),
        "reliability": (("head", "confidence", "accuracy", "images"), bins),
    }
    for name, (header, rows) in tables.items():
        write_table(folder / f"{name}.csv", header, rows)


def mean_curves(
    labels: Labels, probabilities: Floats
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return true positive rate by false positive rate and precision by recall, on a grid.

    Of two classes the second against the first; of more the mean over the classes, each against
    the rest, that have images on both sides.

    Args:
        labels: (n_samples,).
        probabilities: (n_samples, n_classes).

    Returns:
        Two of (201,), at rates from 0 to 1; empty if no class has images on both sides.
    """
    rates, precisions = [], []
    for positive, scores in by_class(labels, probabilities):
        ranking = Ranking.of(positive, scores)
        if not ranking.has_both_sides:
            continue
        rates.append(np.interp(_GRID, *ranking.roc))
        recall, precision = ranking.precision_recall
        # The precision where a recall is first reached.
        precisions.append(precision[np.searchsorted(recall, _GRID, side="left")])
    if not rates:
        return np.empty(0), np.empty(0)
    return np.mean(rates, axis=0), np.mean(precisions, axis=0)


def _cells(
    labels: Labels, probabilities: Floats, class_names: tuple[str, ...]
) -> Iterable[tuple[str, str, int, float]]:
    counts = confusion_matrix(labels, probabilities.argmax(axis=1), len(class_names))
    support = counts.sum(axis=1)
    for actual, predicted in np.ndindex(*counts.shape):
        count = int(counts[actual, predicted])
        if count or len(class_names) <= FULL_MATRIX_UP_TO:
            share = count / int(support[actual]) if support[actual] else 0.0
            yield class_names[actual], class_names[predicted], count, share


def _write(path: Path, points: Points) -> None:
    columns = list(points[0])
    write_table(path, columns, [[point[name] for name in columns] for point in points])


def _read(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
