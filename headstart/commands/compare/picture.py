"""A comparison as a picture: accuracies with their intervals, and beside them what they cost."""

import textwrap
from pathlib import Path

from headstart.commands.compare.results import Comparison, Result
from headstart.commands.compare.showing import count, duration
from headstart.common.files import atomic_write

_FRONT, _BEHIND = "#1f6fb4", "#8a8a8a"
_UNDATED: dict[str, dict[str, str | None]] = {
    ".svg": {"Date": None},
    ".pdf": {"CreationDate": None},
}
_ROW, _AROUND = 0.62, 2.0
"""Inches of a candidate, and of title, axes and legend."""


def draw(comparison: Comparison, path: Path) -> None:
    """Draw one row per candidate, the cheapest first: test accuracy, and beside it the cost.

    Args:
        comparison: What was found.
        path: The picture; its ending chooses the format.
    """
    # Takes a third of a second to import.
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    results = sorted(comparison.results, key=lambda one: one.cost(comparison.cost))
    figure = Figure(figsize=(10, _AROUND + _ROW * len(results)), layout="constrained")
    accuracy, cost = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    for row, one in enumerate(results):
        color = _FRONT if one.on_front else _BEHIND
        low, high = one.interval or (one.accuracy, one.accuracy)
        winner = one.against_winner == "winner"
        accuracy.plot((100 * low, 100 * high), (row, row), color=color, linewidth=2.5, alpha=0.6)
        accuracy.plot(100 * one.accuracy, row, "D" if winner else "o", color=color, markersize=10)
        accuracy.annotate(
            f"{100 * one.accuracy:.1f}",
            (100 * one.accuracy, row),
            textcoords="offset points",
            xytext=(0, 10),
            horizontalalignment="center",
            fontweight="bold" if winner else "normal",
        )
        spent = one.cost(comparison.cost)
        cost.barh(row, spent, height=0.45, color=color)
        cost.annotate(
            duration(spent) if comparison.cost == "training" else f"{spent:.2f} ms",
            (spent, row),
            textcoords="offset points",
            xytext=(5, 0),
            verticalalignment="center",
        )
    accuracy.set_yticks(range(len(results)), [_named(one, comparison) for one in results])
    for label, one in zip(accuracy.get_yticklabels(), results, strict=True):
        label.set_fontweight("bold" if one.against_winner == "winner" else "normal")
    accuracy.set_ylim(len(results) - 0.4, -0.6)
    accuracy.set_xlabel("test accuracy in %, with its 95 % interval")
    cost.set_xlabel(
        {
            "training": "time of training (s)",
            "pass": "time of one pass (ms per image)",
        }[comparison.cost]
    )
    cost.set_xlim(0, 1.25 * max(one.cost(comparison.cost) for one in results) or 1)
    cost.tick_params(axis="y", length=0)
    for axes in (accuracy, cost):
        axes.grid(axis="x", alpha=0.3)
        axes.set_axisbelow(True)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
    accuracy.tick_params(axis="y", length=0)
    figure.suptitle(_title(comparison), fontweight="bold")
    keys = [
        ("o", _FRONT, "none is as accurate for less (Pareto front)"),
        ("o", _BEHIND, "another is as accurate for less"),
        ("D", "black", "chosen by validation"),
    ]
    figure.legend(
        [Line2D([], [], marker=mark, color=color, linestyle="") for mark, color, _ in keys],
        [text for _, _, text in keys],
        loc="outside lower center",
        ncols=3,
        frameon=False,
        fontsize=10,
    )
    # Without dates and random names, the same comparison is the same picture.
    with atomic_write(path) as temporary, rc_context({"svg.hashsalt": "headstart"}):
        figure.savefig(temporary, dpi=150, metadata=_UNDATED.get(path.suffix.lower()))


def _named(result: Result, comparison: Comparison) -> str:
    chosen = " (chosen)" if result.against_winner == "winner" else ""
    name = textwrap.fill(result.label + chosen, 34, break_long_words=False, break_on_hyphens=False)
    if comparison.cost == "pass":
        return name
    return f"{name}\n{count(result.merit.trained_parameters)} weights learn"


def _title(comparison: Comparison) -> str:
    sizes = {(one.images, one.classes, len(one.predictions.right)) for one in comparison.results}
    if len(sizes) > 1:
        return comparison.subject
    images, classes, tested = sizes.pop()
    return (
        f"{comparison.subject}\n"
        f"{images:,} images of {classes:,} classes, accuracy on {tested:,} test images"
    )
