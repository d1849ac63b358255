"""Read features, manifest and heads, write the test scores and the curves behind them."""

import tempfile
from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.bootstrap import paired_interval, score_intervals
from pipeline.bottleneck import recover
from pipeline.errors import InputError
from pipeline.extraction import Request, extract
from pipeline.feature_file import Columns, FeatureFile
from pipeline.files import write_json
from pipeline.finetuning import card
from pipeline.heads import load
from pipeline.heads.base import Head, HeadCard
from pipeline.manifest import Manifest, read_manifest
from pipeline.metrics import log_loss, scores
from pipeline.options import AugmentOptions, EvaluateOptions
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
    finetuned: Path | None = None,
    recipe: AugmentOptions | None = None,
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
        finetuned: Folder of the fine-tuned model, which may hold none.
        recipe: What makes the test-time views; needed if `options.views` asks for any. The heads'
            probabilities are averaged over them; the fine-tuned model sees the image itself.

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
    heads = {name: load(folder) for name, folder in models.items()}
    for head in heads.values():
        head.check_features(file.header, file.path)
    probabilities = {name: head.predict_proba(file.features, rows) for name, head in heads.items()}
    if options.views and recipe is not None:
        of_views = _predict_views(heads, file, rows, manifest, options.views, recipe)
        probabilities = {
            name: (of_image + of_views[name].sum(axis=1)) / (1 + options.views)
            for name, of_image in probabilities.items()
        }
    for name, head in heads.items():
        predictions[name] = Predictions(file.image[rows], probabilities[name])
        held_out[name] = Predictions.read(models[name] / HELD_OUT_FILE)
        content[name] = _scores(head.card, labels, probabilities[name], file.group[rows], options)
    if finetuned is not None and card.is_present(finetuned):
        tuned, own = _read_finetuned(finetuned, file, rows)
        start = predictions[tuned.start.name]
        judged = card.read_predictions(finetuned, "validation")
        if judged is not None:
            held_out[card.NAME] = judged
        predictions[card.NAME] = own
        content[card.NAME] = {
            **_scores(tuned.head, labels, own.probabilities, file.group[rows], options),
            "gain": {
                "over": tuned.start.name,
                **_gain(labels, own, start, file.group[rows], options),
            },
        }
    for name, one in predictions.items():
        one.write(outputs / f"{name}.h5")
    selected = _select(held_out, manifest, options)
    content["selected"] = {**selected, **content[selected["head"]]}
    write_json(metrics, content)
    write_test_plots(plots, manifest, labels, predictions, file.header.class_names)


def _predict_views(
    heads: Mapping[str, Head],
    file: FeatureFile,
    rows: npt.NDArray[np.int64],
    manifest: Manifest,
    views: int,
    recipe: AugmentOptions,
) -> dict[str, npt.NDArray[np.float64]]:
    """Return each head's probabilities of augmented views, (n_rows, views, n_classes).

    The views' features come from the feature store, and are computed where it lacks them.
    """
    images = np.repeat(file.image[rows], views)
    numbers = np.tile(np.arange(1, views + 1, dtype=np.int32), len(rows))
    chosen = [manifest.rows[image] for image in images]
    requests = [
        Request(row.path, row.sha256, int(view)) for row, view in zip(chosen, numbers, strict=True)
    ]
    columns = Columns(
        label=np.repeat(file.label[rows], views),
        split=np.repeat(file.split[rows], views),
        sha256=np.repeat(file.sha256[rows], views),
        view=numbers,
        group=np.repeat(file.group[rows], views),
        image=images,
    )
    extraction = extract(recover(file.header.identity), requests, recipe=recipe)
    # In a file rather than in memory, since there may be many test images.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "views.h5")
        extraction.write(path, file.header.class_names, columns)
        features = FeatureFile.open(path).features
        every = np.arange(len(requests))
        return {
            name: head.predict_proba(features, every).reshape(len(rows), views, -1)
            for name, head in heads.items()
        }


def _read_finetuned(
    folder: Path, file: FeatureFile, rows: npt.NDArray[np.int64]
) -> tuple[card.FinetunedCard, Predictions]:
    """Read what the fine-tuned model said of the test images, `rows`.

    Raises:
        InputError: it was made from other features, or said nothing of some of these images.
    """
    tuned = card.read_finetuned_card(folder)
    own = card.read_predictions(folder, "test")
    same = tuned.head.identity.feature_digest == file.header.identity.feature_digest
    if not same or own is None or not np.array_equal(own.image, file.image[rows]):
        raise InputError(
            f"{folder}: expected a model fine-tuned from the features in {file.path}, received one "
            "from other features or for other test images: run `dvc repro finetune`"
        )
    return tuned, own


def _gain(
    labels: npt.NDArray[np.int64],
    own: Predictions,
    start: Predictions,
    groups: npt.NDArray[np.int64],
    options: EvaluateOptions,
) -> dict[str, Any]:
    """Return how much more accurate `own` is than `start`, with its 95 % interval."""
    right = [one.probabilities.argmax(axis=1) == labels for one in (own, start)]
    differences = right[0].astype(np.float64) - right[1]
    result: dict[str, Any] = {"accuracy": float(differences.mean())}
    if options.bootstrap:
        result["interval"] = paired_interval(
            differences, groups, resamples=options.bootstrap, seed=options.seed
        )
    return result


def _scores(
    known: HeadCard,
    labels: npt.NDArray[np.int64],
    probabilities: npt.NDArray[np.float64],
    groups: npt.NDArray[np.int64],
    options: EvaluateOptions,
) -> dict[str, Any]:
    result = scores(labels, probabilities, known.class_names)
    if options.bootstrap:
        result["intervals"] = score_intervals(
            labels, probabilities, groups, resamples=options.bootstrap, seed=options.seed
        )
    result["feature_dim"] = int(np.prod(known.feature_shape))
    result["parameters"] = known.parameters
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
        held_out,
        # A head goes before an equal fine-tuned model, which no cached feature serves.
        key=lambda name: (
            -right[name].sum(),
            name == card.NAME,
            log_loss(labels, probabilities[name]),
        ),
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
        MODELS / card.NAME,
        params.extract.augment,
    )


if __name__ == "__main__":
    exit_with(main)
