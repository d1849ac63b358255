"""Reading what the pipeline left: tables, scores, curves, predictions."""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from headstart.common import places
from headstart.common.errors import InputError
from headstart.common.params import PARAMS_FILE, read_params
from headstart.common.vocabulary import SPLITS
from headstart.dataset.manifest import Manifest, read_manifest
from headstart.features.file import FeatureFile
from headstart.heads import trained_heads
from headstart.heads.base import CARD_FILE, origin_of_predictions, read_card
from headstart.heads.finetuned_card import NAME as FINETUNED
from headstart.heads.finetuned_card import is_present
from headstart.report.naming import ShownPaths
from headstart.scoring.predictions import Predictions

TEST_CURVES = ("reliability", "roc", "precision_recall")
Row = dict[str, str]
_REMEDY = "run `dvc repro` to write it again"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlaces:
    """Where the pipeline leaves what the page shows; all but the manifest may be missing.

    Attributes:
        comparison: Written by `headstart compare`, which is no stage; None leaves it out.
    """

    manifest: Path = places.MANIFEST
    quarantine: Path = places.QUARANTINE
    leaks: Path = places.LEAKS
    feature_leaks: Path = places.FEATURE_LEAKS
    corrections: Path = places.CORRECTIONS
    audit: Path = places.AUDIT
    audit_neighbors: Path = places.AUDIT_NEIGHBORS
    weak_clusters: Path = places.WEAK_CLUSTERS
    features: Path = places.FEATURES
    heads: Path = places.HEADS
    finetuned: Path = places.FINETUNED
    data_metrics: Path = places.DATA_METRICS
    extract_metrics: Path = places.EXTRACT_METRICS
    heads_metrics: Path = places.HEADS_METRICS
    audit_metrics: Path = places.AUDIT_METRICS
    finetune_metrics: Path = places.FINETUNE_METRICS
    test_metrics: Path = places.TEST_METRICS
    heads_plots: Path = places.HEADS_PLOTS
    finetuned_plots: Path = places.FINETUNED_PLOTS
    test_plots: Path = places.TEST_PLOTS
    predictions: Path = places.PREDICTIONS
    params: Path = PARAMS_FILE
    comparison: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadResults:
    """What is left of one head.

    Attributes:
        name: As in params.yaml, or that of the fine-tuned model.
        folder: Where it lies.
        card: Its head.json.
        scores: By split, then by metric, intervals among the test's.
        history: One entry per epoch.
        path: One entry per setting tried.
        learning: One entry per number of training images.
        test_curves: Points by curve: "roc", "precision_recall", "reliability".
        predictions: Of the test images; None when it was not evaluated.
    """

    name: str
    folder: Path
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
        corrections: Rows of the corrections that the run was made with.
        audit: Rows of what may be wrong with the data.
        audit_neighbors: Rows of the images to look at beside.
        audited: metrics/audit.json; empty where no audit was made.
        weak_clusters: Rows of the test images of clusters in which mistakes gather.
        data: metrics/data.json.
        extract: metrics/extract.json.
        test: metrics/test.json.
        comparison: What `headstart compare` wrote; empty without it.
        params: The sections of params.yaml; empty without it.
        shown: Says what the page calls a file.
        heads: Those that were trained, by name, and the fine-tuned model.
    """

    manifest: Manifest
    features: FeatureFile | None
    quarantine: list[Row]
    leaks: list[Row] | None
    corrections: list[Row]
    audit: list[Row]
    audit_neighbors: list[Row]
    audited: dict[str, Any]
    weak_clusters: list[Row]
    data: dict[str, Any]
    extract: dict[str, Any]
    test: dict[str, Any]
    comparison: dict[str, Any]
    params: dict[str, Any]
    shown: ShownPaths
    heads: tuple[HeadResults, ...] = field(default=())

    @property
    def used(self) -> int | None:
        """How many images have features; None where all have, or nothing has yet."""
        if self.features is None:
            return None
        used = len(self.features.rows())
        return used if used < len(self.manifest.in_use) else None

    @property
    def selected(self) -> str | None:
        """Name of the head that validation chose."""
        name = self.test.get("selected", {}).get("head")
        return name if any(head.name == name for head in self.heads) else None


def read_results(where: RunPlaces) -> Results:
    """Read all there is.

    Raises:
        InputError: there is no manifest, a file cannot be read, or the features or predictions
            are of other images than the manifest's.
    """
    manifest = read_manifest(where.manifest)
    features = FeatureFile.open(where.features) if where.features.is_file() else None
    if features is not None:
        _check_same_images(features, manifest, where)
    test = _json(where.test_metrics)
    audits = [path for path in (where.leaks, where.feature_leaks) if path.is_file()]
    quarantine = _table(where.quarantine)
    files = (*manifest.columns.path.tolist(), *(row["path"] for row in quarantine))
    return Results(
        manifest=manifest,
        features=features,
        quarantine=quarantine,
        leaks=[row for path in audits for row in _table(path)] if audits else None,
        corrections=_table(where.corrections),
        audit=_table(where.audit),
        audit_neighbors=_table(where.audit_neighbors),
        audited=_json(where.audit_metrics),
        weak_clusters=_table(where.weak_clusters),
        data=_json(where.data_metrics),
        extract=_json(where.extract_metrics),
        test=test,
        comparison={} if where.comparison is None else _json(where.comparison),
        params=read_params(where.params) if where.params.is_file() else {},
        shown=ShownPaths(files),
        heads=tuple(_read_models(where, test, manifest)),
    )


def _read_models(
    where: RunPlaces, test: dict[str, Any], manifest: Manifest
) -> Iterator[HeadResults]:
    own, tested = _json(where.heads_metrics), test.get("heads", {})
    for name in trained_heads(where.heads):
        yield _read_model(
            name,
            where.heads / name,
            {**own.get(name, {}), "test": tested.get(name)},
            where.heads_plots / name,
            where,
            where.predictions / "heads" / f"{name}.h5",
            manifest,
        )
    if is_present(where.finetuned):
        yield _read_model(
            FINETUNED,
            where.finetuned,
            {**_json(where.finetune_metrics), "test": test.get("finetuned")},
            where.finetuned_plots,
            where,
            where.predictions / "finetuned.h5",
            manifest,
        )


def _read_model(
    name: str,
    folder: Path,
    scores: dict[str, Any],
    plots: Path,
    where: RunPlaces,
    predicted: Path,
    manifest: Manifest,
) -> HeadResults:
    card = read_card(folder) if (folder / CARD_FILE).is_file() else {}
    predictions = None
    if predicted.is_file():
        origin = origin_of_predictions(folder, "test") if card else None
        predictions = Predictions.read(predicted, "evaluate", origin)
        _check_predictions(predicted, predictions, manifest)
    return HeadResults(
        name=name,
        folder=folder,
        card=card,
        scores={split: scores[split] for split in SPLITS if scores.get(split)},
        history=_numbers(plots / "history.csv"),
        path=_numbers(plots / "path.csv"),
        learning=_numbers(plots / "learning_curve.csv"),
        test_curves={
            curve: _numbers(where.test_plots / f"{curve}.csv", name) for curve in TEST_CURVES
        },
        predictions=predictions,
    )


def _check_same_images(features: FeatureFile, manifest: Manifest, where: RunPlaces) -> None:
    rows = features.rows()
    image = features.image[rows]
    own = manifest.sha256
    # Fewer images than the manifest's have features when extract.share is below 1.
    if (
        features.header.class_names != manifest.class_names
        or image.max() >= len(manifest)
        or not np.array_equal(features.sha256[rows], own[image])
    ):
        raise InputError(
            f"{features.path}: not the features of the images in {where.manifest}: "
            f"run `dvc repro` to bring both up to date"
        )


def _check_predictions(path: Path, predictions: Predictions, manifest: Manifest) -> None:
    image, shape = predictions.image, predictions.probabilities.shape
    if (
        shape != (len(image), len(manifest.class_names))
        or image.min(initial=0) < 0
        or image.max(initial=0) >= len(manifest)
        or (manifest.split[image] != "test").any()
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


def _table(path: Path) -> list[Row]:
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
