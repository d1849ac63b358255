"""All heads of params.yaml on the cached features: fitted, or taken over from an earlier run."""

import time
from collections.abc import Callable, Mapping
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from headstart.common.cache import Keep
from headstart.common.code import digest_of_code
from headstart.common.durations import keep_seconds
from headstart.common.files import atomic_folder, copy_folder, digest_of, read_json, write_json
from headstart.common.progress import notify
from headstart.features.file import FeatureFile
from headstart.heads import create, is_cheap
from headstart.heads.base import (
    CARD_FILE,
    HELD_OUT_FILE,
    FitReport,
    Head,
    origin_of_predictions,
    repeat_folder,
)
from headstart.heads.data import MOST_HELD_OUT, TrainingData, some_of_each
from headstart.heads.learning_curve import learning_curve
from headstart.heads.options import HeadOptions, TrainOptions
from headstart.scoring.calibration import FEWEST_UNITS, softmax
from headstart.scoring.curves import write_fit_plots
from headstart.scoring.metrics import WITHOUT_IMAGES, named, scores, spread
from headstart.scoring.predictions import Predictions

_CODE = ("common", "features", "scoring", "heads")
_LIBRARIES = ("numpy", "scipy")
# What a kept fit consists of.
_MODEL, _PLOTS, _METRICS = "model", "plots", "metrics.json"


def train_heads(
    file: FeatureFile,
    options: TrainOptions,
    *,
    models: Path,
    metrics: Path,
    plots: Path,
    keep: Keep | None = None,
) -> None:
    """Write every head's weights, scores and curves, and nothing of any other head.

    A fit is kept in the user's cache folder under all that decides it, so that a head whose
    options, features and code are what they were is taken over; the edit of one head fits that
    head alone, and a run that was killed goes on with the head that it was fitting.

    Args:
        file: The features.
        options: The section `train`.
        models: Gets a folder per head: weights, card and held-out predictions.
        metrics: The JSON file of the scores of all heads.
        plots: Gets a folder per head: the curves of its fit.
        keep: Where fits are kept; the user's cache folder by default.

    Raises:
        InputError: the features cannot be trained on.
    """
    keep = keep or Keep("fits")

    data_of = cache(partial(_data, file, options))
    content = {}
    # In the place of what there is at the end, since a fit that fails must not cost that.
    with atomic_folder(models) as new, atomic_folder(plots, flush=False) as curves:
        for name, head in options.heads.items():
            started = time.perf_counter()
            digest = _digest(file.digest, head, options)
            kept = keep.find(digest)
            if kept is None:
                with keep.create_if_possible(digest) as folder:
                    seconds = _fit(file, data_of, head, options, folder)
                    _hand_over(folder, new / name, curves / name)
                    keep_seconds(new / name / CARD_FILE, seconds, keep.root.parent)
                    content[name] = read_json(folder / _METRICS)
                notify(f"{name}: fitted in {time.perf_counter() - started:.1f} s")
            else:
                _hand_over(kept, new / name, curves / name)
                content[name] = read_json(kept / _METRICS)
                notify(f"{name}: taken over, nothing that decides it has changed")
    _tell(content, options.shots)
    write_json(metrics, content)


def write_start(
    file: FeatureFile,
    options: TrainOptions,
    name: str | None,
    start: Path,
    keep: Keep | None = None,
) -> None:
    """Hand the head over that fine-tuning starts from, apart from the others.

    It has learned from the training images alone, whatever `train.refit` says: validation images
    say when fine-tuning ends and what its model is worth, so its start must not have seen them.

    Args:
        file: The features.
        options: The section `train`.
        name: Which of its heads; None where nothing starts from one.
        start: Gets its folder.
        keep: Where fits are kept; the user's cache folder by default.
    """
    with atomic_folder(start) as new:
        if name is None:
            # DVC warns of empty folders.
            write_json(new / "none.json", {"head": None})
            return
        head = options.heads[name]
        alone = options.model_copy(update={"refit": False, "repeats": 1, "learning_curve": "none"})
        keep = keep or Keep("fits")
        digest = _digest(file.digest, head, alone)
        kept = keep.find(digest)
        if kept is not None:
            copy_folder(kept / _MODEL, new / name)
            return
        with keep.create_if_possible(digest) as folder:
            _fit(file, partial(_data, file, alone), head, alone, folder)
            copy_folder(folder / _MODEL, new / name)


def _data(file: FeatureFile, options: TrainOptions, seed: int) -> TrainingData:
    return TrainingData.from_file(
        file,
        class_weight=options.class_weight,
        min_validation=options.min_validation,
        folds_below=options.folds_below,
        streaming_above=options.streaming_above,
        seed=seed,
        shots=options.shots,
    )


def _digest(features: str, head: HeadOptions, options: TrainOptions) -> str:
    return digest_of(
        {
            "features": features,
            "head": head.model_dump(mode="json"),
            "train": options.model_dump(mode="json", exclude={"heads"}),
            "code": digest_of_code(_CODE),
            "versions": {name: version(name) for name in _LIBRARIES},
        }
    )


def _tell(content: Mapping[str, Mapping[str, Any]], shots: int | None) -> None:
    """Say once what the data were too few for."""
    default = [name for name, one in content.items() if one["selected_by"] == "default"]
    if default and shots is not None:
        notify(
            f"of train.shots: {shots} no image per class can be held out to choose on: "
            f"{', '.join(default)} took default settings and temperature 1"
        )
    elif default:
        notify(
            f"warning: nothing can be held out to choose on, since no class has two units (images "
            f"that belong together count once) beside the test images: {', '.join(default)} took "
            "default settings and temperature 1, and there are no validation scores. More images "
            "or groups per class are the remedy"
        )
    bare = [name for name, one in content.items() if not one.get("calibrated", True)]
    if left := [name for name in bare if name not in default]:
        notify(
            f"warning: the probabilities of {', '.join(left)} are not calibrated (temperature 1): "
            f"fewer than {FEWEST_UNITS} units are held out (images that belong together count "
            "once), or what is held out fits no temperature"
        )
    lacking = {
        label: None
        for one in content.values()
        for label in one["validation"].get(WITHOUT_IMAGES, ())
        if one["selected_by"] != "default"
    }
    if lacking:
        notify(
            f"warning: no image of {named(lacking)} could be held out (images that belong together "
            "count once), which the choice of settings and validation scores therefore leave out"
        )


def _hand_over(fit: Path, model: Path, plots: Path) -> None:
    copy_folder(fit / _MODEL, model)
    copy_folder(fit / _PLOTS, plots)


def _fit(
    file: FeatureFile,
    data_of: Callable[[int], TrainingData],
    head: HeadOptions,
    options: TrainOptions,
    folder: Path,
) -> float:
    """Fit a head once or `options.repeats` times, with another seed each time.

    The first repeat is the model; the others, each with its own shots, lie in folders within the
    first one's, for the spread of the scores.

    Returns:
        The seconds that fitting the model took.
    """
    results = []
    seconds = 0.0
    for repeat in range(options.repeats):
        seed = (options.seed + repeat) % 2**32
        data = data_of(seed)
        fitted = create(head, seed)
        # Of few shots validation images are none that could be fitted, too.
        started = time.perf_counter()
        report = fitted.fit(data, refit=options.refit and options.shots is None)
        model = folder / _MODEL
        if repeat > 0:
            fitted.save(repeat_folder(model, repeat))
        else:
            seconds = time.perf_counter() - started
            fitted.save(model)
            judged = held_out_images(fitted, report, data)
            told = Predictions(file.image[judged.rows], judged.probabilities)
            told.write(model / HELD_OUT_FILE, origin_of_predictions(model, "held-out"))
            wanted = options.learning_curve
            learning = (
                learning_curve(head, data, seed)
                if wanted == "all" or (wanted == "cheap" and is_cheap(head))
                else []
            )
            write_fit_plots(folder / _PLOTS, fitted.card.curve, report.history, learning)
        results.append(_scores(fitted, report, data))
    content = results[0]
    if options.repeats > 1:
        content["repeats"] = spread([result["validation"] for result in results])
    write_json(folder / _METRICS, content)
    return seconds


class _HeldOut(NamedTuple):
    """Images that the weights never saw, and what they make of them.

    Attributes:
        rows: (n_images,) of the feature file.
        probabilities: (n_images, n_classes), calibrated.
        uncalibrated: (n_images, n_classes).
        folds: Into how many folds of a cross-validation they fall; 1 for none.
    """

    rows: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float64]
    uncalibrated: npt.NDArray[np.float64]
    folds: int


def held_out_images(head: Head, report: FitReport, data: TrainingData) -> _HeldOut:
    """Return what the validation score of a head is counted on.

    Of a few shots nothing was held out for good; but the validation images taught nothing at all.
    """
    if data.shots is None or not len(data.validation):
        return _HeldOut(report.held_out, report.probabilities, softmax(report.logits), report.folds)
    logits = head.predict_logits(data.features, data.validation)
    return _HeldOut(data.validation, softmax(logits, head.card.temperature), softmax(logits), 1)


def _scores(head: Head, report: FitReport, data: TrainingData) -> dict[str, Any]:
    # A part of many training images tells as well how far the head has learned them by heart.
    rows, card = some_of_each(data.train_images, data.label, MOST_HELD_OUT), head.card
    logits = head.predict_logits(data.features, rows)
    held_out = held_out_images(head, report, data)
    return {
        "setting": card.setting,
        "selected_by": card.selected_by,
        "temperature": card.temperature,
        **({} if report.calibrated else {"calibrated": False}),
        "parameters": card.parameters,
        "train": scores(data.label[rows], softmax(logits, card.temperature), card.class_names),
        # Without `folds` they are the validation images.
        "validation": ({"folds": held_out.folds} if held_out.folds > 1 else {})
        | scores(
            data.label[held_out.rows],
            held_out.probabilities,
            card.class_names,
            uncalibrated=held_out.uncalibrated,
        ),
    }
