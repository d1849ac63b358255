"""`headstart compare`: run several backbones or settings and show quality against cost."""

import argparse
import importlib.util
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

from rich.console import Console

from headstart import catalog
from headstart.catalog import onnx
from headstart.catalog.onnx.file import read
from headstart.catalog.weights import available_offline
from headstart.commands import yaml_text
from headstart.commands.compare.candidates import (
    STRATEGIES,
    UNFREEZE,
    Candidate,
    make_candidates,
    parse_over,
)
from headstart.commands.compare.memory import Memory
from headstart.commands.compare.picture import draw
from headstart.commands.compare.running import Runner, run_all
from headstart.commands.compare.sandbox import (
    Sandbox,
    find_baseline,
    find_experiments,
    open_sandbox,
)
from headstart.commands.compare.showing import FORMATS, as_csv, as_json, as_table, notes
from headstart.commands.tables import output_width, wrapped
from headstart.common import places
from headstart.common.errors import InputError
from headstart.common.files import write_json
from headstart.common.params import PARAMS_FILE
from headstart.common.urls import is_url
from headstart.configuration.params import load_params
from headstart.dataset.sources import list_files
from headstart.dataset.tables import TABLES
from headstart.dataset.tar_shards import expand_braces
from headstart.extraction.store import FeatureStore

PICTURE = places.COMPARISON.with_suffix(".png")
PICTURE_SUFFIXES = (".png", ".svg", ".pdf", ".jpg", ".webp")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "backbones",
        metavar="BACKBONE[:WEIGHTS]",
        nargs="*",
        help="as `headstart backbones` lists them (default: that of params.yaml), where wanted "
        "with other weights than those of params.yaml: LeNet5:random, onnx:model.onnx",
    )
    parser.add_argument(
        "--all-offline",
        action="store_true",
        help="all backbones whose pretrained weights are on this machine",
    )
    parser.add_argument(
        "--strategies",
        action="store_true",
        help="how much of the network to train: the head alone (frozen), the last block too, all "
        f"of it, or all of it from random weights; short for --over {UNFREEZE}="
        f"{','.join(STRATEGIES[1])}",
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
        help="try all on a tenth of the images, or as many as it takes to judge by, then fewer on "
        "a third and on all: drop who is behind by more than chance, and of equals the dearer",
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
        f"`dvc exp apply NAME` takes one over. {places.COMPARISON} keeps the outcome for "
        "`headstart report`."
    )


def run(args: argparse.Namespace) -> int:
    """Run the candidates; print table, CSV or JSON; write picture and record.

    Raises:
        InputError: nothing to compare, params that cannot be, a project that cannot hold
            experiments, or nothing to draw with.
    """
    # Told now, since what is drawn may take hours.
    if importlib.util.find_spec("matplotlib") is None:
        raise InputError(
            "compare: draws with the Python package matplotlib, which is not installed; run "
            "`pip install 'headstart[compare]'`"
        )
    if args.output.suffix.lower() not in PICTURE_SUFFIXES:
        raise InputError(
            f"--output {args.output}: expected a name that ends in {', '.join(PICTURE_SUFFIXES)}"
        )
    load_params()  # a mistake in the file itself is not a candidate's
    content = yaml_text.load(PARAMS_FILE.read_text(encoding="utf-8"))
    grid: list[tuple[str, Sequence[Any]]] = [STRATEGIES] if args.strategies else []
    grid += [parse_over(text) for text in args.over]
    candidates = make_candidates(_backbones(args), grid, content)
    for candidate in candidates:
        # Values, size and weights are checked now, since the first candidates may take hours.
        candidate.check()
        if args.budget and candidate.model is not None:
            raise InputError(
                "compare: --budget tries candidates by heads on cached features, which say nothing "
                "of what fine-tuning brings: leave --budget out where finetune.* is compared; "
                "--over extract.share=0.1 compares on a tenth of the images"
            )
    project, store = Path.cwd(), FeatureStore()
    baseline = find_baseline(project)
    memory = Memory(baseline.tree, find_experiments(project, baseline), store.root)
    with ExitStack() as stack:

        @cache
        def sandbox() -> Sandbox:
            return stack.enter_context(open_sandbox(project, baseline, _inputs(candidates)))

        comparison = run_all(
            Runner(sandbox, store, memory, baseline.tree), candidates, budget=args.budget
        )
    write_json(places.COMPARISON, comparison.as_dict())
    draw(comparison, args.output)
    if args.format == "table":
        console = Console(soft_wrap=True, highlight=False, markup=False)
        width = output_width()
        table = as_table(comparison, width)
        said = [*notes(comparison, table.left_out), f"Plot: {args.output}"]
        for line in [*table.lines, "", *(wrapped(sentence, width) for sentence in said)]:
            console.print(line)
    else:
        print(as_csv(comparison) if args.format == "csv" else as_json(comparison))
    return 1 if comparison.failed else 0


def _backbones(args: argparse.Namespace) -> list[str]:
    # Their names are checked here, so that a spelling mistake shows before anything runs.
    names = []
    for given in args.backbones:
        name, colon, weights = given.partition(":")
        known = name if name == onnx.NAME else catalog.get(name).name
        names.append(known + colon + weights)
    if args.all_offline:
        offline = [spec.name for spec in catalog.specs() if available_offline(spec)]
        names += [name for name in offline if name not in names]
    return names


def _inputs(candidates: list[Candidate]) -> list[str]:
    """Return the files and folders of the user that the stages read."""
    every = [candidate.params for candidate in candidates]
    named = {source for one in every for source in (*one.prepare.sources, one.pretrain.source)}
    sources = {source for one in named for source in expand_braces(one)}
    paths = sources | {one.prepare.corrections for one in every if one.prepare.corrections}
    paths |= {one.extract.weights for one in every} | {"models/weights"}
    for bottleneck in (candidate.bottleneck for candidate in candidates):
        if bottleneck.onnx is not None and bottleneck.weights.path is not None:
            # Weights may lie beside the network.
            paths |= {str(path) for path in read(bottleneck.weights.path).files}
    for source in sources:
        if (
            source.lower().endswith(TABLES)
            and not is_url(source)
            and Path(source) != places.MANIFEST
        ):
            # A table names images anywhere; the folders that hold them are what is linked.
            local = (file.path for file in list_files(source).files if not is_url(file.path))
            paths |= {str(Path(path).parent) for path in local}
    return sorted(path for path in paths if not is_url(path))
