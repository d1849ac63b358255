"""`headstart advise`: recommend a strategy and a cut, with the evidence."""

import argparse
import json
import math
import sys
from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from ruamel.yaml import YAML

from headstart.commands.advise.advice import Advice, advise
from headstart.commands.advise.evidence import Evidence
from headstart.commands.advise.recommendation import points
from headstart.commands.advise.search import describe
from headstart.commands.yaml_text import changed
from headstart.common import places
from headstart.common.files import atomic_write
from headstart.common.params import PARAMS_FILE
from headstart.common.progress import notify
from headstart.configuration.params import check_params, load_params
from headstart.dataset.manifest import read_manifest
from headstart.features.file import FeatureFile
from headstart.scoring.metrics import named

_ANY_WIDTH = 1000
"""Columns that a table may need."""

_MINUTES = 5.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--minutes",
        type=_minutes,
        default=_MINUTES,
        help="what pilots of fine-tuning may take; 0 runs none (default: %(default)g)",
    )
    parser.add_argument(
        "--apply",
        action="store_true",
        help=f"write the recommendation into {PARAMS_FILE}; its comments are kept",
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.epilog = (
        "Looks at training and validation images only, without augmented views. Needs the features "
        "of `dvc repro extract`; those at other cuts are computed in one pass and kept in the "
        "feature store. Pilots are kept too: a second call with the same data takes them over, "
        "with the time they took, and one with more minutes goes on from there. The first call on "
        "a machine also times the backbone's training, which takes up to a minute."
    )


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = math.nan
    if not 0 <= minutes < math.inf:
        raise argparse.ArgumentTypeError(f"expected minutes, 0 or more; received {text}")
    return minutes


def run(args: argparse.Namespace) -> int:
    """Gather the evidence, print it, and apply the advice if asked to."""
    params = load_params()
    file, manifest = FeatureFile.open(places.FEATURES), read_manifest(places.MANIFEST)
    advice = advise(file, manifest, params, minutes=args.minutes, tell=notify)
    if args.json:
        print(json.dumps(_as_dict(advice), indent=2))
    else:
        _print(advice)
    if args.apply:
        changes = advice.recommendation.changes
        text = changed(PARAMS_FILE.read_text(encoding="utf-8"), changes)
        check_params(YAML(typ="safe").load(text), PARAMS_FILE)
        with atomic_write(PARAMS_FILE) as temporary:
            temporary.write_text(text, encoding="utf-8")
        if not args.json:
            print(f"Written into {PARAMS_FILE}; `dvc repro` runs what that concerns.")
    return 0


def _as_dict(advice: Advice) -> dict[str, Any]:
    found = advice.found
    return {
        "recommendation": asdict(advice.recommendation),
        "evidence": asdict(advice.evidence),
        "pilots": {
            "minutes": found.minutes,
            "minutes_used": found.seconds / 60,
            "ended": found.why,
            "tried": [
                {**asdict(trial), "expected_gain": trial.expected_gain} for trial in found.trials
            ],
            "left_out": [{**asdict(arm), "minutes": minutes} for arm, minutes in found.left_out],
        },
        "costs": [asdict(cost) for cost in advice.costs],
    }


def _print(advice: Advice) -> None:
    evidence, recommendation, found = advice.evidence, advice.recommendation, advice.found
    # In a terminal lines break between words; in a file they are for programs, or for editors.
    console = Console(soft_wrap=not sys.stdout.isatty(), highlight=False)
    _print_table(_cuts(evidence))
    if evidence.unjudged:
        console.print(
            f"No image of {named(evidence.unjudged)} could be held out, which the accuracies "
            "therefore leave out"
        )
    _print_table(_strategies(advice))
    console.print("Points with their 95 % interval; * is recommended.", style="dim")
    console.print(f"Pilots took {found.seconds / 60:.1f} of {found.minutes:g} minutes: {found.why}")
    for arm, minutes in found.left_out:
        console.print(
            f"No time for {describe(arm)}, whose shortest pilot takes about {minutes:.1f} min: "
            "see --minutes"
        )
    console.print(f"\nCase: {recommendation.case}")
    for reason in recommendation.reasons:
        console.print(f"- {reason}")
    wanted = {
        "freeze": "keep the backbone frozen",
        "last_block": "fine-tune the last block",
        "all": "fine-tune the whole backbone",
        "scratch": "train the backbone from scratch",
    }[recommendation.strategy]
    console.print(f"\nRecommended: {wanted}, features at {recommendation.cut}")
    for key, value in recommendation.changes.items():
        console.print(f"  {key}: {value}")


def _print_table(table: Table) -> None:
    """Print a table at the width that it needs: no name is cut, however narrow the terminal."""
    width = Console(width=_ANY_WIDTH).measure(table).maximum
    Console(width=width, highlight=False).print(table)


def _cuts(evidence: Evidence) -> Table:
    table = _table("Linear classifier at several cuts, on the same held-out images")
    table.add_column("cut", no_wrap=True)
    for name in ("mult-adds", "accuracy", "95 %", "points over the last"):
        table.add_column(name, justify="right", no_wrap=True)
    for probe in evidence.probes:
        low, high = probe.interval
        table.add_row(
            f"{probe.cut}{' *' if probe.cut == evidence.frozen.cut else ''}",
            f"{probe.multiply_adds / 1e6:,.0f} M",
            f"{probe.accuracy:.3f}",
            f"{low:.3f}-{high:.3f}",
            "" if probe.cut == evidence.last else points(probe.gain, probe.gain_interval),
        )
    return table


def _strategies(advice: Advice) -> Table:
    table = _table("What each strategy takes, and what its pilots gained on held-out images")
    for name in ("strategy", "features at"):
        table.add_column(name, no_wrap=True)
    for name in ("rate", "minutes", "images", "points over frozen"):
        table.add_column(name, justify="right", no_wrap=True)
    trials = {trial.arm: trial for trial in advice.found.trials}
    for cost in advice.costs:
        arm, trial = cost.arm, trials.get(cost.arm) if cost.arm else None
        table.add_row(
            f"{cost.strategy}{' *' if cost.chosen else ''}",
            cost.cut,
            f"{arm.learning_rate:g}" if arm else "",
            f"{cost.minutes:.1f}",
            *([f"{trial.images}", points(trial.gain, trial.interval)] if trial else []),
            style="bold" if cost.chosen else None,
        )
    return table


def _table(title: str) -> Table:
    return Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
    )
