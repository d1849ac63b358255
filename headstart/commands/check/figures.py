"""Every number of metrics/test.json by name, with its 95 % interval where one can be told."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headstart.common.errors import InputError
from headstart.common.places import MANIFEST, PREDICTIONS, TEST_METRICS
from headstart.dataset.manifest import read_manifest
from headstart.heads.finetuned_card import NAME as FINETUNED
from headstart.scoring.intervals import accuracy_interval
from headstart.scoring.predictions import Predictions

Interval = tuple[float, float]

# Of which number `low` and `high` beside it are the interval.
_BETWEEN = ("difference", "covered", "cost")


@dataclass(frozen=True, slots=True)
class OfClass:
    """Of which score of a class a figure is.

    Attributes:
        predictions: What the model said of the test images.
        score: "precision", "recall" or "f1".
        name: Of the class.
        classes: All of them, in the order of the probabilities.
    """

    predictions: Path
    score: str
    name: str
    classes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Figure:
    """A number of the metrics.

    Attributes:
        value: None where the data do not define it.
        interval: Its 95 % interval, as far as the metrics hold one.
        of_class: Where it is a score of a class.
    """

    value: float | None
    interval: Interval | None = None
    of_class: OfClass | None = None


def figures(content: Mapping[str, Any]) -> dict[str, Figure]:
    """Return all numbers of the metrics by their path, and those of `selected` also without it.

    A class's score is `recall.NAME`; names of classes and values stand in a path as they are.

    Args:
        content: Of metrics/test.json.
    """
    found: dict[str, Figure] = {}
    for prefix, block in (("", content["selected"]), ("", content)):
        found |= _flat(block, prefix, content)
    return found


def _flat(block: Mapping[str, Any], prefix: str, content: Mapping[str, Any]) -> dict[str, Figure]:
    found = {}
    for key, value in block.items():
        match value:
            case bool() | str():
                continue
            case int() | float() | None:
                found[prefix + key] = Figure(value, _interval(block, key))
            case dict() if key != "intervals":
                found |= _flat(value, f"{prefix}{key}.", content)
            case list() if key == "per_class":
                model = _predictions(prefix, content)
                names = tuple(str(one["class"]) for one in value)
                found |= {
                    f"{prefix}{score}.{one['class']}": Figure(
                        number, None, OfClass(model, score, one["class"], names)
                    )
                    for one in value
                    for score, number in one.items()
                    if score != "class"
                }
    return found


def _interval(block: Mapping[str, Any], key: str) -> Interval | None:
    if key in block.get("intervals", {}):
        low, high = block["intervals"][key]
    elif key in _BETWEEN and "low" in block and "high" in block:
        low, high = block["low"], block["high"]
    elif key == "accuracy" and "interval" in block:
        low, high = block["interval"]
    else:
        return None
    return None if low is None or high is None else (low, high)


def _predictions(prefix: str, content: Mapping[str, Any]) -> Path:
    """Return where the predictions of the model lie whose scores have this prefix."""
    place = prefix.removesuffix(".")
    if place in ("", "selected"):
        head = content["selected"]["head"]
        place = FINETUNED if head == FINETUNED else f"heads.{head}"
    return PREDICTIONS / f"{place.replace('.', '/')}.h5"


def interval_of(figure: Figure) -> Interval | None:
    """Return the 95 % interval of a figure, computed now for precision and recall of a class.

    Raises:
        InputError: the predictions or the manifest are of another run than the metrics.
    """
    wanted = figure.of_class
    if wanted is None or wanted.score not in ("precision", "recall") or figure.value is None:
        return figure.interval
    manifest, said = read_manifest(MANIFEST), Predictions.read(wanted.predictions, "evaluate")
    fits = bool(said.image.max(initial=-1) < len(manifest))
    if fits:
        image = np.array([i for i in said.image if manifest.rows[i].split == "test"], np.int64)
        of = np.array([manifest.rows[i].label == wanted.name for i in image], bool)
        called = said.of(image).argmax(axis=1) == wanted.classes.index(wanted.name)
        counted = of if wanted.score == "recall" else called
        right = (of & called)[counted].astype(np.float64)
        if not len(right):
            return None
        fits = abs(right.mean() - figure.value) < 1e-9
    if not fits:
        raise InputError(
            f"{wanted.predictions}: expected what the model of {TEST_METRICS} said of the images "
            f"in {MANIFEST}, received other predictions: run `dvc repro` to write all of them anew"
        )
    low, high = accuracy_interval(right, manifest.groups[image[counted]])
    return low, high
