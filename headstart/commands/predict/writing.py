"""Predictions as lines of text: a table for people, CSV and JSON for programs, as they come."""

import csv
import io
import json
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from rich.cells import cell_len

from headstart.common.text import printable
from headstart.evaluation.operating import OperatingPoint
from headstart.inference.classifier import Prediction
from headstart.scoring.costs import NONE
from headstart.scoring.metrics import named as names_in_short

Format = Literal["table", "csv", "json"]
FORMATS: tuple[Format, ...] = ("table", "csv", "json")

ABSTAINED = "(unlike training)"
"""What the table shows in place of a class; a class may well be called unknown."""

DECIDED = "by cost"
UNDECIDED = "(none)"

_WIDEST = 60


Writer = Callable[[Sequence[Prediction]], str]


def make_writer(
    form: Format, class_names: Sequence[str], top: int, point: OperatingPoint | None = None
) -> tuple[str, Writer]:
    """Return the first line, empty if there is none, and what turns predictions into lines.

    Args:
        form: "table" (columns aligned within what is written at once), "csv" (a header, then one
            line per image), or "json" (JSON Lines: one object per line).
        class_names: One per column of the probabilities.
        top: How many classes to name.
        point: What decided; of what it does not decide nothing is written.
    """
    top = min(top, len(class_names))
    if form == "csv":
        columns = ["path", "prediction", "novelty", "abstained", *_added(point)]
        columns += [
            f"{name}_{rank + 1}" for rank in range(top) for name in ("class", "probability")
        ]
        return _csv_lines([columns]), lambda batch: _csv_lines(
            _csv_row(one, class_names, top, point) for one in batch
        )
    if form == "json":
        return "", lambda batch: "".join(_json_line(one, class_names, top, point) for one in batch)
    shown = [printable(name) for name in class_names]
    return "", lambda batch: _table(batch, shown, top)


def _added(point: OperatingPoint | None) -> list[str]:
    """Return the names of the fields that an operating point adds."""
    sets, costs = (point.sets, point.costs) if point else (None, None)
    return ["set"] * (sets is not None) + ["decision", "reason"] * (costs is not None)


def _decided(
    one: Prediction, class_names: Sequence[str], point: OperatingPoint | None
) -> dict[str, Any]:
    """Return these fields: the set, the class that is decided for, or why there is none."""
    decided = None if one.decision in (None, NONE) else class_names[one.decision]
    reason = "novelty" if one.abstained else "cost" if decided is None else None
    values = {"set": one.set_of(class_names), "decision": decided, "reason": reason}
    return {name: values[name] for name in _added(point)}


def _as_utf8(path: str | os.PathLike[str]) -> str:
    """Return a path as it is, except for bytes that are no UTF-8."""
    return os.fsencode(path).decode("utf-8", errors="backslashreplace")


def _csv_lines(rows: Sequence[list[str]] | Iterator[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _csv_row(
    one: Prediction, class_names: Sequence[str], top: int, point: OperatingPoint | None
) -> list[str]:
    named = one.top(class_names, top)
    novelty = "" if one.novelty is None else f"{one.novelty:.4f}"
    chosen = "" if one.abstained else named[0][0]
    abstained = "true" if one.abstained else "false"
    decided = _decided(one, class_names, point)
    if decided.get("set"):
        # A class may be called anything, so nothing could stand between two.
        decided["set"] = json.dumps(decided["set"], ensure_ascii=False)
    added = ["" if value is None else value for value in decided.values()]
    return [_as_utf8(one.path), chosen, novelty, abstained, *added] + [
        word for name, probability in named for word in (name, f"{probability:.6f}")
    ]


def _json_line(
    one: Prediction, class_names: Sequence[str], top: int, point: OperatingPoint | None
) -> str:
    named = one.top(class_names, top)
    content = {
        "path": _as_utf8(one.path),
        "prediction": None if one.abstained else named[0][0],
        "novelty": None if one.novelty is None else round(one.novelty, 4),
        "abstained": one.abstained,
        **_decided(one, class_names, point),
        "classes": [
            {"class": name, "probability": round(probability, 6)} for name, probability in named
        ],
    }
    return json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n"


def _table(batch: Sequence[Prediction], class_names: Sequence[str], top: int) -> str:
    paths = [printable(one.path) for one in batch]
    width = min(_WIDEST, max(map(cell_len, paths), default=0))
    longest = max(map(cell_len, (*class_names, ABSTAINED)))
    lines = []
    for path, one in zip(paths, batch, strict=True):
        named = one.top(class_names, top)
        novelty = "" if one.novelty is None else f"novelty {one.novelty:5.2f}  "
        chosen = ABSTAINED if one.abstained else named[0][0]
        classes = ", ".join(f"{name} {probability:.1%}" for name, probability in named)
        line = f"{_pad(path, width)}  {_pad(chosen, longest)}  {novelty}{classes}"
        members = one.set_of(class_names)
        if members is not None:
            line += f"  {{{names_in_short(members)}}}"
        if one.decision == NONE:
            line += f"  {DECIDED} {UNDECIDED}"
        elif one.decision is not None and class_names[one.decision] != chosen:
            line += f"  {DECIDED} {class_names[one.decision]}"
        lines.append(f"{line}\n")
    return "".join(lines)


def _pad(text: str, width: int) -> str:
    # A Korean letter takes two columns, so the number of characters will not do.
    return text + " " * (width - cell_len(text))
