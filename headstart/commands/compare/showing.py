"""A comparison as a table for people, as CSV and as JSON."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from headstart.commands.compare.halving import Reason
from headstart.commands.compare.results import Comparison, Result, Standing
from headstart.commands.tables import Column, Table, fit
from headstart.common import places
from headstart.heads.finetuned_card import NAME as FINETUNED

Format = Literal["table", "csv", "json"]
FORMATS: tuple[Format, ...] = ("table", "csv", "json")

_STANDINGS: dict[Standing | None, str] = {
    "winner": "chosen",
    "tie": "tie",
    "better": "better",
    "worse": "worse",
    None: "",
}
_REASONS: dict[Reason, str] = {
    "worse": "the best of that round is better by more than chance",
    "tie": "a cheaper one was as accurate",
}
_CSV_COLUMNS = (
    "label", "experiment", "head", "validation_accuracy", "accuracy", "low", "high",
    "against_winner", "on_front", "milliseconds", "multiply_adds", "parameters", "megabytes",
    "training_seconds", "trained_parameters", "computed", "seconds",
)  # fmt: skip


def as_json(comparison: Comparison) -> str:
    """Return the whole record."""
    return json.dumps(comparison.as_dict(), indent=2, ensure_ascii=False, allow_nan=False)


def as_csv(comparison: Comparison) -> str:
    """Return one line per candidate that ran on all images, below a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _CSV_COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for candidate in comparison.as_dict()["candidates"]:
        low, high = candidate["interval"] or ("", "")
        writer.writerow({**candidate, "low": low, "high": high})
    return text.getvalue().rstrip("\n")


def as_table(comparison: Comparison, width: int | None = None) -> Table:
    """Return one row per candidate that ran on all images.

    Args:
        comparison: What was found.
        width: Columns of text that there are; None for as many as it takes.
    """
    results = comparison.results
    by_training = comparison.cost == "training"
    columns = [
        Column("candidate", [one.label for one in results], right=False),
        Column("model", [one.head for one in results], right=False, spare=4),
        Column("validation", [f"{one.merit.validation_accuracy:.3f}" for one in results], spare=1),
        Column("test", [f"{one.accuracy:.3f}" for one in results]),
        Column("95 % interval", [_interval(one) for one in results]),
        Column("vs chosen", [_STANDINGS[one.against_winner] for one in results], right=False),
        Column("front", ["*" if one.on_front else "" for one in results], right=False, spare=2),
        Column("ms/image", [f"{one.time.milliseconds:.2f}" for one in results], spare=3),
        Column(
            "M multiply-adds",
            [f"{one.merit.multiply_adds / 1e6:,.0f}" for one in results],
            spare=6,
        ),
        Column("MB", [f"{one.megabytes:.1f}" for one in results], spare=5),
    ]
    if by_training:
        training = [duration(one.cost("training")) for one in results]
        learned = [count(one.merit.trained_parameters) for one in results]
        columns[7:7] = [Column("training", training), Column("trained", learned, spare=3)]
        # Fine-tuning changes no cost of a pass.
        columns[9] = replace(columns[9], spare=7)
    else:
        columns[7] = replace(columns[7], spare=0)
    winner = [number for number, one in enumerate(results) if one.against_winner == "winner"]
    return fit(columns, width, bold=winner)


def _interval(result: Result) -> str:
    return f"{result.interval[0]:.3f}-{result.interval[1]:.3f}" if result.interval else ""


def duration(seconds: float) -> str:
    """Return a time as people say it: 0.4 s, 95 s, 3.6 min, 12 min, 3.5 h."""
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.1f} min" if seconds < 600 else f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def count(number: int) -> str:
    """Return a number as people say it: 2,562, 43 k, 3.4 M."""
    if number < 10_000:
        return f"{number:,}"
    return f"{number / 1e3:.0f} k" if number < 1e6 else f"{number / 1e6:.1f} M"


def notes(comparison: Comparison, left_out: Sequence[str] = ()) -> list[str]:
    """Return what the table cannot say, one sentence per line.

    Args:
        comparison: What was found.
        left_out: Columns that the table had no room for.
    """
    lines = []
    if left_out:
        lines.append(
            f"Left out for want of room: {', '.join(left_out)} (`--format csv` has them, and "
            f"{places.COMPARISON})."
        )
    if "front" not in left_out:
        cheaper = {"pass": "faster", "training": "faster to train"}[comparison.cost]
        lines.append(
            f"* front: nothing else is at least as accurate on test and {cheaper} (Pareto front)."
        )
    lines += [
        f"Chosen on {_held_out(comparison)}, of equals the cheaper: {comparison.winner}. "
        f"{_ties(comparison)}",
    ]
    if comparison.cost == "training":
        lines += _on_training(comparison)
    for one in comparison.dropped:
        lines.append(
            f"Dropped at {one.share:.0%} of the images: {one.candidate}, validation accuracy "
            f"{one.merit.validation_accuracy:.4f}, {one.merit.multiply_adds / 1e6:,.0f} M "
            f"multiply-adds, log loss {one.merit.validation_log_loss:.3f}; {_REASONS[one.reason]}"
        )
    lines += [f"Failed, see its message above: {label}" for label in comparison.failed]
    lines.append(
        f"Forward passes: {comparison.computed:,} images in this run; all candidates on all "
        f"images from an empty feature store are {comparison.without_budget:,}."
    )
    if any(one.time.busy for one in comparison.results):
        lines.append("Times were measured while other programs ran, so they are overestimates.")
    (winner,) = (one for one in comparison.results if one.label == comparison.winner)
    lines.append(
        "Experiments: `dvc exp show --only-changed`; take one over: "
        f"`dvc exp apply {winner.experiment}`"
    )
    return lines


def _held_out(comparison: Comparison) -> str:
    numbers = {len(one.held_out.right) for one in comparison.results}
    return f"{numbers.pop():,} held-out images" if len(numbers) == 1 else "validation"


def _on_training(comparison: Comparison) -> list[str]:
    """Say what was trained where how much of the network learns is compared."""
    heads = [one for one in comparison.results if one.head != FINETUNED]
    frozen = sorted({one.head for one in heads})
    lines = [
        "training: seconds in which weights learned on this machine, without the one pass that "
        "computes the features; trained: how many weights."
    ]
    if frozen:
        lines.append(
            f"frozen: the head {', '.join(frozen)} on features of the pretrained network. "
            "Fine-tuning starts from the same head"
            + (
                ", but learns from training images alone; the frozen one has learned from "
                "validation images, too (train.refit)."
                if any(one.refit for one in heads)
                else "."
            )
        )
    return lines


def _ties(comparison: Comparison) -> str:
    tied = [one.label for one in comparison.results if one.against_winner == "tie"]
    how = {
        "paired interval": "paired on the same test images",
        "overlapping intervals": "their 95 % intervals overlap",
    }[comparison.method]
    if tied:
        return f"On test it cannot be told from {', '.join(tied)} ({how})."
    return f"On test no other ties with it ({how.replace('overlap', 'do not overlap')})."
