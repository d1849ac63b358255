"""The heads as the page shows them: scores, curves, confusions, predictions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from headstart.common.vocabulary import SPLITS
from headstart.heads.finetuned_card import NAME as FINETUNED
from headstart.report.content import (
    Chart,
    Fact,
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
_OF_CLASSES = ("roc", "precision_recall")


def head_part(
    head: HeadResults,
    labels: npt.NDArray[np.int64],
    class_names: tuple[str, ...],
    album: Album,
    n_validation: int,
) -> HeadPart:
    """Bring one head's results into the form of the page.

    Args:
        head: Its results.
        labels: (n_images,) class indices of the whole manifest.
        class_names: By class index.
        album: The images that have a picture.
        n_validation: How many validation images have features.
    """
    confusion = None
    shown: tuple[ShownPrediction, ...] = ()
    if head.predictions is not None and len(head.predictions.image):
        truth = labels[head.predictions.image]
        counts = confusion_matrix(truth, called(head.predictions), len(class_names))
        confusion = tuple(
            (int(true), int(guess), int(counts[true, guess])) for true, guess in np.argwhere(counts)
        )
        shown = _predictions(head.predictions, labels, album)
    validation = head.scores.get("validation", {})
    return HeadPart(
        name=head.name,
        kind=str(head.card.get("kind", "")),
        settings=_settings(head),
        scores={
            split: _scores(content)
            for split, content in (*head.scores.items(), *_uncorrected(head))
            if content.get("images") != 0
        },
        charts=(
            *_history_charts(head.history, validation),
            *_path_charts(head.path, head.card, validation),
            *_learning_charts(head.learning, n_validation),
            *_test_charts(head.test_curves, class_names),
        ),
        confusion=confusion,
        predictions=shown,
    )


def _settings(head: HeadResults) -> dict[str, Any]:
    settings = dict(head.card.get("setting", {}))
    if head.name != FINETUNED:
        return settings
    # Of its epochs the best one is kept, which is none where the start was better than all.
    best, ran = settings["epochs"], len(head.history)
    return {"best epoch": f"{best} of {ran}"} if best else {"weights": "of its start"}


def _basis(validation: dict[str, Any]) -> Fact | None:
    """Tell which images a validation score is of."""
    if not validation.get("images"):
        return None
    counted = {"n": validation["images"]}
    if "folds" in validation:
        return Fact(text="basis.folds", values=counted | {"folds": validation["folds"]})
    return Fact(text="basis.validation", values=counted)


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


def _history_charts(history: list[dict[str, float]], validation: dict[str, Any]) -> list[Chart]:
    charts = []
    names = {"train": "train", "validation": "folds" if "folds" in validation else "validation"}
    for quantity in ("loss", "accuracy"):
        lines = [
            _line(names[split], history, "epoch", f"{split}_{quantity}")
            for split in ("train", "validation")
            if history and f"{split}_{quantity}" in history[0]
        ]
        if lines:
            charts.append(
                Chart(
                    title=quantity,
                    x_title="epoch",
                    y_title=quantity,
                    lines=tuple(lines),
                    basis=_basis(validation),
                )
            )
    return charts


def _path_charts(
    path: list[dict[str, float]], card: dict[str, Any], validation: dict[str, Any]
) -> list[Chart]:
    """Draw the validation scores along the settings, named by the first column."""
    # One that params.yaml gives leaves a single point, which draws as an empty chart.
    if len(path) < 2:
        return []
    setting = next(iter(path[0]))
    return [
        Chart(
            title=f"path_{score}{'_folds' if 'folds' in validation else ''}",
            x_title=setting,
            y_title=score,
            lines=(_line("validation", path, setting, score),),
            x_log=setting in _ON_A_LOG_SCALE,
            mark=card.get("setting", {}).get(setting),
            basis=_basis(validation),
        )
        for score in ("accuracy", "log_loss")
        if score in path[0]
    ]


def _learning_charts(learning: list[dict[str, float]], n_validation: int) -> list[Chart]:
    """Draw the validation accuracy over the number of training images.

    Whatever chose the head's setting, these fits are scored on the validation images.
    """
    if not learning:
        return []
    line = _line("validation", learning, "images_per_class", "accuracy")
    chart = Chart(
        title="learning",
        x_title="images_per_class",
        y_title="accuracy",
        lines=(line,),
        x_log=True,
        basis=_basis({"images": n_validation}),
    )
    return [chart]


def _line(name: str, points: list[dict[str, float]], x: str, y: str) -> Line:
    counts = tuple(int(point["images"]) for point in points if "images" in point)
    return Line(
        name=name,
        x=tuple(point[x] for point in points),
        y=tuple(round(point[y], 6) for point in points),
        counts=counts or None,
    )


def _test_charts(
    curves: dict[str, list[dict[str, float]]], class_names: tuple[str, ...]
) -> list[Chart]:
    """Draw each curve of the test images, named by its first two columns."""
    charts = []
    if len(class_names) == 2:
        basis = Fact(text="basis.two", values={"other": class_names[0], "name": class_names[1]})
    else:
        basis = Fact(text="basis.mean", values={"n": len(class_names)})
    for title, points in curves.items():
        if points:
            x, y = list(points[0])[:2]
            line = _line("test", points, x, y)
            charts.append(
                Chart(
                    title=title,
                    x_title=x,
                    y_title=y,
                    lines=(line,),
                    diagonal=title in _DIAGONAL,
                    basis=basis if title in _OF_CLASSES else None,
                )
            )
    return charts
