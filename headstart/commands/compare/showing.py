"""A comparison as a table for people, as CSV, as JSON, and as a picture."""

import csv
import io
import json
from pathlib import Path
from typing import Literal

from rich.table import Table

from headstart.commands.compare.halving import Reason
from headstart.commands.compare.results import Comparison, Result, Standing
from headstart.common.files import atomic_write

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
    "computed", "seconds",
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


def as_table(comparison: Comparison) -> Table:
    """Return one row per candidate that ran on all images."""
    table = Table()
    table.add_column("", justify="center")
    table.add_column("candidate")
    table.add_column("head")
    for heading in ("validation", "test", "95 % interval"):
        table.add_column(heading, justify="right")
    table.add_column("on test")
    for heading in ("ms/image", "M multiply-adds", "MB"):
        table.add_column(heading, justify="right")
    for result in comparison.results:
        table.add_row(
            "*" if result.on_front else "",
            result.label,
            result.head,
            f"{result.merit.validation_accuracy:.4f}",
            f"{result.accuracy:.4f}",
            f"{result.interval[0]:.3f} to {result.interval[1]:.3f}" if result.interval else "",
            _STANDINGS[result.against_winner],
            f"{result.time.milliseconds:.2f}",
            f"{result.merit.multiply_adds / 1e6:,.0f}",
            f"{result.megabytes:.1f}",
            style="bold" if result.against_winner == "winner" else "",
        )
    return table


def notes(comparison: Comparison) -> list[str]:
    """Return what the table cannot say, one sentence per line."""
    lines = [
        "* no other scores as high on test at less time, or higher at as little (Pareto front)",
        f"Chosen on validation, of equals the cheaper: {comparison.winner}. {_ties(comparison)}",
    ]
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
        lines.append("Times were measured while other programs ran: they are too long.")
    (winner,) = (one for one in comparison.results if one.label == comparison.winner)
    lines.append(f"Experiments: `dvc exp show`; take one over: `dvc exp apply {winner.experiment}`")
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


def draw(comparison: Comparison, path: Path) -> None:
    """Draw test accuracy against the time of one pass.

    Args:
        comparison: What was found.
        path: The picture; its ending chooses the format.
    """
    # Takes a third of a second to import.
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.patheffects import withStroke

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    front = sorted((one for one in comparison.results if one.on_front), key=_place)
    axes.plot(
        *zip(*map(_place, front), strict=True),
        drawstyle="steps-post",
        color="0.6",
        zorder=1,
        label="Pareto front",
    )
    for number, result in enumerate(comparison.results):
        milliseconds, accuracy = _place(result)
        low, high = result.interval or (result.accuracy, result.accuracy)
        winner = result.against_winner == "winner"
        axes.errorbar(
            milliseconds,
            accuracy,
            yerr=[[accuracy - 100 * low], [100 * high - accuracy]],
            fmt="o" if result.on_front else "s",
            markersize=9 if winner else 6,
            color="tab:blue" if result.on_front else "0.45",
            capsize=3,
            zorder=2,
        )
        # By turns at the lower and the upper end of the interval, so that names stay apart.
        above = number % 2 == 1
        axes.annotate(
            f"{result.label}{' (chosen)' if winner else ''}",
            (milliseconds, 100 * (high if above else low)),
            textcoords="offset points",
            xytext=(0, 6 if above else -6),
            horizontalalignment="center",
            verticalalignment="bottom" if above else "top",
            fontweight="bold" if winner else "normal",
            path_effects=[withStroke(linewidth=3, foreground="white")],
        )
    axes.set_xscale("log")
    for axis in ("major", "minor"):
        getattr(axes.xaxis, f"set_{axis}_formatter")("{x:g}")
    axes.margins(x=0.25, y=0.12)
    axes.set_title("Test accuracy against the cost of one pass")
    axes.set_xlabel("time of one pass, milliseconds per image (logarithmic)")
    axes.set_ylabel("test accuracy in %, 95 % interval")
    axes.grid(alpha=0.3, which="both")
    axes.legend(loc="lower right")
    # Without dates and random names, the same comparison is the same picture.
    with atomic_write(path) as temporary, rc_context({"svg.hashsalt": "headstart"}):
        figure.savefig(temporary, dpi=150, metadata=_UNDATED.get(path.suffix.lower()))


_UNDATED: dict[str, dict[str, str | None]] = {
    ".svg": {"Date": None},
    ".pdf": {"CreationDate": None},
}


def _place(result: Result) -> tuple[float, float]:
    return result.time.milliseconds, 100 * result.accuracy
