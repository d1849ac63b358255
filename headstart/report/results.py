"""Reading what the pipeline left: tables, scores, curves, predictions."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from headstart.common.errors import InputError
from headstart.dataset.manifest import Manifest, read_manifest
from headstart.features.file import FeatureFile
from headstart.finetuning.card import NAME as FINETUNED
from headstart.heads.base import CARD_FILE
from headstart.scoring.predictions import Predictions

TEST_CURVES = ("reliability", "roc", "precision_recall")
_METRICS_OF = {FINETUNED: "finetune"}
_REMEDY = "run `dvc repro` to write it again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where the pipeline leaves what the page shows; all but the manifest may be missing.

    Attributes:
        comparison: Written by `headstart compare`, which is no stage; None leaves it out.
    """

    manifest: Path = Path("data/manifest.csv")
    quarantine: Path = Path("data/quarantine.csv")
    leaks: Path = Path("data/leaks.csv")
    feature_leaks: Path = Path("data/feature_leaks.csv")
    features: Path = Path("features/bottleneck.h5")
    models: Path = Path("models")
    metrics: Path = Path("metrics")
    curves: Path = Path("plots/train")
    test_curves: Path = Path("plots/test")
    predictions: Path = Path("predictions")
    comparison: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadResults:
    """What is left of one head.

    Attributes:
        name: As in params.yaml.
        card: models/<head>/head.json.
        scores: By split, then by metric, intervals among the test's.
        history: One entry per epoch.
        path: One entry per setting tried.
        learning: One entry per number of training images.
        test_curves: Points by curve: "roc", "precision_recall", "reliability".
        predictions: Of the test images; None when it was not evaluated.
    """

    name: str
    card: dict[str, Any]
    scores: dict[str, dict[str, Any]]
    history: list[dict[str, float]]
    path: list[dict[str, float]]
    learning: list[dict[str, float]]
    test_curves: dict[str, list[dict[str, float]]]
    predictions: Predictions | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """What is left of the whole pipeline.

    Attributes:
        manifest: The images.
        features: None before the stage extract.
        quarantine: (path, reason) of unreadable files.
        leaks: Rows of the leak audit by column; None without an audit.
        data: metrics/data.json.
        extract: metrics/extract.json.
        test: metrics/test.json.
        comparison: What `headstart compare` wrote; empty without it.
        heads: Those that were trained, in the order of params.yaml.
    """

    manifest: Manifest
    features: FeatureFile | None
    quarantine: list[dict[str, str]]
    leaks: list[dict[str, str]] | None
    data: dict[str, Any]
    extract: dict[str, Any]
    test: dict[str, Any]
    comparison: dict[str, Any]
    heads: tuple[HeadResults, ...] = field(default=())

    @property
    def selected(self) -> str | None:
        """Name of the head that validation chose."""
        name = self.test.get("selected", {}).get("head")
        return name if any(head.name == name for head in self.heads) else None


def read_results(places: Places, heads: Sequence[str]) -> Results:
    """Read all there is.

    Args:
        places: Where it lies.
        heads: Names of the heads, in order; those without a folder are left out.

    Raises:
        InputError: there is no manifest, a file cannot be read, or the features or predictions
            are of other images than the manifest's.
    """
    manifest = read_manifest(places.manifest)
    features = FeatureFile.open(places.features) if places.features.is_file() else None
    if features is not None:
        _check_same_images(features, manifest, places)
    test = _json(places.metrics / "test.json")
    found = [name for name in heads if (places.models / name / CARD_FILE).is_file()]
    audits = [path for path in (places.leaks, places.feature_leaks) if path.is_file()]
    return Results(
        manifest=manifest,
        features=features,
        quarantine=_table(places.quarantine),
        leaks=[row for path in audits for row in _table(path)] if audits else None,
        data=_json(places.metrics / "data.json"),
        extract=_json(places.metrics / "extract.json"),
        test=test,
        comparison={} if places.comparison is None else _json(places.comparison),
        heads=tuple(_read_head(places, name, test, manifest) for name in found),
    )


def _read_head(places: Places, name: str, test: dict[str, Any], manifest: Manifest) -> HeadResults:
    own = _json(places.metrics / f"{_METRICS_OF.get(name, name)}.json")
    scores: dict[str, dict[str, Any]] = {
        split: own[split] for split in ("train", "validation") if split in own
    }
    if name in test:
        scores["test"] = test[name]
    path = places.predictions / f"{name}.h5"
    predictions = Predictions.read(path) if path.is_file() else None
    if predictions is not None:
        _check_predictions(path, predictions, manifest)
    return HeadResults(
        name=name,
        card=_json(places.models / name / CARD_FILE),
        scores=scores,
        history=_numbers(places.curves / name / "history.csv"),
        path=_numbers(places.curves / name / "path.csv"),
        learning=_numbers(places.curves / name / "learning_curve.csv"),
        test_curves={
            curve: _numbers(places.test_curves / f"{curve}.csv", name) for curve in TEST_CURVES
        },
        predictions=predictions,
    )


def _check_same_images(features: FeatureFile, manifest: Manifest, places: Places) -> None:
    rows = features.rows()
    image = features.image[rows]
    own = np.array([row.sha256 for row in manifest])
    # Fewer images than the manifest's have features when extract.share is below 1.
    if (
        features.header.class_names != manifest.class_names
        or image.max() >= len(manifest)
        or not np.array_equal(features.sha256[rows], own[image])
    ):
        raise InputError(
            f"{features.path}: not the features of the images in {places.manifest}: "
            f"run `dvc repro` to bring both up to date"
        )


def _check_predictions(path: Path, predictions: Predictions, manifest: Manifest) -> None:
    image, shape = predictions.image, predictions.probabilities.shape
    if (
        shape != (len(image), len(manifest.class_names))
        or image.min(initial=0) < 0
        or image.max(initial=0) >= len(manifest)
        or any(manifest.rows[one].split != "test" for one in image)
    ):
        raise InputError(
            f"{path}: expected probabilities of {len(manifest.class_names)} classes for test "
            f"images of the manifest, received {shape} for others: {_REMEDY}"
        )


def _json(path: Path) -> dict[str, Any]:
    """Read a JSON object; empty when the file is missing."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error}): {_REMEDY}") from None
    return dict(content)


def _table(path: Path) -> list[dict[str, str]]:
    """Read a CSV file with a header line; empty when the file is missing."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _numbers(path: Path, head: str | None = None) -> list[dict[str, float]]:
    """Read a table of numbers; of one that holds all heads, the lines of `head`."""
    rows = _table(path)
    if head is not None:
        rows = [row for row in rows if row.pop("head", None) == head]
    try:
        return [{name: float(text) for name, text in row.items()} for row in rows]
    except (TypeError, ValueError):
        raise InputError(f"{path}: expected numbers only: {_REMEDY}") from None


def called(predictions: Predictions) -> npt.NDArray[np.int64]:
    """Return the likeliest class of each image, (n_samples,)."""
    return np.asarray(predictions.probabilities.argmax(axis=1), np.int64)
