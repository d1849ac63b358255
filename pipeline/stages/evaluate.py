"""Read features, manifest and heads, write the test scores and the curves behind them."""

from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.bootstrap import paired_interval, score_intervals
from pipeline.errors import InputError
from pipeline.feature_file import FeatureFile
from pipeline.files import write_json
from pipeline.heads import load
from pipeline.heads.base import Head
from pipeline.manifest import Manifest, read_manifest
from pipeline.metrics import log_loss, scores
from pipeline.options import EvaluateOptions
from pipeline.params import load_params
from pipeline.plots import write_test_plots
from pipeline.predictions import Predictions
from pipeline.stages import exit_with

FEATURES = Path("features/bottleneck.h5")
MANIFEST = Path("data/manifest.csv")
MODELS = Path("models")
METRICS = Path("metrics/test.json")
PLOTS = Path("plots/test")
PREDICTIONS = Path("predictions")
HELD_OUT_FILE = "held_out.h5"


def run(
    file: FeatureFile,
    manifest: Manifest,
    models: Mapping[str, Path],
    options: EvaluateOptions,
    metrics: Path,
    plots: Path,
    outputs: Path,
) -> None:
    """Score every head on the test images and name the one that validation chose.

    Args:
        file: The features.
        manifest: Their images.
        models: Folder of each head by name.
        options: The section `evaluate`.
        metrics: The JSON file to write.
        plots: The folder to fill.
        outputs: The folder for each head's probabilities of the test images.

    Raises:
        InputError: there is no test image, or a head was made for other features or images.
    """
    rows = file.rows("test")
    if not len(rows):
        raise InputError(
            f"{file.path}: expected test images, received none: raise prepare.test in params.yaml"
        )
    labels = file.label[rows]
    content: dict[str, Any] = {}
    predictions: dict[str, Predictions] = {}
    held_out: dict[str, Predictions] = {}
    for name, folder in models.items():
        head = load(folder)
        head.check_features(file.header, file.path)
        probabilities = head.predict_proba(file.features, rows)
        predictions[name] = Predictions(file.image[rows], probabilities)
        predictions[name].write(outputs / f"{name}.h5")
        held_out[name] = Predictions.read(folder / HELD_OUT_FILE)
        content[name] = _scores(head, labels, probabilities, file.group[rows], options)
    selected = _select(held_out, manifest, options)
    content["selected"] = {**selected, **content[selected["head"]]}
    write_json(metrics, content)
    write_test_plots(plots, manifest, labels, predictions, file.header.class_names)


def _scores(
    head: Head,
    labels: npt.NDArray[np.int64],
    probabilities: npt.NDArray[np.float64],
    groups: npt.NDArray[np.int64],
    options: EvaluateOptions,
) -> dict[str, Any]:
    card = head.card
    result = scores(labels, probabilities, card.class_names)
    if options.bootstrap:
        result["intervals"] = score_intervals(
            labels, probabilities, groups, resamples=options.bootstrap, seed=options.seed
        )
    result["feature_dim"] = int(np.prod(card.feature_shape))
    result["parameters"] = card.parameters
    return result


def _select(
    held_out: Mapping[str, Predictions], manifest: Manifest, options: EvaluateOptions
) -> dict[str, Any]:
    """Name the head with most held-out images right, of equals the one with the lower log loss.

    Heads are compared on the images that every one of them has held out.

    Raises:
        InputError: there is no such image.
    """
    common = reduce(np.intersect1d, [one.image for one in held_out.values()])
    if not len(common):
        raise InputError(
            f"{', '.join(held_out)}: these heads have no validation image in common; "
            "run `dvc repro` to train them on the present split"
        )
    labels = manifest.labels[common]
    probabilities = {name: one.of(common) for name, one in held_out.items()}
    right = {
        name: (values.argmax(axis=1) == labels).astype(np.float64)
        for name, values in probabilities.items()
    }
    order = sorted(
        held_out, key=lambda name: (-right[name].sum(), log_loss(labels, probabilities[name]))
    )
    best = order[0]
    result: dict[str, Any] = {"head": best, "validation_accuracy": float(right[best].mean())}
    if len(order) > 1:
        result["runner_up"] = order[1]
        if options.bootstrap:
            low, high = paired_interval(
                right[best] - right[order[1]],
                manifest.groups[common],
                resamples=options.bootstrap,
                seed=options.seed,
            )
            result["tie"] = low <= 0 <= high
            result["lead_interval"] = [low, high]
    return result


def main(arguments: Sequence[str]) -> None:
    """Score the heads of params.yaml."""
    params = load_params()
    models = {name: MODELS / name for name in params.train.heads}
    run(
        FeatureFile.open(FEATURES),
        read_manifest(MANIFEST),
        models,
        params.evaluate,
        METRICS,
        PLOTS,
        PREDICTIONS,
    )


if __name__ == "__main__":
    exit_with(main)
