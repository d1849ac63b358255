"""`headstart advise`: recommend a strategy, a cut and a regularization, with the evidence."""

import argparse
import json
import sys
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from ruamel.yaml import YAML

from headstart.commands.advise.evidence import Evidence, gather
from headstart.commands.advise.recommendation import Recommendation, StrategyCost, costs, recommend
from headstart.commands.params import check_params, load_params
from headstart.commands.yaml_text import changed
from headstart.common import places
from headstart.common.files import atomic_write
from headstart.common.params import PARAMS_FILE
from headstart.dataset.manifest import read_manifest
from headstart.extraction.store import FeatureStore
from headstart.features.file import FeatureFile
from headstart.scoring.metrics import named

_WIDE = 200
"""Columns where the output is no terminal, so that nothing is cut off."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--apply",
        action="store_true",
        help=f"write the recommendation into {PARAMS_FILE}; its comments are kept",
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.epilog = (
        "Looks at training and validation images only. Needs the features of `dvc repro extract`; "
        "features at other cuts are computed in one pass and kept in the feature store."
    )


def run(args: argparse.Namespace) -> int:
    """Gather the evidence, print it, and apply the advice if asked to."""
    params = load_params()
    file, manifest = FeatureFile.open(places.FEATURES), read_manifest(places.MANIFEST)
    evidence = gather(file, manifest, params.extract, params.train, FeatureStore())
    advice, expenses = recommend(evidence), costs(evidence)
    if args.json:
        print(json.dumps(_as_dict(evidence, advice, expenses), indent=2))
    else:
        _print(evidence, advice, expenses)
    if args.apply:
        text = changed(PARAMS_FILE.read_text(encoding="utf-8"), advice.changes)
        check_params(YAML(typ="safe").load(text), PARAMS_FILE)
        with atomic_write(PARAMS_FILE) as temporary:
            temporary.write_text(text, encoding="utf-8")
        if not args.json:
            print(f"Written into {PARAMS_FILE}; `dvc repro` runs what that concerns.")
    return 0


def _as_dict(
    evidence: Evidence, advice: Recommendation, expenses: tuple[StrategyCost, ...]
) -> dict[str, Any]:
    return {
        "recommendation": asdict(advice),
        "evidence": asdict(evidence),
        "costs": [asdict(cost) for cost in expenses],
    }


def _print(evidence: Evidence, advice: Recommendation, expenses: tuple[StrategyCost, ...]) -> None:
    width = None if sys.stdout.isatty() else _WIDE
    console = Console(width=width, soft_wrap=True, highlight=False)
    console.print(_cuts(evidence))
    if evidence.unjudged:
        console.print(
            f"No image of {named(evidence.unjudged)} could be held out, which the accuracies "
            "therefore leave out"
        )
    console.print(_strategies(advice, expenses))
    if evidence.similarity is not None:
        known = evidence.similarity
        console.print(
            f"The backbone's own ImageNet classifier: mean confidence {known.confidence:.2f}, "
            f"mean entropy {known.entropy:.2f} of the largest possible, information "
            f"{known.information:.1f} nats"
        )
    console.print(f"\nCase: {advice.case}")
    for reason in advice.reasons:
        console.print(f"- {reason}")
    wanted = {
        "freeze": "keep the backbone frozen",
        "last_block": "fine-tune the last block",
        "all": "fine-tune the whole backbone",
        "scratch": "train the backbone from scratch",
    }[advice.strategy]
    console.print(
        f"\nRecommended: {wanted}; features at {advice.cut}, logistic head with l2 {advice.l2:.2g}"
    )
    for key, value in advice.changes.items():
        console.print(f"  {key}: {value}")


def _cuts(evidence: Evidence) -> Table:
    table = Table(
        title="Linear classifier at several cuts, on held-out images", title_justify="left"
    )
    for name in ("cut", "features", "M mult-adds", "accuracy", "95 %", "l2"):
        table.add_column(name, justify="left" if name == "cut" else "right")
    for probe in evidence.probes:
        low, high = probe.interval
        table.add_row(
            probe.cut,
            f"{probe.feature_dim}",
            f"{probe.multiply_adds / 1e6:.0f}",
            f"{probe.accuracy:.3f}",
            f"{low:.3f} - {high:.3f}",
            f"{probe.l2:.2g}",
        )
    return table


def _strategies(advice: Recommendation, expenses: tuple[StrategyCost, ...]) -> Table:
    table = Table(title="What each strategy takes here", title_justify="left")
    table.add_column("strategy")
    for name in ("learns", "G mult-adds", "minutes"):
        table.add_column(name, justify="right")
    for cost in expenses:
        chosen = cost.strategy == advice.strategy
        table.add_row(
            f"{cost.strategy}{' *' if chosen else ''}",
            f"{cost.learning:.0%}",
            f"{cost.multiply_adds / 1e9:,.0f}",
            f"{cost.minutes:.1f}",
            style="bold" if chosen else None,
        )
    return table
