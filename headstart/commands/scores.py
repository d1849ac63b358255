"""`headstart scores`: scores of every head, the chosen one, where to find things."""

import argparse
import json
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from headstart.common.errors import InputError
from headstart.common.files import read_json
from headstart.common.places import (
    EXTRACT_METRICS,
    FEATURES,
    FINETUNE_METRICS,
    HEADS,
    HEADS_METRICS,
    REPORT,
    SUMMARY_METRICS,
    TEST_METRICS,
)
from headstart.common.places import FINETUNED as FINETUNED_FOLDER
from headstart.common.project import missing
from headstart.heads.finetuned_card import NAME as FINETUNED
from headstart.scoring.metrics import WITHOUT_IMAGES, named

_Models = dict[str, tuple[dict[str, Any] | None, dict[str, Any]]]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")


def run(args: argparse.Namespace) -> int:
    """Print the table of the last run.

    Raises:
        InputError: there is no finished run, or its metrics cannot be read.
    """
    test, own = read_metrics(TEST_METRICS), read_metrics(HEADS_METRICS)
    try:
        selected, extract = test["selected"], read_metrics(EXTRACT_METRICS)
        cost = {"feature_dim": extract["feature_dim"], **extract["cost"]}
        models: _Models = {
            name: (own[name]["validation"], scores) for name, scores in test["heads"].items()
        }
        if "finetuned" in test:
            validation = read_metrics(FINETUNE_METRICS).get("validation")
            models[FINETUNED] = (validation, test["finetuned"])
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{TEST_METRICS}: expected the metrics of a finished run, but {error} is missing: run "
            "`dvc repro` to write them again"
        ) from None
    if args.json:
        rows = {
            name: {"validation": validation, "test": scores}
            for name, (validation, scores) in models.items()
        }
        content = {"heads": rows, "selected": selected, "cost": cost}
        print(json.dumps(content, indent=2, ensure_ascii=False))
        return 0
    console = Console(soft_wrap=True)
    console.print(_table(models, selected["head"]))
    console.print(
        "Accuracy on validation and test images, with its 95 % interval; the rest on test images.",
        style="dim",
    )
    for line in _held_out(models):
        console.print(line, highlight=False)
    console.print(
        f"Features: {cost['feature_dim']:,} per image, from {cost['multiply_adds'] / 1e6:,.1f} M "
        f"multiply-adds and {cost['parameters'] / 1e6:,.1f} M parameters",
        highlight=False,
    )
    for line in (*_gaps(models), *_repeats(models)):
        console.print(line, highlight=False)
    counted = selected.get("held_out_images")
    chosen = f"Selected on {f'{counted:,} held-out images' if counted else 'validation'}"
    chosen += f": {selected['head']}"
    if selected.get("selected_by") == "default":
        chosen = (
            f"Selected: {selected['head']}, the first in params.yaml, since no image could be held "
            "out to choose by"
        )
    if selected.get("tie"):
        chosen += f", a tie with {selected['runner_up']}"
    console.print(chosen, highlight=False)
    folder = FINETUNED_FOLDER if selected["head"] == FINETUNED else HEADS / selected["head"]
    console.print(
        f"{FEATURES}  {folder}/  metrics/  plots/ (`dvc plots show`)"
        + (f"  {REPORT}" if REPORT.is_file() else ""),
        highlight=False,
    )
    return 0


def _held_out(models: _Models) -> list[str]:
    """Say what is called validation: where its images are few, it is a cross-validation."""
    names: dict[str, list[str]] = {}
    for name, (validation, _) in models.items():
        if validation and validation.get("images"):
            told = f"{validation['images']:,} images"
            if folds := validation.get("folds"):
                told = f"{folds}-fold, {told}"
            names.setdefault(told, []).append(name)
    if len(names) == 1:
        return [f"Validation: {told}" for told in names]
    return [f"Validation of {', '.join(own)}: {told}" for told, own in names.items()]


def _gaps(models: _Models) -> list[str]:
    """Say of which classes the scores say nothing."""
    found = []
    for split, position in (("validation", 0), ("test", 1)):
        blocks = [block for pair in models.values() if (block := pair[position])]
        if any(block.get("images") == 0 for block in blocks):
            found.append(f"No {split} image: there are no {split} scores.")
            continue
        lacking = {name: None for block in blocks for name in block.get(WITHOUT_IMAGES, ())}
        if lacking:
            found.append(
                f"No {split} image of {named(lacking)}, which {split} scores therefore leave out: "
                "balanced accuracy and F1 are means over the other classes."
            )
    return found


def _repeats(models: _Models) -> list[str]:
    """Tell how test scores spread over the draws of few-shot runs."""
    return [
        f"{name}: test accuracy {told['accuracy_mean']:.3f} +- {told['accuracy_std']:.3f}, mean "
        f"and standard deviation over {told['count']} draws"
        for name, (_, scores) in models.items()
        if "accuracy_mean" in (told := scores.get("repeats", {}))
    ]


def _shown(scores: dict[str, Any] | None, name: str) -> str:
    return f"{scores[name]:.3f}" if scores and name in scores else ""


def _table(models: _Models, selected: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    table.add_column("head", no_wrap=True)
    for heading in ("validation", "test", "interval", "balanced", "F1", "log loss"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, (validation, scores) in models.items():
        interval = scores.get("intervals", {}).get("accuracy")
        table.add_row(
            name + (" *" if name == selected else ""),
            _shown(validation, "accuracy"),
            _shown(scores, "accuracy"),
            f"{interval[0]:.3f}-{interval[1]:.3f}" if interval else "",
            *(_shown(scores, score) for score in ("balanced_accuracy", "macro_f1", "log_loss")),
            style="bold" if name == selected else "",
        )
    return table


def read_metrics(path: Path) -> Any:
    """Read one file of metrics.

    Raises:
        InputError: it is missing or no JSON.
    """
    try:
        return read_json(path)
    except ValueError as error:
        raise InputError(
            f"{path}: not valid JSON ({error}): run `dvc repro` to write it again"
        ) from None
    except FileNotFoundError:
        remedy = "there is no finished run yet; run `dvc repro`"
        if SUMMARY_METRICS.is_file():
            # A clone has what git keeps, and nothing of what DVC keeps.
            remedy = (
                "`dvc metrics show` prints the scores that came with the project; run `dvc repro` "
                "to have them all, or `dvc pull` where DVC has a remote"
            )
        raise missing(path, remedy) from None
