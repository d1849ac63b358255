"""The tables behind the plots that dvc.yaml declares: CSV files, one row per point."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.manifest import Manifest, write_table
from pipeline.predictions import Predictions


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
    """Write what each head said of each test image: predictions/<head>.csv.

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
