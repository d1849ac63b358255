"""What a million images take, and what machines that come and go do to a run.

    python bench/scale.py                         # all points
    python bench/scale.py stages --counts 10000 100000
    python bench/scale.py heads
    python bench/scale.py neighbors
    python bench/scale.py store
    python bench/scale.py cluster bucket          # with the extras ray and s3

Each point replaces its section of bench/RESULTS.md, unless `--dry` is given. `stages` needs 20 GB
of disk for its million pictures; `--keep FOLDER` says where. Nothing needs a network.
"""

import argparse
import importlib
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.results import machine, write_section

POINTS = ("stages", "heads", "neighbors", "store", "cluster", "bucket")


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("points", nargs="*", metavar="POINT", help=f"of {', '.join(POINTS)}")
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 1_000])
    parser.add_argument("--keep", type=Path, help="folder for the projects of `stages`")
    parser.add_argument("--dry", action="store_true", help="print, do not write RESULTS.md")
    args = parser.parse_args()
    unknown = sorted(set(args.points) - set(POINTS))
    if unknown:
        parser.error(f"expected points of {', '.join(POINTS)}; received {', '.join(unknown)}")
    for name in args.points or POINTS:
        point = importlib.import_module(f"bench.scaling.{name}")
        begun = machine()
        if name == "stages":
            found = point.measure(args.counts, args.classes, args.keep)
        else:
            found = point.measure()
        lines = [f"Machine: {begun}.", "", *found]
        print(f"## {point.HEADING}", "", *lines, "", sep="\n", flush=True)
        if not args.dry:
            write_section(point.HEADING, lines)


if __name__ == "__main__":
    main()
