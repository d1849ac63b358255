"""What each stage takes at 10,000, 100,000 and 1,000,000 images, of 10 and of 1,000 classes."""

import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bench.projects import ROOT
from bench.results import table
from bench.scaling.project import BACKBONE, write_params, write_pictures

HEADING = "Scale: stages"
AIM_BYTES, AIM_EXPONENT = 6e9, 1.1

# One setting of each: what a path takes is told by `heads`.
_HEADS = {
    "prototype": {},
    "ridge": {"l2": 100.0},
    "logistic": {"l2": 10.0},
    "linear_svc": {"c": 1e-3},
}
_PARAMS = {
    "prepare.source": "photos",
    "extract.backbone": BACKBONE["backbone"],
    "extract.weights": BACKBONE["weights"],
    "train.heads": _HEADS,
    "train.learning_curve": "none",
    "audit.suspects": 100,
    "finetune.unfreeze": "none",
}
_STAGES = (
    *("prepare", "pretrain", "extract", "train", "novelty"),
    *("audit", "finetune", "evaluate", "report"),
)
_FIRST, _AGAIN = "prepare", "prepare again"


class Taken(NamedTuple):
    """What a process and its children took.

    Attributes:
        cpu: In seconds.
        seconds: By the clock.
        peak: Bytes in memory at most.
        files: Bytes of what was mapped from files at most, which count as memory, too.
    """

    cpu: float
    seconds: float
    peak: int


def run_stage(root: Path, stage: str) -> Taken:
    """Run a stage as DVC does."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HEADSTART_CACHE": str(root / "cache")}
    log = root / f"{stage}.log"
    started = time.perf_counter()
    with log.open("ab") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", f"pipeline.{stage}"],
            cwd=root, env=environment, stdout=said, stderr=said,
        )  # fmt: skip
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{stage}: {log.read_text(encoding='utf-8')[-2000:]}")
    return Taken(
        usage.ru_utime + usage.ru_stime, time.perf_counter() - started, usage.ru_maxrss * 1024
    )


def run_all(root: Path, count: int, n_classes: int, only: Sequence[str] = ()) -> dict[str, Taken]:
    """Make a project of that size and run every stage."""
    write_pictures(root / "photos", count, n_classes)
    write_params(root, _PARAMS)
    taken = {}
    for stage in _STAGES:
        if stage == "extract":
            subprocess.run(
                [sys.executable, "-m", "bench.scaling.project", str(root)], cwd=root, check=True,
                env={**os.environ, "PYTHONPATH": str(ROOT), "HEADSTART_CACHE": str(root / "cache")},
            )  # fmt: skip
        taken[stage] = run_stage(root, stage)
        print(count, n_classes, stage, taken[stage], flush=True)
        if stage == _FIRST:
            taken[_AGAIN] = run_stage(root, stage)
            print(count, n_classes, _AGAIN, taken[_AGAIN], flush=True)
    return taken


def measure(counts: Sequence[int], classes: Sequence[int], keep: Path | None) -> list[str]:
    """Return the table."""
    rows = []
    for n_classes in classes:
        found: dict[int, dict[str, Taken]] = {}
        for count in counts:
            with tempfile.TemporaryDirectory(dir=keep) as folder:
                found[count] = run_all(Path(folder), count, n_classes)
                page = Path(folder, "report/index.html").stat().st_size
                found[count]["report"] = found[count]["report"]._replace(seconds=page)
        for stage in found[counts[0]]:
            rows.append(_row(stage, n_classes, counts, found))
    header = ["stage", "classes", *(f"{count:,}: CPU s" for count in counts)]
    return table([*header, *(f"{count:,}: peak" for count in counts), "exponent"], rows)


def _row(
    stage: str, n_classes: int, counts: Sequence[int], found: dict[int, dict[str, Taken]]
) -> list[str]:
    cpu = [found[count][stage].cpu for count in counts]
    cells = [stage, f"{n_classes:,}", *(f"{seconds:.1f}" for seconds in cpu)]
    cells += [f"{found[count][stage].peak / 1e6:,.0f} MB" for count in counts]
    exponent = ""
    if len(counts) > 1:
        exponent = f"{math.log(cpu[-1] / cpu[-2]) / math.log(counts[-1] / counts[-2]):.2f}"
    return [*cells, exponent]
