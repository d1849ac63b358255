"""Measure the way from files to pixels step by step, and that the compiled resize is Pillow's.

Usage: python bench/pixels.py PHOTOS [--repetitions 5] [--cases 10000] [--dry]

All steps alternate within one process, repetition by repetition, and the median is told, so that
whatever else the machine does hits all alike. Photos come to 224 x 224, bilinearly.
"""

import argparse
import hashlib
import resource
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.extraction import requests_for
from bench.results import machine, table, write_section
from headstart.common.vocabulary import Sizing
from headstart.extraction.requests import Request
from headstart.images import compiled, decoding, resizing

SIZE = (224, 224)
THREADS = (1, 2)
TASK = 8  # images handed to a thread at once


def steps(requests: list[Request]) -> dict[str, Callable[[int], object]]:
    """Return what is done to an image of a number, by name."""
    files = [decoding.read(Path(request.path)) for request in requests]
    images = [decoding.decode(data) for data in files]

    def pillow(image: np.ndarray) -> np.ndarray:
        return resizing._by_pillow(image, *SIZE, "bilinear")

    def checked(index: int) -> np.ndarray:
        return decoding.read_checked(Path(requests[index].path), requests[index].sha256)

    found = {
        "sha256": lambda index: hashlib.sha256(files[index]).digest(),
        "decoding": lambda index: decoding.decode(files[index]),
        "resizing by Pillow": lambda index: pillow(images[index]),
        "resizing, compiled": lambda index: resizing.resize(images[index], Sizing(SIZE)),
        "decoding and resizing by Pillow": lambda index: pillow(decoding.decode(files[index])),
        "decoding and resizing, compiled": lambda index: resizing.resize(
            decoding.decode(files[index]), Sizing(SIZE)
        ),
        "reading, sha256, decoding and resizing, compiled": lambda index: resizing.resize(
            checked(index), Sizing(SIZE)
        ),
    }
    if compiled.resample() is None:
        return {name: step for name, step in found.items() if "compiled" not in name}
    return found


def measure(
    requests: list[Request], repetitions: int
) -> dict[tuple[str, int], tuple[float, float]]:
    """Return images per second, and processor microseconds per image, by step and threads."""
    parts = [range(start, len(requests))[:TASK] for start in range(0, len(requests), TASK)]
    taken: dict[tuple[str, int], list[tuple[float, float]]] = {}
    found = steps(requests)
    for _ in range(repetitions):
        for threads in THREADS:
            with ThreadPoolExecutor(threads) as pool:
                for name, step in found.items():

                    def work(part: range, step: Callable = step) -> None:
                        for index in part:
                            step(index)

                    before, start = _processor_seconds(), time.perf_counter()
                    list(pool.map(work, parts))
                    wall = time.perf_counter() - start
                    used = _processor_seconds() - before
                    taken.setdefault((name, threads), []).append((wall, used))
    n = len(requests)
    return {
        key: (
            n / statistics.median(wall for wall, _ in values),
            statistics.median(used for _, used in values) / n * 1e6,
        )
        for key, values in taken.items()
    }


def _processor_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def compare(cases: int, seed: int = 0) -> int:
    """Resize random pixels between random sizes in both ways; return how many cases differ."""
    resample = compiled.resample()
    assert resample is not None
    rng = np.random.default_rng(seed)
    different = 0
    for case in range(cases):
        # Sides of all magnitudes, and now and then one of a few pixels beside a long one.
        height, width, new_height, new_width = (int(2**x) for x in rng.uniform(0, 9.5, 4))
        if case % 8 == 0:
            height, width = rng.permutation([int(rng.integers(1, 4)), int(2 ** rng.uniform(0, 14))])
        elif case % 8 < 4:
            height, width = rng.integers(60, 700, 2)
            new_height, new_width = SIZE
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        if case % 3 == 0:
            image = (image >> 7) * np.uint8(255)
        for interpolation in ("bilinear", "bicubic"):
            ours = resample(image, new_height, new_width, interpolation == "bicubic")
            pillows = resizing._by_pillow(image, new_height, new_width, interpolation)
            different += not np.array_equal(ours, pillows)
    return different


def main() -> None:
    """Measure, compare and write the section."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, help="folder of photos")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--cases", type=int, default=10_000, help="images, each by both filters")
    parser.add_argument("--dry", action="store_true", help="print, do not write RESULTS.md")
    arguments = parser.parse_args()
    lines = [f"Machine: {machine()}.", ""]
    requests = requests_for(arguments.photos)
    rates = measure(requests, arguments.repetitions)
    lines += [
        f"{len(requests)} photos of {arguments.photos.name} to {SIZE[0]} x {SIZE[1]}, images per "
        f"second and processor time per image by threads, median of {arguments.repetitions}.",
        "",
        *table(
            [
                "step",
                *[f"{n} thread{'s' * (n > 1)}" for n in THREADS],
                *[f"processor µs, {n}" for n in THREADS],
            ],
            [
                [
                    name,
                    *[f"{rates[name, n][0]:,.0f}" for n in THREADS],
                    *[f"{rates[name, n][1]:.0f}" for n in THREADS],
                ]
                for name in dict.fromkeys(name for name, _ in rates)
            ],
        ),
        "",
    ]
    if compiled.resample() is None:
        lines.append("The compiled resize is not here: Pillow does it.")
    elif arguments.cases:
        different = compare(arguments.cases)
        lines.append(
            f"Of {arguments.cases:,} images of random pixels and sizes, resized bilinearly and "
            f"bicubically, {different} of {2 * arguments.cases:,} results differ from Pillow's."
        )
    print("\n".join(lines))
    if not arguments.dry:
        write_section("Pixels", lines)


if __name__ == "__main__":
    main()
