"""Read features, manifest and heads, write the test scores and the curves behind them."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from headstart.commands.params import load_params
from headstart.common.errors import InputError, exit_with
from headstart.common.files import write_json
from headstart.dataset.duplicates import write_leaks
from headstart.dataset.manifest import Manifest, read_manifest
from headstart.evaluation.choice import gain, select
from headstart.evaluation.leaks import find_feature_leaks, leaked_images, read_leaks
from headstart.evaluation.options import EvaluateOptions
from headstart.extraction.bottleneck import recover
from headstart.extraction.extract import Request, extract
from headstart.extraction.network_size import network_size
from headstart.features.file import Columns, FeatureFile
from headstart.finetuning import card
from headstart.heads import load
from headstart.heads.base import Head, HeadCard
from headstart.images.options import AugmentOptions
from headstart.scoring.curves import write_joint_curves, write_test_plots
from headstart.scoring.intervals import score_intervals
from headstart.scoring.metrics import scores
from headstart.scoring.predictions import Predictions

FEATURES = Path("features/bottleneck.h5")
MANIFEST = Path("data/manifest.csv")
MODELS = Path("models")
LEAKS = Path("data/leaks.csv")
FITS = Path("plots/train")
HELD_OUT_FILE = "held_out.h5"

_HEADLINES = ("accuracy", "balanced_accuracy", "macro_f1", "log_loss")


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where the results go.

    Attributes:
        metrics: The scores.
        plots: Folder of the curves on test images.
        curves: Folder of the curves of all fits together.
        predictions: Folder of each model's probabilities of the test images.
        leaks: Test images that features show to be copies; those that hashes show are listed by
            `prepare` in data/leaks.csv.
    """

    metrics: Path = Path("metrics/test.json")
    plots: Path = Path("plots/test")
    curves: Path = Path("plots/curves")
    predictions: Path = Path("predictions")
    leaks: Path = Path("data/feature_leaks.csv")


def run(
    file: FeatureFile,
    manifest: Manifest,
    models: Mapping[str, Path],
    options: EvaluateOptions,
    outputs: Outputs,
    *,
    known_leaks: Path | None = None,
    fits: Path | None = None,
    finetuned: Path | None = None,
    recipe: AugmentOptions | None = None,
) -> None:
    """Score every head on the test images and name the one that validation chose.

    Args:
        file: The features.
        manifest: Their images.
        models: Folder of each head by name.
        options: The section `evaluate`.
        outputs: Where the results go.
        fits: Where each model has a folder of the curves of its fit, plots/train.
        known_leaks: Copies that `prepare` left in two splits, data/leaks.csv.
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
    groups = file.group[rows]
    predictions: dict[str, Predictions] = {}
    held_out: dict[str, Predictions] = {}
    cards: dict[str, HeadCard] = {}
    heads = {name: load(folder) for name, folder in models.items()}
    for head in heads.values():
        head.check_features(file.header, file.path)
    probabilities = {name: head.predict_proba(file.features, rows) for name, head in heads.items()}
    if options.views and recipe is not None:
        of_views = _predict_views(heads, file, rows, manifest, options.views, recipe)
        probabilities = {
            name: (own + of_views[name].sum(axis=1)) / (1 + options.views)
            for name, own in probabilities.items()
        }
    for name, own in probabilities.items():
        cards[name] = heads[name].card
        predictions[name] = Predictions(file.image[rows], own)
        held_out[name] = Predictions.read(models[name] / HELD_OUT_FILE)
    gains = {}
    if finetuned is not None and card.is_present(finetuned):
        tuned, told = _read_finetuned(finetuned, file, rows)
        cards[card.NAME] = tuned.head
        predictions[card.NAME] = told
        judged = card.read_predictions(finetuned, "validation")
        if judged is not None:
            held_out[card.NAME] = judged
        start = probabilities[tuned.start.name]
        gained = gain(
            labels,
            told.probabilities,
            start,
            groups,
            resamples=options.bootstrap,
            seed=options.seed,
        )
        gains[card.NAME] = {"over": tuned.start.name, **gained}

    leaks, clean = _audit(file, manifest, rows, known_leaks, outputs.leaks)
    content: dict[str, Any] = {}
    for name, one in predictions.items():
        content[name] = _scores(cards[name], labels, one.probabilities, groups, clean, options)
        if name in gains:
            content[name]["gain"] = gains[name]
        one.write(outputs.predictions / f"{name}.h5")
    selected = select(
        held_out, manifest, last=card.NAME, resamples=options.bootstrap, seed=options.seed
    )
    content["selected"] = {**selected, **content[selected["head"]]}
    content["leaks"] = leaks
    content["cost"] = {
        "feature_dim": file.header.feature_dim,
        **asdict(network_size(file.header.identity)),
    }
    write_json(outputs.metrics, content)
    write_test_plots(outputs.plots, labels, predictions, file.header.class_names)
    if fits is not None:
        write_joint_curves(outputs.curves, {name: fits / name for name in predictions})


def _audit(
    file: FeatureFile,
    manifest: Manifest,
    rows: npt.NDArray[np.int64],
    known_leaks: Path | None,
    found_leaks: Path,
) -> tuple[dict[str, int], npt.NDArray[np.bool_]]:
    """List the leaks that features show; return counts, and which test rows have no copy."""
    by_hash = read_leaks(known_leaks) if known_leaks is not None else []
    listed = {(leak.path, leak.other_path) for leak in by_hash}
    by_features = [
        leak
        for leak in find_feature_leaks(file, manifest)
        if (leak.path, leak.other_path) not in listed
    ]
    write_leaks(found_leaks, by_features)
    hashed, seen = leaked_images(by_hash, manifest), leaked_images(by_features, manifest)
    leaked = np.isin(file.image[rows], np.union1d(hashed, seen))
    counts = {
        "test_images": int(leaked.sum()),
        "by_hash": len(hashed),
        "by_features": len(seen),
    }
    return counts, ~leaked


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


def _scores(
    known: HeadCard,
    labels: npt.NDArray[np.int64],
    probabilities: npt.NDArray[np.float64],
    groups: npt.NDArray[np.int64],
    clean: npt.NDArray[np.bool_],
    options: EvaluateOptions,
) -> dict[str, Any]:
    """Score all test images, and once more those without a copy in another split."""
    result = scores(labels, probabilities, known.class_names)
    if options.bootstrap:
        result["intervals"] = score_intervals(
            labels, probabilities, groups, resamples=options.bootstrap, seed=options.seed
        )
    without = scores(labels[clean], probabilities[clean], known.class_names) if clean.any() else {}
    result["without_leaks"] = {
        name: without[name] for name in ("images", *_HEADLINES) if name in without
    }
    result["feature_dim"] = int(np.prod(known.feature_shape))
    result["parameters"] = known.parameters
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
        Outputs(),
        known_leaks=LEAKS,
        fits=FITS,
        finetuned=MODELS / card.NAME,
        recipe=params.extract.augment,
    )


if __name__ == "__main__":
    exit_with(main)
