"""Scoring every model on the test images, and naming the one that validation chose."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from headstart.common.errors import InputError
from headstart.common.files import read_json, write_json
from headstart.common.progress import notify
from headstart.common.vocabulary import DROPPED
from headstart.dataset.leak_table import write_leaks
from headstart.dataset.manifest import Manifest
from headstart.evaluation.choice import gain, select
from headstart.evaluation.leaks import (
    find_feature_leaks,
    find_picture_leaks,
    leaked_images,
    leaked_paths,
    read_leaks,
)
from headstart.evaluation.operating import fit_points, write_points
from headstart.evaluation.options import EvaluateOptions
from headstart.evaluation.slices import check_columns, score_slices
from headstart.evaluation.summary import summarize
from headstart.evaluation.uncorrected import uncorrected_scores
from headstart.evaluation.weak_clusters import find_weak_clusters
from headstart.features.file import FeatureFile
from headstart.heads import finetuned_card, load, trained_heads
from headstart.heads.base import (
    HELD_OUT_FILE,
    HeadCard,
    origin_of_predictions,
    repeat_folders,
)
from headstart.heads.data import class_weights
from headstart.scoring.curves import write_joint_curves, write_test_plots
from headstart.scoring.intervals import score_intervals
from headstart.scoring.metrics import WITHOUT_IMAGES, Floats, named, scores, spread
from headstart.scoring.predictions import Predictions

_HEADLINES = ("accuracy", "balanced_accuracy", "macro_f1", "log_loss")


def evaluate(
    file: FeatureFile,
    manifest: Manifest,
    options: EvaluateOptions,
    *,
    heads: Path,
    trained: Path,
    finetuned: Path,
    known_leaks: Path,
    fits: Path,
    finetuned_fit: Path,
    metrics: Path,
    summary: Path,
    plots: Path,
    curves: Path,
    predictions: Path,
    leaks: Path,
    weak_clusters: Path,
    operating: Path,
) -> None:
    """Score every model on the test images and name the one that validation chose.

    Without a test image there are no scores, and the metrics say so.

    Args:
        file: The features.
        manifest: Their images.
        options: The section `evaluate`.
        heads: Holds a folder per trained head.
        trained: The scores that came with them, in the order of params.yaml.
        finetuned: Folder of the fine-tuned model, which may hold none.
        known_leaks: Copies that `prepare` left in two splits, data/leaks.csv.
        fits: Holds a folder per head with the curves of its fit.
        finetuned_fit: Folder of the curves of fine-tuning.
        metrics: Gets the scores.
        summary: Gets the few of them that decide.
        plots: Folder that gets the curves on test images.
        curves: Folder that gets the curves of all fits together.
        predictions: Folder that gets each model's probabilities of the test images.
        leaks: Gets the test images that a closer look or features show to be copies; those that
            hashes show are in `known_leaks`.
        weak_clusters: Gets the test images of clusters in which mistakes gather.
        operating: Gets at which probabilities models name a class, several or none.

    Raises:
        InputError: a model was made for other features or images, or `options` name a column that
            the source has not.
    """
    check_columns(options.slices, manifest)
    rows, dropped = file.rows("test"), file.rows(DROPPED)
    labels = file.label[rows]
    groups = file.group[rows]
    found: dict[str, Predictions] = {}
    # With the test images that corrections drop.
    all_tested: dict[str, Predictions] = {}
    held_out: dict[str, Predictions] = {}
    cards: dict[str, HeadCard] = {}
    origins: dict[str, str] = {}
    repeats: dict[str, list[dict[str, Any]]] = {}
    for name in trained_heads(heads):
        head = load(heads / name)
        head.check_features(file.header, file.path)
        cards[name] = head.card
        found[name], beside = (
            Predictions(file.image[chosen], head.predict_proba(file.features, chosen, np.float32))
            for chosen in (rows, dropped)
        )
        all_tested[name] = found[name].together(beside)
        origins[name] = origin_of_predictions(heads / name, "test")
        chosen_by = origin_of_predictions(heads / name, "held-out")
        held_out[name] = Predictions.read(heads / name / HELD_OUT_FILE, "train", chosen_by)
        repeats[name] = [
            scores(
                labels,
                load(folder).predict_proba(file.features, rows, np.float32),
                head.card.class_names,
            )
            for folder in (repeat_folders(heads / name) if len(rows) else ())
        ]
    if not found:
        raise InputError(f"{heads}: expected trained heads, received none: run `dvc repro train`")
    names = list(found)
    fit_of = {name: fits / name for name in names}
    gained = None
    if finetuned_card.is_present(finetuned):
        tuned, its_predictions = _read_finetuned(finetuned, file)
        cards[finetuned_card.NAME] = tuned.head
        all_tested[finetuned_card.NAME] = its_predictions
        its_predictions = its_predictions.part(file.image[rows])
        found[finetuned_card.NAME] = its_predictions
        origins[finetuned_card.NAME] = origin_of_predictions(finetuned, "test")
        fit_of[finetuned_card.NAME] = finetuned_fit
        validated = finetuned_card.read_predictions(finetuned, "validation")
        if validated is not None:
            held_out[finetuned_card.NAME] = validated
        if tuned.start.name not in found:
            raise InputError(
                f"{finetuned}: expected a model that started from one of the heads "
                f"{', '.join(names)}, received one from {tuned.start.name}: run "
                "`dvc repro finetune`"
            )
        gained = gain(
            labels,
            its_predictions.probabilities,
            found[tuned.start.name].probabilities,
            groups,
        )
        gained = {"over": tuned.start.name, **gained}

    leaked, clean = _audit(file, manifest, rows, known_leaks, leaks)
    scored = {
        name: _scores(cards[name], labels, one.probabilities, groups, clean)
        for name, one in found.items()
    }
    weight = _class_weight(file, next(iter(cards.values())))
    points = fit_points(options, found, held_out, manifest, file.header.class_names, weight)
    for name, point in points.items():
        scored[name] |= point.check(labels, found[name].probabilities, groups)
    for name, one in all_tested.items():
        scored[name]["uncorrected"] = uncorrected_scores(one, manifest)
    for name, further in repeats.items():
        if further:
            scored[name]["repeats"] = spread([scored[name], *further])
    selected = select(
        held_out,
        manifest,
        class_weight=weight,
        sizes={name: card.parameters for name, card in cards.items()},
        last=finetuned_card.NAME,
        first=next(name for name in (*read_json(trained), *names) if name in found),
        seed=options.seed,
    )
    _tell(selected, labels, file.header.class_names)
    probabilities = found[selected["head"]].probabilities
    content: dict[str, Any] = {
        "selected": {
            **selected,
            **scored[selected["head"]],
            **score_slices(
                options.slices,
                manifest,
                file.image[rows],
                labels,
                probabilities,
                groups,
                seed=options.seed,
            ),
            **find_weak_clusters(
                file, manifest, rows, probabilities, seed=options.seed, images=weak_clusters
            ),
        },
        "heads": {name: scored[name] for name in names},
    }
    if gained is not None:
        content["finetuned"] = {**scored[finetuned_card.NAME], "gain": gained}
    content["leaks"] = leaked
    write_json(metrics, content)
    write_json(summary, summarize(content, cards, held_out, manifest))
    folders = {name: heads / name for name in names} | {finetuned_card.NAME: finetuned}
    write_points(operating, points, folders)
    _write_predictions(predictions, found, origins)
    write_test_plots(plots, labels, found, file.header.class_names, selected["head"])
    write_joint_curves(curves, fit_of)


def _class_weight(file: FeatureFile, card: HeadCard) -> npt.NDArray[np.float64]:
    """Return what an image of each class counted in training, (n_classes,)."""
    counts = np.bincount(file.label[file.rows("train")], minlength=len(card.class_names))
    return class_weights(card.training["class_weight"], card.class_names, counts)


def _tell(
    selected: Mapping[str, Any], labels: npt.NDArray[np.int64], class_names: tuple[str, ...]
) -> None:
    """Say of which classes the scores say nothing, and how a model was selected without any."""
    lacking = np.array(class_names)[np.bincount(labels, minlength=len(class_names)) == 0]
    if not len(labels):
        notify("warning: there is no test image, so there are no test scores")
    elif len(lacking):
        notify(f"warning: no test image of {named(lacking)}, which test scores therefore leave out")
    if selected.get("selected_by") == "default":
        notify(
            f"warning: selected {selected['head']}, the first head of params.yaml: no image could "
            "be held out to choose by"
        )


def _write_predictions(
    folder: Path, found: Mapping[str, Predictions], origins: Mapping[str, str]
) -> None:
    for name, one in found.items():
        path = "finetuned.h5" if name == finetuned_card.NAME else f"heads/{name}.h5"
        one.write(folder / path, origins[name])


def _audit(
    file: FeatureFile,
    manifest: Manifest,
    rows: npt.NDArray[np.int64],
    known_leaks: Path,
    found_leaks: Path,
) -> tuple[dict[str, int], npt.NDArray[np.bool_]]:
    """List the leaks that hashes did not; return counts, and which test rows have no copy."""
    by_hash = read_leaks(known_leaks)
    listed = {(leak.path, leak.other_path) for leak in by_hash}
    by_sight = find_picture_leaks(file, manifest)
    seen = leaked_paths(by_sight)
    # What features say of an image that was seen to be a copy adds nothing.
    by_features = [
        leak for leak in find_feature_leaks(file, manifest) if seen.isdisjoint(leaked_paths([leak]))
    ]
    further = sorted(
        leak for leak in by_sight + by_features if (leak.path, leak.other_path) not in listed
    )
    write_leaks(found_leaks, further)
    hashed, found = leaked_images(by_hash, manifest), leaked_images(further, manifest)
    leaked = np.isin(file.image[rows], np.union1d(hashed, found))
    counts = {
        "test_images": int(leaked.sum()),
        "by_hash": len(hashed),
        "by_features": len(found),
    }
    return counts, ~leaked


def _read_finetuned(
    folder: Path, file: FeatureFile
) -> tuple[finetuned_card.FinetunedCard, Predictions]:
    """Read what the fine-tuned model said of the test images, dropped ones included.

    Raises:
        InputError: it was made from other features, or said nothing of some of these images.
    """
    rows = file.rows("test", DROPPED)
    tuned = finetuned_card.read_finetuned_card(folder)
    own = finetuned_card.read_predictions(folder, "test")
    same = tuned.head.identity.feature_digest == file.header.identity.feature_digest
    if own is None and not len(rows):
        own = Predictions(file.image[rows], np.empty((0, len(file.header.class_names))))
    if not same or own is None or not np.array_equal(own.image, file.image[rows]):
        raise InputError(
            f"{folder}: expected a model fine-tuned from the features in {file.path}, received one "
            "from other features or for other test images: run `dvc repro finetune`"
        )
    return tuned, own


def _scores(
    known: HeadCard,
    labels: npt.NDArray[np.int64],
    probabilities: Floats,
    groups: npt.NDArray[np.int64],
    clean: npt.NDArray[np.bool_],
) -> dict[str, Any]:
    """Score all test images, and once more those without a copy in another split."""
    result = scores(labels, probabilities, known.class_names)
    if len(labels):
        result["intervals"] = score_intervals(labels, probabilities, groups)
    without = result
    if not clean.all():
        some = labels[clean], probabilities[clean]
        without = scores(*some, known.class_names) if clean.any() else {}
    result["without_leaks"] = {
        name: without[name] for name in ("images", WITHOUT_IMAGES, *_HEADLINES) if name in without
    }
    result["feature_dim"] = int(np.prod(known.feature_shape))
    result["parameters"] = known.parameters
    return result
