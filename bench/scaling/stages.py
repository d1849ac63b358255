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
from bench.scaling.project import (
    BACKBONE,
    N_COLUMNS,
    move_pictures,
    write_params,
    write_pictures,
)

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
    "finetune.unfreeze": "none",
}
_STAGES = (
    *("prepare", "pretrain", "extract", "train", "novelty"),
    *("audit", "finetune", "evaluate", "report"),
)
_SUSPECTS, _AUDITED = 100, 10
_SETTLED = 3
# CPU seconds that a stage takes to start, at most.
_START = 2.0
_FIRST, _AGAIN = "prepare", "prepare again"


class Taken(NamedTuple):
    """What a process and its children took.

    Attributes:
        cpu: In seconds.
        seconds: By the clock.
        peak: Bytes in memory at most, mapped files included.
    """

    cpu: float
    seconds: float
    peak: int


def run_stage(root: Path, stage: str) -> Taken:
    """Run a stage as DVC does."""
    log = root / f"{stage}.log"
    started = time.perf_counter()
    with log.open("ab") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", f"pipeline.{stage}"],
            cwd=root, env=_environment(root), stdout=said, stderr=said,
        )  # fmt: skip
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{stage}: {log.read_text(encoding='utf-8')[-2000:]}")
    cpu = usage.ru_utime + usage.ru_stime
    return Taken(cpu, time.perf_counter() - started, usage.ru_maxrss * 1024)


def _in_project(root: Path, command: Sequence[str]) -> None:
    subprocess.run(command, cwd=root, env=_environment(root), check=True)


def _environment(root: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "HEADSTART_CACHE": str(root / "cache")}


def run_all(root: Path, n_classes: int) -> dict[str, Taken]:
    """Run every stage on the pictures in a folder."""
    # The audit's cross-validation over a thousand classes takes hours.
    suspects = _SUSPECTS if n_classes <= _AUDITED else 0
    write_params(root, {**_PARAMS, "audit.suspects": suspects})
    taken = {}
    for stage in _STAGES:
        if stage == "extract":
            _in_project(root, [sys.executable, "-m", "bench.scaling.project", str(root)])
        taken[stage] = run_stage(root, stage)
        print(n_classes, stage, taken[stage], file=sys.stderr, flush=True)
        if stage == _FIRST:
            taken[_AGAIN] = run_stage(root, stage)
            print(n_classes, _AGAIN, taken[_AGAIN], file=sys.stderr, flush=True)
    return taken


def measure(counts: Sequence[int], classes: Sequence[int], keep: Path | None) -> list[str]:
    """Return the table."""
    found: dict[int, dict[int, dict[str, Taken]]] = {number: {} for number in classes}
    pages = []
    for count in counts:
        with tempfile.TemporaryDirectory(dir=keep) as folder:
            root = Path(folder)
            write_pictures(root / "photos", count, classes[0])
            for n_classes in classes:
                if n_classes != classes[0]:
                    move_pictures(root / "photos", n_classes)
                # What was written a moment ago may still change, and is not believed.
                time.sleep(_SETTLED)
                found[n_classes][count] = run_all(root, n_classes)
                size = (root / "report/index.html").stat().st_size
                pages.append(f"{count:,} x {n_classes:,}: {size / 1e6:.1f} MB")
    rows = [
        _row(stage, n_classes, counts, found[n_classes])
        for n_classes in classes
        for stage in found[n_classes][counts[0]]
    ]
    header = ["stage", "classes", *(f"{count:,}: CPU s" for count in counts), "exponent"]
    return [
        f"Pictures of 32 x 32 pixels, of which `prepare` reads all; {N_COLUMNS} features, drawn; "
        "one setting of each of four linear heads; three in five images train. "
        "The exponent is that of the last two columns of CPU seconds, without those that a stage "
        "takes to start. Mapped files count as memory. With other classes the photos are known: "
        "the first `prepare` reads none, and there is no audit. Aims: "
        f"{AIM_BYTES / 1e9:.0f} GB, exponent {AIM_EXPONENT}. The report: {'; '.join(pages)}.",
        "",
        *table([*header, *(f"{count:,}: peak" for count in counts)], rows),
    ]


def _row(
    stage: str, n_classes: int, counts: Sequence[int], found: dict[int, dict[str, Taken]]
) -> list[str]:
    cpu = [found[count][stage].cpu for count in counts]
    exponent = ""
    if len(counts) > 1:
        # What does not grow is that of the smallest, a tenth of which grows at most.
        start = min(cpu[0], _START)
        last, before = (max(seconds - start, 0.1) for seconds in (cpu[-1], cpu[-2]))
        exponent = f"{math.log(last / before) / math.log(counts[-1] / counts[-2]):.2f}"
    return [
        stage,
        f"{n_classes:,}",
        *(f"{seconds:.1f}" for seconds in cpu),
        exponent,
        *(f"{found[count][stage].peak / 1e6:,.0f} MB" for count in counts),
    ]
