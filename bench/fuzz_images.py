"""Damaged images through what reads them, one by one and through whole commands."""

import csv
import random
import re
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import scratch
from mutations import images, mutate
from watchdog import Judge, Verdict

from headstart.common import places
from headstart.dataset.duplicates import THUMBNAIL_SIDE
from headstart.images import decoding
from headstart.images.decoding import UnreadableImage


@cache
def _files() -> dict[str, bytes]:
    return images()


def damaged(seed: int, case: int) -> tuple[str, str, bytes]:
    """Return the name of an image, what was done to it, and what came of it."""
    files = _files()
    rng = random.Random(f"image {seed} {case}")
    name = sorted(files)[case % len(files)]
    kind, data = mutate(rng, files[name], sorted(files.values()))
    return name, kind, data


def subject(case: int) -> str:
    """Name the image of a case."""
    names = sorted(_files())
    return names[case % len(names)]


def make_judge(
    seed: int,
    inspect: Callable[[bytes, int], decoding.Inspection] = decoding.inspect,
    decode: Callable[[bytes], np.ndarray] = decoding.decode,
) -> Judge:
    """Return what reads a damaged image as `prepare` does and as `extract` does, and compares.

    The outcome of a case is "accepted", "refused", or what is wrong: "traceback" (another
    exception than UnreadableImage), "disagreement" (one accepts and the other refuses, or the
    sizes differ), "silent" (cut short, with other pixels, and accepted).
    """
    whole = {name: decode(data) for name, data in _files().items()}

    def judge(case: int) -> Verdict:
        name, kind, data = damaged(seed, case)
        answers: list[tuple[int, ...] | str] = []
        pixels = None
        for read in (lambda: inspect(data, THUMBNAIL_SIDE), lambda: decode(data)):
            try:
                found = read()
            except UnreadableImage as error:
                answers.append(f"refused: {error.reason}")
            # What a user would see as a traceback is what is counted here.
            except Exception as error:
                return Verdict(case, name, "traceback", f"{kind}: {type(error).__name__}: {error}")
            else:
                if isinstance(found, decoding.Inspection):
                    answers.append((found.height, found.width))
                else:
                    pixels = found
                    answers.append(found.shape[:2])
        if isinstance(answers[0], str) and isinstance(answers[1], str):
            return Verdict(case, name, "refused", f"{kind}: {answers[1]}")
        if answers[0] != answers[1]:
            return Verdict(case, name, "disagreement", f"{kind}: {answers[0]}, {answers[1]}")
        if kind == "truncate" and not np.array_equal(pixels, whole[name]):
            return Verdict(case, name, "silent", f"cut to {len(data)} of {len(_files()[name])}")
        return Verdict(case, name, "accepted", kind)

    return judge


def _rows(table: Path) -> int:
    with table.open(encoding="utf-8", newline="") as file:
        return sum(1 for _ in csv.reader(file)) - 1


def run_commands(seed: int, folder: Path, count: int) -> list[Verdict]:
    """Put damaged images through `prepare` and `headstart predict`: none may get lost."""
    project = scratch.make(folder / "commands", changes={"prepare.max_unreadable": 1.0})
    for name in ("prepare", "extract", "train", "novelty", "evaluate"):
        project.check(*scratch.stage(name))
    mixed = project.root / "photos" / "mixed"
    mixed.mkdir()
    for case in range(count):
        name, _, data = damaged(seed, case)
        (mixed / f"{case:05}-{name}").write_bytes(data)
    files = [path for path in (project.root / "photos").rglob("*") if path.is_file()]
    verdicts = []

    def tell(name: str, given: int, used: int, told: int, err: str, seconds: float) -> None:
        outcome = "finished" if given == used + told else "lost"
        if "Traceback" in err:
            outcome = "traceback"
        counts = f"{given} files, {used} used, {told} told, {seconds:.1f} s"
        verdicts.append(Verdict(-1, name, outcome, counts + err[-500:] * (outcome != "finished")))

    started = time.monotonic()
    done = project.run(*scratch.stage("prepare"))
    seconds = time.monotonic() - started
    used, told = (_rows(project.root / path) for path in (places.MANIFEST, places.QUARANTINE))
    tell("prepare", len(files), used, told, done.stderr, seconds)
    started = time.monotonic()
    done = project.run(*scratch.command("predict", "photos/mixed", "--format", "json"))
    told = len(re.findall(r"^error: photos/mixed/", done.stderr, re.MULTILINE))
    used = len(done.stdout.splitlines())
    tell("predict", count, used, told, done.stderr, time.monotonic() - started)
    return verdicts
