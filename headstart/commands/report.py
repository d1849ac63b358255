"""`headstart report`: one page with everything to look at."""

import argparse
import webbrowser
from pathlib import Path

from headstart.commands.params import load_params
from headstart.finetuning.card import NAME as FINETUNED
from headstart.report.results import Places
from headstart.report.writing import OUTPUT, write_report

COMPARISON = Path("plots/comparison.json")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = (
        "The pipeline's last stage writes the same page; this command adds the last comparison "
        f"({COMPARISON}), if there is one."
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=OUTPUT,
        metavar="FILE",
        help="the page to write (default: %(default)s)",
    )
    parser.add_argument("--open", action="store_true", help="show it in the web browser")


def run(args: argparse.Namespace) -> int:
    """Write the page about the present run and tell where it lies."""
    params = load_params()
    # Only here: a comparison is no output of the pipeline, so its last stage knows none.
    places = Places(comparison=COMPARISON)
    write_report(args.output, [*params.train.heads, FINETUNED], params.report, places)
    print(f"{args.output} ({args.output.stat().st_size / 1e6:.1f} MB)")
    if args.open:
        webbrowser.open(args.output.resolve().as_uri())
    return 0
