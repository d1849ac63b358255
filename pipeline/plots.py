"""The tables behind the plots that dvc.yaml declares: CSV files, one row per point."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.manifest import Manifest, write_table
from pipeline.metrics import Ranking, reliability
from pipeline.predictions import Predictions

_MAX_POINTS = 1000


def write_fit_plots(
    folder: Path, curve: list[dict[str, float]], history: list[dict[str, float]]
) -> None:
    """Write how a fit went: history.csv by epoch, or path.csv by setting.

    Args:
        folder: Made when missing.
        curve: One entry per setting tried.
        history: One entry per epoch, if it was trained in epochs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if history:
        _write(folder / "history.csv", history)
    elif curve:
        _write(folder / "path.csv", curve)


def _write(path: Path, points: Sequence[dict[str, Any]]) -> None:
    columns = list(points[0])
    write_table(path, columns, [[point[name] for name in columns] for point in points])


def write_test_plots(
    folder: Path,
    manifest: Manifest,
    labels: npt.NDArray[np.int64],
    predictions: Mapping[str, Predictions],
    class_names: tuple[str, ...],
) -> None:
    """Write what each head said of the test images, one CSV per head in a folder per plot.

    `predictions` and `confusion` hold a row per image; `roc` and `precision_recall` a row per
    threshold, of two classes for the second one, of more for all decisions pooled
    (micro-averaged one-vs-rest); `reliability` a row per bin of confidence.

    Args:
        folder: Made when missing.
        manifest: Where the images lie.
        labels: (n_samples,) true classes.
        predictions: Of the same test images, by head.
        class_names: By class index.
    """
    names = np.array(class_names)
    for head, one in predictions.items():
        called = one.probabilities.argmax(axis=1)
        table = zip(
            [manifest.rows[image].path for image in one.image],
            names[labels],
            names[called],
            one.probabilities.max(axis=1),
            strict=True,
        )
        columns = ("path", "actual", "predicted", "confidence")
        write_table(folder / "predictions" / f"{head}.csv", columns, table)
        # Of one file DVC draws one plot; this is the same matrix in counts.
        write_table(
            folder / "confusion" / f"{head}.csv",
            ("actual", "predicted"),
            zip(names[labels], names[called], strict=True),
        )
        ranking = _pooled(labels, one.probabilities)
        _write_curve(
            folder / "roc" / f"{head}.csv",
            ("false_positive_rate", "true_positive_rate"),
            ranking.roc,
        )
        _write_curve(
            folder / "precision_recall" / f"{head}.csv",
            ("recall", "precision"),
            ranking.precision_recall,
        )
        bins = reliability(labels, one.probabilities)
        write_table(
            folder / "reliability" / f"{head}.csv",
            ("confidence", "accuracy", "images"),
            zip(bins.confidence, bins.accuracy, bins.count, strict=True),
        )


def _pooled(labels: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float64]) -> Ranking:
    n_classes = probabilities.shape[1]
    if n_classes == 2:
        return Ranking.of(labels == 1, probabilities[:, 1])
    return Ranking.of((labels[:, None] == np.arange(n_classes)).ravel(), probabilities.ravel())


def _write_curve(
    path: Path,
    columns: tuple[str, str],
    curve: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]],
) -> None:
    # No screen shows more points, and a test set may hold a million thresholds.
    kept = np.unique(np.linspace(0, len(curve[0]) - 1, _MAX_POINTS).astype(np.int64))
    write_table(path, columns, zip(curve[0][kept], curve[1][kept], strict=True))
