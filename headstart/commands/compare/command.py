"""`headstart compare`: run several backbones or settings and show quality against cost."""

import argparse
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from ruamel.yaml import YAML

from headstart import backbones
from headstart.backbones.weights import available_offline
from headstart.commands.compare.candidates import Candidate, make_candidates, parse_over
from headstart.commands.compare.memory import Memory
from headstart.commands.compare.running import Runner, Trial, run_all
from headstart.commands.compare.sandbox import open_sandbox
from headstart.commands.compare.showing import FORMATS, as_csv, as_json, as_table, draw, notes
from headstart.commands.params import Params, check_params, load_params
from headstart.common.errors import InputError
from headstart.common.files import write_json
from headstart.common.params import PARAMS_FILE
from headstart.common.progress import notify
from headstart.dataset.sources import list_files
from headstart.extraction import engines
from headstart.extraction.bottleneck import identify
from headstart.extraction.store import FeatureStore

MEMORY = Path(".dvc/tmp/compare-memory")
RECORD = Path("plots/comparison.json")
PICTURE = Path("plots/comparison.png")
PICTURE_SUFFIXES = (".png", ".svg", ".pdf", ".jpg", ".webp")

_WIDE = 200
"""Columns of text where the output is no terminal, so that nothing is cut off."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "backbones",
        metavar="BACKBONE",
        nargs="*",
        help="as `headstart backbones` lists them (default: that of params.yaml)",
    )
    parser.add_argument(
        "--all-offline",
        action="store_true",
        help="all backbones whose pretrained weights are on this machine",
    )
    parser.add_argument(
        "--over",
        action="append",
        default=[],
        metavar="KEY=VALUE,VALUE",
        help="try these values of a key of params.yaml, for example extract.layer=auto,block_3; "
        "may be given several times, and is combined with each backbone",
    )
    parser.add_argument(
        "--budget",
        action="store_true",
        help="try all on a tenth of the images, the better third on a third, and the best two on "
        "all; the score that decides is validation",
    )
    parser.add_argument(
        "--format", choices=FORMATS, default="table", help="of the output (default: %(default)s)"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=PICTURE,
        metavar="PICTURE",
        help="where the plot goes; its ending chooses the format (default: %(default)s)",
    )
    parser.epilog = (
        "Each candidate becomes a DVC experiment on the last commit, with the uncommitted changes "
        "of tracked files; your files stay as they are. `dvc exp show` lists the experiments, "
        f"`dvc exp apply NAME` takes one over. {RECORD} keeps the outcome for `headstart report`."
    )


def run(args: argparse.Namespace) -> int:
    """Run the candidates; print table, CSV or JSON; write picture and record.

    Raises:
        InputError: nothing to compare, params that cannot be, or a project that cannot hold
            experiments.
    """
    if args.output.suffix.lower() not in PICTURE_SUFFIXES:
        raise InputError(
            f"--output {args.output}: expected a name that ends in {', '.join(PICTURE_SUFFIXES)}"
        )
    params = load_params()
    content = YAML(typ="safe").load(PARAMS_FILE.read_text(encoding="utf-8"))
    names = _backbones(args)
    candidates = make_candidates(names, [parse_over(text) for text in args.over], content)
    trials = [_trial(candidate, content) for candidate in candidates]
    with open_sandbox(Path.cwd(), _inputs(params, trials)) as sandbox:
        runner = Runner(sandbox, FeatureStore(), Memory(MEMORY), _Announcer())
        comparison = run_all(runner, trials, budget=args.budget)
    write_json(RECORD, comparison.as_dict())
    draw(comparison, args.output)
    if args.format == "table":
        console = Console(width=None if sys.stdout.isatty() else _WIDE)
        console.print(as_table(comparison))
        for line in [*notes(comparison), f"Plot: {args.output}"]:
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    else:
        print(as_csv(comparison) if args.format == "csv" else as_json(comparison))
    return 1 if comparison.failed else 0


def _backbones(args: argparse.Namespace) -> list[str]:
    # Their names are checked here, so that a spelling mistake is told before anything runs.
    names = [backbones.get(name).name for name in args.backbones]
    if args.all_offline:
        offline = [spec.name for spec in backbones.specs() if available_offline(spec)]
        names += [name for name in offline if name not in names]
    return names


def _trial(candidate: Candidate, content: dict[str, Any]) -> Trial:
    changed = candidate.apply(content)
    params = check_params(changed, f"{PARAMS_FILE} with {candidate.label}")
    # Size and weights are checked now, since the first candidates may take hours.
    identify(params.extract, engines.resolve(params.extract.engine, params.extract.precision))
    return Trial(
        candidate=candidate,
        content=changed,
        extract=params.extract,
        evaluate=params.evaluate,
        heads=tuple(params.train.heads),
    )


def _inputs(params: Params, trials: list[Trial]) -> list[str]:
    """Return the files and folders of the user that the stages read."""
    sources = {params.prepare.source, *(trial.content["prepare"]["source"] for trial in trials)}
    paths = set(sources) | {run.source for run in params.pretrain.values()}
    for source in sources:
        if source.lower().endswith(".csv"):
            # A table names images anywhere; the folders that hold them are what is linked.
            paths |= {str(Path(file.path).parent) for file in list_files(source).files}
    paths |= {trial.extract.weights for trial in trials if Path(trial.extract.weights).exists()}
    return sorted(paths)


class _Announcer:
    """Numbers what begins, on standard error."""

    def __init__(self) -> None:
        self._begun = 0

    def __call__(self, what: str) -> None:
        self._begun += 1
        notify(f"[{self._begun}] {what}")
