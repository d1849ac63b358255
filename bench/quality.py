"""Do the numbers hold on data that nobody tuned to? One table per point, ours beside others.

    python bench/quality.py --photos FOLDER             # all points
    python bench/quality.py intervals leaks --photos FOLDER
    python bench/quality.py choice --photos FOLDER --sets faces digits --seeds 3

FOLDER holds a folder of photos for each of two classes. The sets are those of bench/sets.py;
"before" is the rule that stood here earlier, kept beside the measurement. Each point replaces its
section of bench/RESULTS.md, unless `--dry` is given.
"""

import argparse
import importlib
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.results import machine, write_section
from bench.sets import SET_NAMES, Sets

POINTS = (
    *("intervals", "choice", "few_shot", "text_start", "balance", "advice"),
    *("leaks", "novelty", "rungs"),
)


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("points", nargs="*", metavar="POINT", help=f"of {', '.join(POINTS)}")
    parser.add_argument("--photos", type=Path, help="photos in two class folders")
    parser.add_argument("--sets", nargs="+", choices=SET_NAMES, help="these sets alone")
    parser.add_argument("--seeds", type=int, help="how many splits of each set")
    parser.add_argument("--keep", type=Path, help="folder that keeps the sets between runs")
    parser.add_argument("--dry", action="store_true", help="print, do not write RESULTS.md")
    args = parser.parse_args()
    unknown = sorted(set(args.points) - set(POINTS))
    if unknown:
        parser.error(f"expected points of {', '.join(POINTS)}; received {', '.join(unknown)}")
    with Sets.open(args.photos, args.keep, only=args.sets, seeds=args.seeds) as sets:
        for name in args.points or POINTS:
            point = importlib.import_module(f"bench.points.{name}")
            lines = [f"Machine: {machine()}.", "", *point.measure(sets)]
            print(f"## {point.HEADING}", "", *lines, "", sep="\n", flush=True)
            if not args.dry:
                write_section(point.HEADING, lines)


if __name__ == "__main__":
    main()
