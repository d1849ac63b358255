"""Does the care of the data find what it should? One table per point, beside what others do.

    python bench/care.py --photos FOLDER                 # all points
    python bench/care.py labels suggest --photos FOLDER

FOLDER holds a folder of photos for each of two classes. The sets are those of bench/sets.py. Each
point replaces its section of bench/RESULTS.md, unless `--dry` is given.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.measuring import measure

POINTS = ("labels", "corrected", "suggest", "coverage", "slices")

if __name__ == "__main__":
    measure(__doc__.splitlines()[0], POINTS)
