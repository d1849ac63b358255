"""What the whole path of each linear head takes on 100,000 images of 1,000 classes."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.heads import LARGE_CLASSES, LARGE_ROWS, N_COLUMNS, WITHOUT_TENSORFLOW, synthetic
from bench.projects import ROOT
from bench.results import table

HEADING = "Scale: linear heads"
AIM_MINUTES, AIM_BYTES = 30, 4e9
KINDS = ("prototype", "ridge", "linear_svc", "logistic")


def measure() -> list[str]:
    """Return the table."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = synthetic(Path(folder) / "bottleneck.h5", LARGE_ROWS, LARGE_CLASSES).path
        for kind in KINDS:
            assert kind in WITHOUT_TENSORFLOW
            command = [sys.executable, str(ROOT / "bench/heads.py"), "fit", str(path)]
            done = subprocess.run(
                [*command, "--network", kind, "--extent", "whole"],
                stdout=subprocess.PIPE, check=True, text=True,
            )  # fmt: skip
            seconds, cpu, peak, told = json.loads(done.stdout.splitlines()[-1])
            rows.append((kind, f"{seconds / 60:.1f}", cpu / 60, peak, told))
            print(rows[-1], file=sys.stderr, flush=True)
    total = sum(cpu for _, _, cpu, _, _ in rows)
    most = max(peak for *_, peak, _ in rows)
    cells = [
        (kind, minutes, f"{cpu:.1f}", f"{peak / 1e6:,.0f} MB", told)
        for kind, minutes, cpu, peak, told in rows
    ]
    return [
        f"{LARGE_ROWS:,} training and {LARGE_ROWS // 4:,} validation images, {N_COLUMNS} features, "
        f"{LARGE_CLASSES:,} classes; each head with its whole path and its choice. Aim: "
        f"{AIM_MINUTES} CPU minutes, {AIM_BYTES / 1e9:.0f} GB. All: {total:.1f} CPU minutes, "
        f"{most / 1e9:.1f} GB.",
        "",
        *table(["", "minutes", "CPU minutes", "peak memory", ""], cells),
    ]
