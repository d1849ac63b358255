"""Do the numbers hold on data that nobody tuned to? One table per point, ours beside others.

    python bench/quality.py --photos FOLDER             # all points
    python bench/quality.py intervals leaks --photos FOLDER
    python bench/quality.py choice --photos FOLDER --sets faces digits --seeds 3

FOLDER holds a folder of photos for each of two classes. The sets are those of bench/sets.py;
"before" is the rule that stood here earlier, kept beside the measurement. Each point replaces its
section of bench/RESULTS.md, unless `--dry` is given.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.measuring import measure

POINTS = (
    *("intervals", "choice", "few_shot", "text_start", "balance", "advice"),
    *("leaks", "novelty", "rungs", "halves"),
)

if __name__ == "__main__":
    measure(__doc__.splitlines()[0], POINTS)
