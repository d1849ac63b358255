"""What a fine-tuning run writes: the model, its scores and curves."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.common.durations import keep_seconds
from headstart.common.files import write_json
from headstart.common.text import counted
from headstart.dataset.manifest import Manifest
from headstart.extraction.store import FeatureStore
from headstart.features.file import FeatureFile
from headstart.finetuning.options import FinetuneOptions
from headstart.heads import load, require_start, trained_heads
from headstart.heads.base import CARD_FILE
from headstart.heads.data import TrainingData
from headstart.scoring.calibration import softmax
from headstart.scoring.curves import write_fit_plots
from headstart.scoring.metrics import scores

if TYPE_CHECKING:
    from headstart.finetuning.finetune import FinetuneResult


def fine_tune(
    file: FeatureFile,
    manifest: Manifest,
    options: FinetuneOptions,
    *,
    heads: Path,
    model: Path,
    metrics: Path,
    plots: Path,
    store: FeatureStore | None = None,
) -> None:
    """Fine-tune from a trained head and write what came of it.

    Args:
        file: The cached features.
        manifest: Their images.
        options: The section `finetune`; with `unfreeze: none` nothing learns.
        heads: Holds a folder per trained head.
        model: Folder of weights, card and probabilities; without a card when nothing learned.
        metrics: Training and validation scores.
        plots: Folder of the curves.
        store: The feature store; the user's by default.

    Raises:
        InputError: there is no such head, or see `headstart.finetuning.finetune.finetune`.
    """
    if options.start is None:
        _skip(model, metrics, plots)
        return
    options.check_backbone(file.header.identity)
    folder = heads / options.head
    require_start(options.head, trained_heads(heads))
    head = load(folder)
    # The images, weights and shots that the head learned from.
    data = TrainingData.from_file(file, **head.card.training)
    # Here, so that a run with nothing to unfreeze imports no TensorFlow.
    from headstart.finetuning.finetune import FinetuneRun, finetune

    run = FinetuneRun(
        file=file,
        manifest=manifest,
        data=data,
        head=head,
        head_folder=folder,
        options=options,
        store=store or FeatureStore(),
    )
    result = finetune(run, model)
    keep_seconds(model / CARD_FILE, result.seconds, run.store.root)
    write_json(metrics, _content(result, data, options))
    write_fit_plots(plots, [], result.history)
    if result.history:
        seconds = result.seconds / len(result.history)
        print(f"{counted(len(result.history), 'epoch')}, {seconds:.1f} s each")


def _content(
    result: "FinetuneResult", data: TrainingData, options: FinetuneOptions
) -> dict[str, Any]:
    known = result.card.head
    content: dict[str, Any] = {
        "unfreeze": options.unfreeze,
        "cut": result.card.cut,
        "head": result.card.start.name,
        "trunk": result.trunk,
        "epochs": len(result.history),
        "best_epoch": result.best_epoch,
        "temperature": known.temperature,
        "parameters": known.parameters,
        "trained_parameters": result.trained_parameters,
        "parity": None,
    }
    if result.parity is not None:
        parity = result.parity
        # Three digits: the rest is the rounding noise of one machine.
        content["parity"] = {
            name: float(f"{getattr(parity, name):.2e}") for name in ("features", "head", "logits")
        }
    rows, labels = result.rows, data.label[result.rows]
    learned, judged = np.isin(rows, data.train_images), np.isin(rows, data.validation)
    content["train"] = scores(
        labels[learned], softmax(result.logits[learned], known.temperature), known.class_names
    )
    if judged.any():
        content["validation"] = scores(
            labels[judged],
            result.validation,
            known.class_names,
            uncalibrated=softmax(result.logits[judged]),
        )
    return content


def _skip(model: Path, metrics: Path, plots: Path) -> None:
    """Write the outputs of a run in which nothing is unfrozen: no model."""
    for folder in (model, plots):
        shutil.rmtree(folder, ignore_errors=True)
        # DVC warns of empty folders, and git would lose them.
        write_json(folder / "skipped.json", {"unfreeze": "none"})
    write_json(metrics, {"unfreeze": "none"})
