"""Measure what surrounds the pass: the pipeline from nothing, and after an edit of params.yaml.

Usage: python bench/loop.py PHOTOS [--repeat 3]

PHOTOS is a folder with one sub-folder per class. The project is copied, so that neither its git
repository nor the user's cache is touched. The usual notebook (bench/notebook.py) runs in between.
"""

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.compare import copy_project
from bench.results import machine, table, write_section

KEPT_FOR_NEW_PHOTOS = ("models", "costs")
"""What of the cache another project with other photos finds: the networks."""

NOTEBOOK = "the usual notebook: MobileNetV2, Dense, LinearSVC"
NEVER_CONVERTED = "`dvc repro` from nothing, a network never converted here"
CONVERTED = "`dvc repro` from nothing, a network that was"
LINEAR = "`linear_svc.c` edited, `dvc repro`"
DENSE = "`dense.dropout` edited, `dvc repro`"
NOTHING = "nothing edited, `dvc repro`"
SCORES = "nothing edited, `make run`"
AIMS = {NEVER_CONVERTED: 25, CONVERTED: 20, LINEAR: 5, DENSE: 9}
"""Seconds."""


class Bench:
    """A copied project and how long its commands take.

    Args:
        photos: Its source.
        folder: Where everything goes.
    """

    def __init__(self, photos: Path, folder: Path) -> None:
        self._photos = photos
        self._folder = folder
        self._cache = folder / "cache"
        self._root = folder / "project"
        self.seconds: dict[str, list[float]] = defaultdict(list)

    def measure(self, turn: int) -> None:
        """Go through everything once."""
        self._timed(NOTEBOOK, sys.executable, str(ROOT / "bench/notebook.py"), str(self._photos))
        shutil.rmtree(self._cache, ignore_errors=True)
        self._new_project()
        self._timed(NEVER_CONVERTED, "dvc", "repro", "--quiet")
        for kind in self._cache.iterdir():
            if kind.is_dir() and kind.name not in KEPT_FOR_NEW_PHOTOS:
                shutil.rmtree(kind)
        self._new_project()
        self._timed(CONVERTED, "dvc", "repro", "--quiet")
        self._edit("c", f"0.0{turn + 1}")
        self._timed(LINEAR, "dvc", "repro", "--quiet")
        self._edit("dropout", f"0.{turn + 1}")
        self._timed(DENSE, "dvc", "repro", "--quiet")
        self._timed(NOTHING, "dvc", "repro", "--quiet")
        self._timed(SCORES, "sh", "-c", "dvc repro --quiet && headstart scores")

    def _new_project(self) -> None:
        shutil.rmtree(self._root, ignore_errors=True)
        copy_project(self._root, {"prepare.source": str(self._photos)})

    def _edit(self, key: str, value: str) -> None:
        params = self._root / "params.yaml"
        text, count = re.subn(rf"(?m)^( +{key}: )\S+", rf"\g<1>{value}", params.read_text())
        assert count == 1, key
        params.write_text(text)

    def _timed(self, name: str, *command: str) -> None:
        environment = {
            **os.environ,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": str(self._root),
            "HEADSTART_CACHE": str(self._cache),
            "DVC_NO_ANALYTICS": "1",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        started = time.perf_counter()
        subprocess.run(
            command,
            cwd=self._root if name != NOTEBOOK else self._folder,
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.seconds[name].append(time.perf_counter() - started)


def main() -> None:
    """Measure, print, and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    about = machine()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(args.photos.resolve(), Path(folder))
        for turn in range(args.repeat):
            bench.measure(turn)
    rows = [
        [
            name,
            f"{statistics.median(seconds):.1f}",
            f"{min(seconds):.1f} to {max(seconds):.1f}",
            f"<= {AIMS[name]}" if name in AIMS else "",
        ]
        for name, seconds in bench.seconds.items()
    ]
    images = sum(1 for path in args.photos.rglob("*") if path.is_file())
    lines = [
        f"Machine: {about}.",
        "",
        f"{images} photos, EfficientNetLite0, the committed params.yaml; medians of {args.repeat} "
        "turns, everything in each turn.",
        "",
        *table(["what", "seconds", "from, to", "aim"], rows),
    ]
    write_section("The loop", lines)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
