"""Read features/bottleneck.h5, write one head's weights, scores and curves."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headstart.commands.params import load_params
from headstart.common.errors import InputError, exit_with
from headstart.common.files import write_json
from headstart.features.file import FeatureFile
from headstart.heads import create, is_cheap
from headstart.heads.base import FitReport, Head
from headstart.heads.data import TrainingData
from headstart.heads.learning_curve import learning_curve
from headstart.heads.options import TrainOptions
from headstart.scoring.calibration import softmax
from headstart.scoring.curves import write_fit_plots
from headstart.scoring.metrics import scores
from headstart.scoring.predictions import Predictions

FEATURES = Path("features/bottleneck.h5")
MODELS = Path("models")
METRICS = Path("metrics")
PLOTS = Path("plots/train")
HELD_OUT_FILE = "held_out.h5"


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where one head's results go.

    Attributes:
        model: Folder of weights, card and held-out predictions.
        metrics: Its scores.
        timing: Its seconds, kept apart from what is compared.
        plots: Folder of its curves.
    """

    model: Path
    metrics: Path
    timing: Path
    plots: Path

    @classmethod
    def of(cls, name: str) -> "Outputs":
        """Return the places that dvc.yaml gives the head called `name`."""
        return cls(
            model=MODELS / name,
            metrics=METRICS / f"{name}.json",
            timing=METRICS / "timing" / f"{name}.json",
            plots=PLOTS / name,
        )


def run(name: str, file: FeatureFile, options: TrainOptions, outputs: Outputs) -> None:
    """Fit the head called `name`, once or `options.repeats` times, and write what came of it.

    The first repeat is the model; further ones only tell the spread.
    """
    started = time.perf_counter()
    results = []
    for repeat in range(options.repeats):
        seed = (options.seed + repeat) % 2**32
        data = TrainingData.from_file(
            file,
            class_weight=options.class_weight,
            min_validation=options.min_validation,
            folds_below=options.folds_below,
            streaming_above=options.streaming_above,
            seed=seed,
        )
        if options.shots is not None:
            data = data.few(options.shots, seed)
        head = create(options.heads[name], seed)
        report = head.fit(data, refit=options.refit)
        folder = outputs.model if repeat == 0 else outputs.model / "repeats" / str(repeat)
        head.save(folder)
        results.append(_scores(head, report, data))
        if repeat == 0:
            held_out = softmax(report.logits, head.card.temperature)
            Predictions(file.image[report.held_out], held_out).write(folder / HELD_OUT_FILE)
            wanted = options.learning_curve
            learning = (
                learning_curve(options.heads[name], data, seed)
                if wanted == "all" or (wanted == "cheap" and is_cheap(options.heads[name]))
                else []
            )
            write_fit_plots(outputs.plots, head.card.curve, report.history, learning)
    content = results[0]
    if options.repeats > 1:
        content["repeats"] = _spread(results)
    write_json(outputs.metrics, content)
    write_json(outputs.timing, {"seconds": round(time.perf_counter() - started, 3)})


def _scores(head: Head, report: FitReport, data: TrainingData) -> dict[str, Any]:
    rows, card = data.train_images, head.card
    logits = head.predict_logits(data.features, rows)
    # Folds hold out training images too; scores of validation images compare across heads.
    judged = np.isin(report.held_out, data.validation) | (not data.validation_suffices)
    held_out = report.logits[judged]
    return {
        "setting": card.setting,
        "selected_by": card.selected_by,
        "temperature": card.temperature,
        "parameters": card.parameters,
        "train": scores(data.label[rows], softmax(logits, card.temperature), card.class_names),
        "validation": scores(
            data.label[report.held_out[judged]],
            softmax(held_out, card.temperature),
            card.class_names,
            uncalibrated=softmax(held_out),
        ),
    }


def _spread(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation of the validation scores over the repeats."""
    names = ("accuracy", "balanced_accuracy", "macro_f1", "log_loss")
    values = {name: [result["validation"][name] for result in results] for name in names}
    return {
        "count": len(results),
        **{f"{name}_mean": float(np.mean(values[name])) for name in names},
        **{f"{name}_std": float(np.std(values[name], ddof=1)) for name in names},
    }


def main(arguments: Sequence[str]) -> None:
    """Train the head that the command line names."""
    options = load_params().train
    names = ", ".join(options.heads)
    if len(arguments) != 1 or arguments[0] not in options.heads:
        raise InputError(
            f"train: expected the name of one head of params.yaml ({names}), "
            f"received {' '.join(arguments) or 'nothing'}"
        )
    (name,) = arguments
    run(name, FeatureFile.open(FEATURES), options, Outputs.of(name))


if __name__ == "__main__":
    exit_with(main)
