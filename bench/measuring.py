"""What a script that measures several points on several sets asks of the command line."""

import argparse
import importlib
from collections.abc import Sequence
from pathlib import Path

from bench.results import machine, write_section
from bench.sets import SET_NAMES, Sets


def measure(description: str, points: Sequence[str]) -> None:
    """Measure what the command line asks for; each point replaces its section of RESULTS.md.

    Args:
        description: What the script is for, in a line.
        points: Modules of bench/points, each with HEADING and `measure(sets)`, which gives lines.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("points", nargs="*", metavar="POINT", help=f"of {', '.join(points)}")
    parser.add_argument("--photos", type=Path, help="photos in two class folders")
    parser.add_argument("--sets", nargs="+", choices=SET_NAMES, help="these sets alone")
    parser.add_argument("--seeds", type=int, help="how many splits of each set")
    parser.add_argument("--keep", type=Path, help="folder that keeps the sets between runs")
    parser.add_argument("--dry", action="store_true", help="print, do not write RESULTS.md")
    args = parser.parse_args()
    unknown = sorted(set(args.points) - set(points))
    if unknown:
        parser.error(f"expected points of {', '.join(points)}; received {', '.join(unknown)}")
    with Sets.open(args.photos, args.keep, only=args.sets, seeds=args.seeds) as sets:
        for name in args.points or points:
            point = importlib.import_module(f"bench.points.{name}")
            lines = [f"Machine: {machine()}.", "", *point.measure(sets)]
            print(f"## {point.HEADING}", "", *lines, "", sep="\n", flush=True)
            if not args.dry:
                write_section(point.HEADING, lines)
