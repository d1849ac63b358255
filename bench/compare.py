"""Measure `headstart compare`: cold, warm, and with a budget.

Usage: python bench/compare.py PHOTOS [--backbones A B C]

PHOTOS is a folder with one sub-folder per class. The project is copied, so that neither its git
repository nor the user's feature store is touched.
"""

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.results import machine, table, write_section

BACKBONES = ("EfficientNetLite0", "EfficientNetLite1", "EfficientNetLite2")


@dataclass(frozen=True)
class Run:
    """One call of `headstart compare`.

    Attributes:
        seconds: From start to end.
        cpu_seconds: Of all its processes; what other programs do moves it less.
        record: plots/comparison.json.
    """

    seconds: float
    cpu_seconds: float
    record: dict


def copy_project(photos: Path, root: Path) -> None:
    """Copy what git tracks, point it to the photos, and commit."""
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split("\0")
    for name in filter(None, tracked):
        if (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    params = root / "params.yaml"
    text, count = re.subn(r"(?m)^(  source: ).*$", rf"\g<1>{photos}", params.read_text(), count=1)
    if not count:
        sys.exit("params.yaml has no line `  source:` to change")
    params.write_text(text)
    for command in (
        ["init", "--quiet"],
        ["add", "--all"],
        ["commit", "--quiet", "--message", "bench"],
    ):
        identity = ["-c", "user.name=bench", "-c", "user.email=bench@example.org"]
        subprocess.run(["git", *identity, *command], cwd=root, check=True)


def compare(root: Path, store: Path, *arguments: str) -> Run:
    """Run `headstart compare` in the copied project."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(root),
        "HEADSTART_CACHE": str(store),
        "DVC_NO_ANALYTICS": "1",
    }
    started, before = time.perf_counter(), _cpu_seconds()
    subprocess.run(
        [sys.executable, "-m", "headstart.commands.cli", "compare", *arguments],
        cwd=root, env=environment, check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    record = json.loads((root / "plots" / "comparison.json").read_text())
    return Run(time.perf_counter() - started, _cpu_seconds() - before, record)


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Measure, print, and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--backbones", nargs="+", default=BACKBONES)
    args = parser.parse_args()
    about = machine()
    with tempfile.TemporaryDirectory() as folder:
        whole, halved = Path(folder, "whole"), Path(folder, "halved")
        for root in (whole, halved):
            root.mkdir()
            copy_project(args.photos.resolve(), root)
        names = tuple(args.backbones)
        runs = {
            "cold": compare(whole, Path(folder, "store-1"), *names),
            "again": compare(whole, Path(folder, "store-1"), *names),
            "cold, --budget": compare(halved, Path(folder, "store-2"), *names, "--budget"),
        }
    rows = []
    for name, run in runs.items():
        passes = run.record["forward_passes"]
        dropped = ", ".join(
            f"{one['label']} at {one['share']:.0%} ({one['validation_accuracy']:.4f})"
            for one in run.record["dropped"]
        )
        rows.append([
            name, f"{run.seconds:.0f}", f"{run.cpu_seconds:.0f}",
            f"{passes['computed']:,} of {passes['without_budget']:,}", run.record["winner"],
            dropped or "-",
        ])  # fmt: skip
    header = ["run", "seconds", "processor s", "forward passes", "chosen", "dropped"]
    lines = [
        f"Machine: {about}.",
        "",
        f"`headstart compare {' '.join(names)}` on {args.photos.name}.",
        "",
        *table(header, rows),
    ]
    write_section("Comparison", lines)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
