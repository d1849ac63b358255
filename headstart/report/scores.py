"""The heads as the page shows them: scores, curves, confusions, predictions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from headstart.common.vocabulary import SPLITS
from headstart.report.content import (
    Chart,
    HeadPart,
    Line,
    ScoreGap,
    ShownPrediction,
    ShownScore,
)
from headstart.report.picking import Album
from headstart.report.results import HeadResults, called
from headstart.scoring.metrics import WITHOUT_IMAGES, confusion_matrix
from headstart.scoring.predictions import Predictions

MOST_CLASSES = 5
"""Classes whose probability is shown for one image."""

# Settings that are tried over decades; others are counted.
_ON_A_LOG_SCALE = ("c", "l2")
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
    shown: tuple[ShownPrediction, ...] = ()
    if head.predictions is not None and len(head.predictions.image):
        truth = labels[head.predictions.image]
        counts = confusion_matrix(truth, called(head.predictions), n_classes)
        confusion = tuple(
            (int(true), int(guess), int(counts[true, guess])) for true, guess in np.argwhere(counts)
        )
        shown = _predictions(head.predictions, labels, album)
    return HeadPart(
        name=head.name,
        kind=str(head.card.get("kind", "")),
        settings=dict(head.card.get("setting", {})),
        scores={
            split: _scores(content)
            for split, content in (*head.scores.items(), *_uncorrected(head))
            if content.get("images") != 0
        },
        charts=(
            *_history_charts(head.history),
            *_path_charts(head.path, head.card),
            *_learning_charts(head.learning),
            *_test_charts(head.test_curves),
        ),
        confusion=confusion,
        predictions=shown,
    )


def _uncorrected(head: HeadResults) -> list[tuple[str, dict[str, Any]]]:
    """Return the scores on the test images as the source labels them, where those are others."""
    test = head.scores.get("test", {})
    content = test.get("uncorrected", {})
    others = {name for name, value in content.items() if value != test.get(name)}
    return [("uncorrected", content)] if others else []


def _scores(content: dict[str, Any]) -> dict[str, ShownScore]:
    intervals = content.get("intervals", {})
    found = {}
    for name, value in content.items():
        if isinstance(value, float | int) and not isinstance(value, bool):
            low, high = intervals.get(name, (None, None))
            found[name] = ShownScore(value=float(value), low=low, high=high)
    return found


def score_gaps(heads: Sequence[HeadResults]) -> tuple[ScoreGap, ...]:
    """Tell what the heads' scores say nothing about, split by split."""
    gaps = []
    for split in SPLITS[1:]:
        blocks = [head.scores[split] for head in heads if split in head.scores]
        lacking = dict.fromkeys(name for block in blocks for name in block.get(WITHOUT_IMAGES, ()))
        if lacking:
            none = any(block.get("images") == 0 for block in blocks)
            gaps.append(ScoreGap(split=split, classes=() if none else tuple(lacking)))
    return tuple(gaps)


def _predictions(
    predictions: Predictions, labels: npt.NDArray[np.int64], album: Album
) -> tuple[ShownPrediction, ...]:
    shown = []
    for image, probabilities in zip(predictions.image, predictions.probabilities, strict=True):
        number = album.number(image)
        if number is None:
            continue
        classes = [int(index) for index in np.argsort(-probabilities, kind="stable")[:MOST_CLASSES]]
        if labels[image] not in classes:
            classes.append(int(labels[image]))
        shown.append(
            ShownPrediction(
                picture=number,
                classes=tuple(classes),
                probabilities=tuple(round(float(probabilities[index]), 4) for index in classes),
            )
        )
    return tuple(shown)


def _history_charts(history: list[dict[str, float]]) -> list[Chart]:
    charts = []
    for quantity in ("loss", "accuracy"):
        lines = [
            _line(split, history, "epoch", f"{split}_{quantity}")
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
    # One that params.yaml gives leaves a single point, which draws as an empty chart.
    if len(path) < 2:
        return []
    setting = next(iter(path[0]))
    return [
        Chart(
            title=f"path_{score}",
            x_title=setting,
            y_title=score,
            lines=(_line("validation", path, setting, score),),
            x_log=setting in _ON_A_LOG_SCALE,
            mark=card.get("setting", {}).get(setting),
        )
        for score in ("accuracy", "log_loss")
        if score in path[0]
    ]


def _learning_charts(learning: list[dict[str, float]]) -> list[Chart]:
    """Draw the validation accuracy over the number of training images."""
    if not learning:
        return []
    line = _line("validation", learning, "images_per_class", "accuracy")
    chart = Chart(
        title="learning", x_title="images_per_class", y_title="accuracy", lines=(line,), x_log=True
    )
    return [chart]


def _line(name: str, points: list[dict[str, float]], x: str, y: str) -> Line:
    return Line(
        name=name,
        x=tuple(point[x] for point in points),
        y=tuple(round(point[y], 6) for point in points),
    )


def _test_charts(curves: dict[str, list[dict[str, float]]]) -> list[Chart]:
    """Draw each curve of the test images, named by its first two columns."""
    charts = []
    for title, points in curves.items():
        if points:
            x, y = list(points[0])[:2]
            line = _line("test", points, x, y)
            charts.append(
                Chart(title=title, x_title=x, y_title=y, lines=(line,), diagonal=title in _DIAGONAL)
            )
    return charts
