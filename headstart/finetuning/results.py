"""Read features, manifest and a trained head, write the fine-tuned model, its scores and curves."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.commands.params import load_params
from headstart.common.errors import InputError, exit_with
from headstart.common.files import write_json
from headstart.dataset.manifest import Manifest, read_manifest
from headstart.extraction.options import ExtractOptions
from headstart.extraction.store import FeatureStore
from headstart.features.file import FeatureFile
from headstart.finetuning import card
from headstart.finetuning.options import FinetuneOptions
from headstart.heads import load
from headstart.heads.data import TrainingData
from headstart.heads.options import TrainOptions
from headstart.scoring.calibration import softmax
from headstart.scoring.curves import write_fit_plots
from headstart.scoring.metrics import scores

if TYPE_CHECKING:
    from headstart.finetuning.finetune import Outcome

FEATURES = Path("features/bottleneck.h5")
MANIFEST = Path("data/manifest.csv")
MODELS = Path("models")


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where the results go.

    Attributes:
        model: Folder of weights, card and probabilities; without a card when nothing learned.
        metrics: Training and validation scores.
        timing: Seconds, kept apart from what is compared.
        plots: Folder of the curves.
    """

    model: Path = MODELS / card.NAME
    metrics: Path = Path("metrics/finetune.json")
    timing: Path = Path("metrics/timing/finetune.json")
    plots: Path = Path("plots/train") / card.NAME


def run(
    file: FeatureFile,
    manifest: Manifest,
    head_folder: Path,
    options: FinetuneOptions,
    train: TrainOptions,
    extract: ExtractOptions,
    *,
    store: FeatureStore | None = None,
    outputs: Outputs | None = None,
) -> None:
    """Fine-tune and write what came of it.

    Args:
        file: The cached features.
        manifest: Their images.
        head_folder: The trained head to start from.
        options: The section `finetune`; `unfreeze` is not "none".
        train: The section `train`: class weights, and how many training images are used.
        extract: The section `extract`, as the features were made with.
        store: The feature store; the user's by default.
        outputs: The files to write.

    Raises:
        InputError: see `headstart.finetuning.finetune.finetune`.
    """
    outputs = outputs or Outputs()
    started = time.perf_counter()
    data = TrainingData.from_file(
        file,
        class_weight=train.class_weight,
        min_validation=train.min_validation,
        folds_below=train.folds_below,
        streaming_above=train.streaming_above,
        seed=train.seed,
    )
    if train.shots is not None:
        data = data.few(train.shots, train.seed)
    # Here, so that a run with nothing to unfreeze imports no TensorFlow.
    from headstart.finetuning.finetune import Job, finetune

    job = Job(
        file=file,
        manifest=manifest,
        data=data,
        head=load(head_folder),
        head_folder=head_folder,
        options=options,
        extract=extract,
        store=store or FeatureStore(),
    )
    outcome = finetune(job, outputs.model)
    write_json(outputs.metrics, _content(outcome, data, options))
    write_fit_plots(outputs.plots, [], outcome.history)
    epochs = len(outcome.history)
    timing = {
        "seconds": round(time.perf_counter() - started, 3),
        "seconds_per_epoch": round(outcome.seconds / epochs, 3) if epochs else None,
    }
    write_json(outputs.timing, timing)


def _content(outcome: "Outcome", data: TrainingData, options: FinetuneOptions) -> dict[str, Any]:
    known = outcome.card.head
    content: dict[str, Any] = {
        "unfreeze": options.unfreeze,
        "cut": outcome.card.cut,
        "head": outcome.card.start.name,
        "trunk": outcome.trunk,
        "epochs": len(outcome.history),
        "best_epoch": outcome.best_epoch,
        "temperature": known.temperature,
        "parameters": known.parameters,
        "parity": None,
    }
    if outcome.parity is not None:
        parity = outcome.parity
        # Three digits: the rest is the rounding noise of one machine.
        content["parity"] = {
            name: float(f"{getattr(parity, name):.2e}") for name in ("features", "head", "logits")
        }
    for split, wanted in (("train", data.train_images), ("validation", data.validation)):
        chosen = np.isin(outcome.rows, wanted)
        if not chosen.any():
            continue
        logits, labels = outcome.logits[chosen], data.label[outcome.rows[chosen]]
        content[split] = scores(
            labels,
            softmax(logits, known.temperature),
            known.class_names,
            uncalibrated=softmax(logits) if split == "validation" else None,
        )
    return content


def skip(outputs: Outputs) -> None:
    """Write the outputs of a run in which nothing is unfrozen: no model."""
    outputs.model.mkdir(parents=True, exist_ok=True)
    card.remove(outputs.model)
    outputs.plots.mkdir(parents=True, exist_ok=True)
    for curve in outputs.plots.glob("*.csv"):
        curve.unlink()
    # DVC warns of empty folders, and git would lose them.
    for folder in (outputs.model, outputs.plots):
        write_json(folder / "skipped.json", {"unfreeze": "none"})
    write_json(outputs.metrics, {"unfreeze": "none"})
    write_json(outputs.timing, {"seconds": 0.0})


def main(arguments: Sequence[str]) -> None:
    """Fine-tune as params.yaml says."""
    params = load_params()
    options = params.finetune
    if options.unfreeze == "none":
        skip(Outputs())
        return
    if options.head not in params.train.heads:
        raise InputError(
            f"params.yaml: finetune.head: expected one of train.heads "
            f"({', '.join(params.train.heads)}), received {options.head}"
        )
    run(
        FeatureFile.open(FEATURES),
        read_manifest(MANIFEST),
        MODELS / options.head,
        options,
        params.train,
        params.extract,
    )


if __name__ == "__main__":
    exit_with(main)
