"""`headstart report`: one page with everything to look at."""

import argparse
import webbrowser
from pathlib import Path

from headstart.common.params import load_section
from headstart.common.places import COMPARISON, REPORT
from headstart.report.options import ReportOptions
from headstart.report.results import RunPlaces
from headstart.report.writing import write_report


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = (
        "The pipeline's last stage writes the same page; this command adds the last comparison "
        f"({COMPARISON}), if there is one."
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=REPORT,
        metavar="FILE",
        help="the page to write (default: %(default)s)",
    )
    parser.add_argument("--open", action="store_true", help="show it in the web browser")


def run(args: argparse.Namespace) -> int:
    """Write the page about the present run and tell where it lies."""
    options = load_section("report", ReportOptions)
    # Only here: a comparison is no output of the pipeline, so its last stage knows none.
    write_report(args.output, options, RunPlaces(comparison=COMPARISON))
    print(f"{args.output} ({args.output.stat().st_size / 1e6:.1f} MB)")
    if args.open:
        webbrowser.open(args.output.resolve().as_uri())
    return 0
