"""Reading what the stages wrote for a candidate."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from headstart.commands.compare.answers import Answers
from headstart.commands.compare.halving import Merit, Trial
from headstart.commands.compare.results import Outcome
from headstart.common import places
from headstart.common.durations import kept_seconds
from headstart.common.errors import InputError
from headstart.common.files import read_json
from headstart.dataset.manifest import read_manifest
from headstart.evaluation.choice import is_right
from headstart.heads.base import CARD_FILE, HELD_OUT_FILE, read_card
from headstart.heads.finetuned_card import NAME as FINETUNED
from headstart.scoring.intervals import units
from headstart.scoring.metrics import negative_log_likelihood
from headstart.scoring.predictions import Predictions


class Images(NamedTuple):
    """How much there is to judge by; images that belong together count once.

    Attributes:
        training: Training images.
        validation: Validation images.
        classes: Classes.
    """

    training: int
    validation: int
    classes: int


def read_images(root: Path) -> Images:
    """Count the images of a project that has been prepared."""
    manifest = read_manifest(root / places.MANIFEST)
    unit = units(manifest.groups)
    split = manifest.split
    training, validation = (len(np.unique(unit[split == name])) for name in ("train", "validation"))
    return Images(training, validation, len(manifest.class_names))


def written(root: Path) -> tuple[int, int] | None:
    """Return what tells one writing of the extraction's counts from the next; None without any."""
    try:
        state = (root / places.EXTRACT_METRICS).stat()
    except FileNotFoundError:
        return None
    return state.st_ino, state.st_mtime_ns


def read_computed(root: Path, before: tuple[int, int] | None) -> int:
    """Return the images that the candidate's own extraction passed through the backbone.

    Args:
        root: The project's folder.
        before: What `written` returned before the candidate ran; where it still does, no
            extraction has ended since. The feature store tells nothing of that: others fill it too.
    """
    if written(root) in (None, before):
        return 0
    return int(read_json(root / places.EXTRACT_METRICS)["computed"])


def read_trial(root: Path) -> Trial:
    """Return what a candidate came to whose heads have been trained.

    Raises:
        InputError: nothing could be held out.
    """
    cost = read_json(root / places.EXTRACT_METRICS)["cost"]
    heads = read_json(root / places.HEADS_METRICS)
    merits = {name: _merit(head, cost, head["parameters"]) for name, head in heads.items()}
    best = min(merits, key=lambda name: merits[name].rank)
    held_out = root / places.HEADS / best / HELD_OUT_FILE
    return Trial(merits[best], _read_answers(root, held_out, "train"))


def read_outcome(root: Path, model: str | None = None) -> Outcome:
    """Return what a candidate came to that has been evaluated.

    Args:
        root: The project's folder.
        model: A head's name or that of the fine-tuned model; None for the one that is selected.

    Raises:
        InputError: there were no images to choose by or to test on.
    """
    extraction = read_json(root / places.EXTRACT_METRICS)
    heads = read_json(root / places.HEADS_METRICS)
    test = read_json(root / places.TEST_METRICS)
    head = model or test["selected"]["head"]
    if head == FINETUNED:
        # Its own parameters are mostly the backbone's; its head is the one it started from.
        scored, trained = test["finetuned"], heads[test["finetuned"]["gain"]["over"]]
        validated = read_json(root / places.FINETUNE_METRICS)
        learned, folder = validated["trained_parameters"], places.FINETUNED
        predictions = "finetuned"
    else:
        scored, validated = test["heads"][head], heads[head]
        trained, learned = validated, validated["parameters"]
        folder, predictions = places.HEADS / head, f"heads/{head}"
    if "accuracy" not in scored:
        raise InputError(
            "compare: expected test images to compare on, received none: raise prepare.test in "
            "params.yaml, or where every class is one unit add images or groups"
        )
    interval = scored.get("intervals", {}).get("accuracy")
    return Outcome(
        head=head,
        merit=_merit(validated, extraction["cost"], learned),
        held_out=_read_answers(root, root / folder / HELD_OUT_FILE, "train"),
        accuracy=scored["accuracy"],
        interval=None if interval is None else (interval[0], interval[1]),
        predictions=_read_answers(
            root, root / places.PREDICTIONS / f"{predictions}.h5", "evaluate"
        ),
        parameters=extraction["cost"]["parameters"] + trained["parameters"],
        rows=extraction["images"] + extraction["views"],
        images=extraction["images"],
        classes=len(read_manifest(root / places.MANIFEST).class_names),
        refit=read_card(root / folder)["refit"],
        training_seconds=kept_seconds(root / folder / CARD_FILE),
    )


def _merit(metrics: dict[str, Any], cost: dict[str, Any], learned: int) -> Merit:
    scores = metrics.get("validation", {})
    if "accuracy" not in scores:
        raise InputError(
            "compare: expected held-out images to choose by, received none, since no class has two "
            "units (images that belong together count once): add images or groups to prepare.source"
        )
    return Merit(
        validation_accuracy=scores["accuracy"],
        multiply_adds=cost["multiply_adds"],
        trained_parameters=learned,
        validation_log_loss=scores["log_loss"],
    )


def _read_answers(root: Path, path: Path, stage: str) -> Answers:
    manifest = read_manifest(root / places.MANIFEST)
    predictions = Predictions.read(path, stage)
    image = predictions.image
    return Answers(
        images=np.array([manifest.rows[row].sha256 for row in image]),
        right=is_right(manifest.labels[image], predictions.probabilities),
        losses=negative_log_likelihood(manifest.labels[image], predictions.probabilities),
        groups=manifest.groups[image],
    )
