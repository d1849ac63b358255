"""The heads as the page shows them: scores, curves, confusions, predictions."""

from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.metrics import confusion_matrix
from pipeline.predictions import Predictions
from pipeline.reporting.content import Chart, HeadPart, Line, Prediction, Score
from pipeline.reporting.picking import Album
from pipeline.reporting.results import HeadResults, called

MOST_CLASSES = 5
"""Classes whose probability is told of one image."""

# Settings that are tried over decades; others are counted.
_ON_A_LOG_SCALE = ("c", "l2")
_MAX_POINTS = 200
_DIAGONAL = ("reliability", "roc")


def head_part(
    head: HeadResults, labels: npt.NDArray[np.int64], n_classes: int, album: Album
) -> HeadPart:
    """Bring one head's results into the form of the page.

    Args:
        head: Its results.
        labels: (n_images,) class indices of the whole manifest.
        n_classes: Number of classes.
        album: The images that have a picture.
    """
    confusion = None
    told: tuple[Prediction, ...] = ()
    if head.predictions is not None and len(head.predictions.image):
        truth = labels[head.predictions.image]
        counts = confusion_matrix(truth, called(head.predictions), n_classes)
        confusion = tuple(
            (int(true), int(guess), int(counts[true, guess])) for true, guess in np.argwhere(counts)
        )
        told = _predictions(head.predictions, labels, album)
    return HeadPart(
        name=head.name,
        kind=str(head.card.get("kind", "")),
        settings=dict(head.card.get("setting", {})),
        scores={split: _scores(content) for split, content in head.scores.items()},
        charts=(
            *_history_charts(head.history),
            *_path_charts(head.path, head.card),
            *_test_charts(head.test_curves),
        ),
        confusion=confusion,
        predictions=told,
    )


def _scores(content: dict[str, Any]) -> dict[str, Score]:
    intervals = content.get("intervals", {})
    found = {}
    for name, value in content.items():
        if isinstance(value, float | int) and not isinstance(value, bool):
            low, high = intervals.get(name, (None, None))
            found[name] = Score(value=float(value), low=low, high=high)
    return found


def _predictions(
    predictions: Predictions, labels: npt.NDArray[np.int64], album: Album
) -> tuple[Prediction, ...]:
    told = []
    for image, probabilities in zip(predictions.image, predictions.probabilities, strict=True):
        number = album.number(image)
        if number is None:
            continue
        classes = [int(index) for index in np.argsort(-probabilities, kind="stable")[:MOST_CLASSES]]
        if labels[image] not in classes:
            classes.append(int(labels[image]))
        told.append(
            Prediction(
                picture=number,
                classes=tuple(classes),
                probabilities=tuple(round(float(probabilities[index]), 4) for index in classes),
            )
        )
    return tuple(told)


def _history_charts(history: list[dict[str, float]]) -> list[Chart]:
    charts = []
    for quantity in ("loss", "accuracy"):
        lines = [
            Line(
                name=split,
                x=tuple(entry["epoch"] for entry in history),
                y=tuple(entry[f"{split}_{quantity}"] for entry in history),
            )
            for split in ("train", "validation")
            if history and f"{split}_{quantity}" in history[0]
        ]
        if lines:
            charts.append(
                Chart(title=quantity, x_title="epoch", y_title=quantity, lines=tuple(lines))
            )
    return charts


def _path_charts(path: list[dict[str, float]], card: dict[str, Any]) -> list[Chart]:
    """Draw the validation scores along the settings, named by the first column."""
    if not path:
        return []
    setting = next(iter(path[0]))
    return [
        Chart(
            title=f"path_{score}",
            x_title=setting,
            y_title=score,
            lines=(
                Line(
                    name="validation",
                    x=tuple(entry[setting] for entry in path),
                    y=tuple(entry[score] for entry in path),
                ),
            ),
            x_log=setting in _ON_A_LOG_SCALE,
            mark=card.get("setting", {}).get(setting),
        )
        for score in ("accuracy", "log_loss")
        if score in path[0]
    ]


def _test_charts(curves: dict[str, list[dict[str, float]]]) -> list[Chart]:
    """Draw each curve of the test images, named by its first two columns."""
    charts = []
    for title, points in curves.items():
        if not points:
            continue
        # More points than a screen shows would only make the page larger.
        kept = np.unique(np.linspace(0, len(points) - 1, _MAX_POINTS).astype(int))
        x_title, y_title = list(points[0])[:2]
        charts.append(
            Chart(
                title=title,
                x_title=x_title,
                y_title=y_title,
                lines=(
                    Line(
                        name="test",
                        x=tuple(round(points[index][x_title], 4) for index in kept),
                        y=tuple(round(points[index][y_title], 4) for index in kept),
                    ),
                ),
                diagonal=title in _DIAGONAL,
            )
        )
    return charts
