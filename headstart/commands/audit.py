"""`headstart audit`: what may be wrong with the labels, pictures and classes."""

import argparse
import csv

from rich.console import Console

from headstart.audit.audit import audit
from headstart.audit.options import AuditOptions
from headstart.audit.table import KINDS
from headstart.commands import arguments
from headstart.commands.tables import Column, Table, fit, output_width
from headstart.common import places
from headstart.common.files import read_json
from headstart.common.params import load_section
from headstart.common.text import printable
from headstart.report.options import ReportOptions
from headstart.report.results import RunPlaces
from headstart.report.writing import write_report

_SUSPECTS = 200
_SHOWN = 10
_MEANINGS: dict[str, str] = {
    "label": "label likely wrong",
    "conflict": "one picture, two labels",
    "outlier": "unlike all others",
    "blank": "shows nothing",
    "blurred": "blurred",
    "dark": "dark",
    "tiny": "few pixels",
    "aspect": "long or tall",
    "merge": "classes not told apart",
    "few": "class with too few images",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--suspects",
        type=arguments.whole_number(1, 100_000),
        metavar="N",
        help=f"list at most N images of each kind (default: audit.suspects, or {_SUSPECTS} where "
        "that is 0)",
    )
    parser.epilog = (
        f"Everything is told from features that are there: no backbone runs. {places.AUDIT} and "
        f"{places.REPORT} hold what was found; decide there, save corrections.csv and name it in "
        "prepare.corrections. With audit.suspects in params.yaml, `dvc repro` audits each time; "
        "at 0 its next run empties the list again."
    )


def run(args: argparse.Namespace) -> int:
    """Audit the last run's data, print the worst, and renew the page.

    Raises:
        InputError: there is no finished run, or its files do not fit together.
    """
    options = load_section("audit", AuditOptions)
    wanted = args.suspects or options.suspects or _SUSPECTS
    audit(
        options.model_copy(update={"suspects": wanted}),
        features=places.FEATURES,
        manifest=places.MANIFEST,
        suspects=places.AUDIT,
        evidence=places.AUDIT_NEIGHBORS,
        metrics=places.AUDIT_METRICS,
    )
    write_report(
        places.REPORT,
        load_section("report", ReportOptions),
        RunPlaces(comparison=places.COMPARISON),
    )
    _print()
    return 0


def _print() -> None:
    counts = read_json(places.AUDIT_METRICS)
    console = Console(soft_wrap=True, markup=False)
    found = [kind for kind in KINDS if counts[kind]]
    if found:
        for line in _table().lines:
            console.print(line, highlight=False)
        console.print()
    told = ", ".join(f"{counts[kind]:,} {kind}" for kind in found) or "nothing to look at"
    console.print(f"{counts['images']:,} images: {told}", highlight=False)
    if counts["judged"] < counts["images"]:
        console.print(
            f"{counts['images'] - counts['judged']:,} labels were not judged: they are in classes "
            "of which nothing can be held out",
            highlight=False,
        )
    if found and counts["judged"]:
        console.print(
            f"About {counts['label_errors']:.0f} labels are wrong, by the sum of their scores",
            highlight=False,
        )
    console.print(
        f"{places.AUDIT}  {places.REPORT}: decide there, save corrections.csv, set "
        "`prepare.corrections: corrections.csv`, `dvc repro`",
        highlight=False,
    )


def _table() -> Table:
    rows: list[tuple[str, ...]] = []
    shown: dict[str, int] = dict.fromkeys(KINDS, 0)
    with places.AUDIT.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            kind = row["kind"]
            shown[kind] += 1
            if shown[kind] <= _SHOWN:
                given, suggested, path = (
                    printable(row[name]) for name in ("given", "suggested", "path")
                )
                score = f"{float(row['score']):.2f}"
                rows.append((_MEANINGS[kind], score, given, suggested, path))
    headings = ("kind", "score", "given", "suggested", "image")
    return fit(
        [
            Column(heading, cells, right=heading == "score")
            for heading, cells in zip(headings, zip(*rows, strict=True), strict=True)
        ],
        output_width(),
        names=len(headings) - 1,
    )
