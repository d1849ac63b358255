"""`headstart scores`: every head's validation and test scores, the chosen one, where things lie."""

import argparse
import json
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from headstart.common.errors import InputError

TEST_METRICS = Path("metrics/test.json")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")


def run(args: argparse.Namespace) -> int:
    """Print the table of the last run."""
    test = _read(TEST_METRICS)
    selected, cost = test.pop("selected"), test.pop("cost")
    heads = {
        name: (_read(Path("metrics") / f"{name}.json"), scores) for name, scores in _heads(test)
    }
    if args.json:
        rows = {
            name: {"validation": own["validation"], "test": scores}
            for name, (own, scores) in heads.items()
        }
        content = {"heads": rows, "selected": selected, "cost": cost}
        print(json.dumps(content, indent=2, ensure_ascii=False))
        return 0
    console = Console(soft_wrap=True)
    console.print(_table(heads, selected["head"]))
    console.print(
        "Accuracy on validation and test images, with its 95 % interval; the rest on test images.",
        style="dim",
    )
    console.print(
        f"Features: {cost['feature_dim']:,} per image, from {cost['multiply_adds'] / 1e6:,.1f} M "
        f"multiply-adds and {cost['parameters'] / 1e6:,.1f} M parameters",
        highlight=False,
    )
    told = f"Selected on validation: {selected['head']}"
    if selected.get("tie"):
        told += f", a tie with {selected['runner_up']}"
    console.print(told, highlight=False)
    console.print(
        f"features/bottleneck.h5  models/{selected['head']}/  metrics/  plots/ (`dvc plots show`)"
        + ("  report/index.html" if Path("report/index.html").is_file() else ""),
        highlight=False,
    )
    return 0


def _heads(test: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(name, scores) for name, scores in test.items() if "accuracy" in scores]


def _table(heads: dict[str, tuple[dict[str, Any], dict[str, Any]]], selected: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.add_column("head", no_wrap=True)
    for heading in ("validation", "test", "interval", "balanced", "F1", "log loss"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, (own, scores) in heads.items():
        interval = scores.get("intervals", {}).get("accuracy")
        table.add_row(
            name + (" *" if name == selected else ""),
            f"{own['validation']['accuracy']:.3f}",
            f"{scores['accuracy']:.3f}",
            f"{interval[0]:.3f}-{interval[1]:.3f}" if interval else "",
            f"{scores['balanced_accuracy']:.3f}",
            f"{scores['macro_f1']:.3f}",
            f"{scores['log_loss']:.3f}",
            style="bold" if name == selected else "",
        )
    return table


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{path} not found: expected the metrics of a finished run; run `dvc repro` first"
        ) from None
