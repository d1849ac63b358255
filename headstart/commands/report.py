"""`headstart report`: one page with everything to look at."""

import argparse
import subprocess
import webbrowser
from datetime import datetime
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
        f"({COMPARISON}), if there is one, and with --output the date and the git commit."
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
    # The pipeline's own page may not differ from day to day: DVC would take it for changed.
    stamp = {} if args.output == REPORT else _stamp()
    # Only here: a comparison is no output of the pipeline, so its last stage knows none.
    write_report(args.output, options, RunPlaces(comparison=COMPARISON), stamp)
    print(f"{args.output} ({args.output.stat().st_size / 1e6:.1f} MB)")
    if args.open:
        webbrowser.open(args.output.resolve().as_uri())
    return 0


def _stamp() -> dict[str, str]:
    """Return when the page is written and, in a git repository, on which commit."""
    now = datetime.now().astimezone()
    stamp = {"written": now.strftime("%Y-%m-%d %H:%M %z")}
    if commit := _git("rev-parse", "--short=12", "HEAD"):
        changed = _git("status", "--porcelain", "--untracked-files=no")
        stamp["commit"] = f"{commit}{' + changes' if changed else ''}"
    return stamp


def _git(*command: str) -> str:
    """Return what git prints; nothing where there is no git, repository or commit."""
    try:
        done = subprocess.run(["git", *command], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()
