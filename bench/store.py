"""Measure what the feature store keeps: reuse, peak memory as data grow, and killed runs.

Usage: python bench/store.py [reuse|memory|kills] [--dry]
"""

import argparse
import hashlib
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.extraction import bottleneck, make_photos, rate, requests_for, write
from bench.results import machine, write_section
from headstart.extraction import engines
from headstart.extraction import store as feature_store
from headstart.extraction.extract import extract
from headstart.extraction.forward_pass import most_on_their_way
from headstart.extraction.requests import Request
from headstart.extraction.store import FeatureStore, make_keys

PARTS = ("reuse", "memory", "kills")
TALLY = "tally"


def reuse_figures(scratch: Path, count: int) -> list[str]:
    """Measure reuse, a tenth of new images, and a warm start."""
    make_photos(scratch / "photos", count)
    requests = requests_for(scratch / "photos")
    wanted = bottleneck("EfficientNetLite0", "pretrained", "openvino", "float32")
    store = FeatureStore(scratch / "reuse")
    extract(wanted, requests, store=store)
    tenth = len(requests) // 10
    fresh = FeatureStore(scratch / "tenth")
    fresh.root.mkdir()
    (fresh.root / "models").symlink_to(store.root / "models")
    extract(wanted, requests[tenth:], store=fresh)
    counts = extract(wanted, requests, store=fresh).counts
    if counts.computed != tenth:
        raise RuntimeError(f"expected {tenth} computed, received {counts.computed}")

    code = (
        "import time; started = time.perf_counter();"
        f"import sys; sys.path.insert(0, {str(ROOT)!r});"
        "import numpy as np; from pathlib import Path; from headstart.extraction import engines;"
        "from headstart.extraction.bottleneck import recover;"
        "from headstart.extraction.store import FeatureStore;"
        "from headstart.features.identity import FeatureIdentity;"
        f"wanted = recover(FeatureIdentity.from_dict({wanted.taps[0].as_dict()!r}));"
        f"engine = engines.load(wanted, FeatureStore(Path({str(store.root)!r})));"
        "engine(np.zeros((1, *wanted.image_size, 3), np.uint8));"
        "assert 'tensorflow' not in sys.modules; print(time.perf_counter() - started)"
    )
    starts = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
        for _ in range(3)
    ]

    # 20,000 vectors as if computed, since only looking up, checking and assembling is measured.
    many = [Request(f"{n}.jpg", hashlib.sha256(b"%d" % n).hexdigest()) for n in range(20_000)]
    keys = make_keys([request.sha256 for request in many], ["0"] * len(many))
    filled = FeatureStore(scratch / "filled")
    rng = np.random.default_rng(0)
    with filled.collection(wanted.taps[0]).writer((1280,), {}) as writer:
        for start in range(0, len(many), 1000):
            block = rng.standard_normal((1000, 1280), dtype=np.float32)
            writer.add(keys[start : start + 1000], block)

    def reuse() -> None:
        write(extract(wanted, many, store=filled), many, scratch / "reused.h5")

    rates = [rate(len(many), reuse) for _ in range(5)]
    return [
        f"- 10 % new images: computed {counts.computed} of {len(requests)}, exactly those.",
        f"- Warm start, from a new process to the first vector, no TensorFlow: "
        f"{statistics.median(starts):.2f} s.",
        f"- All reused: {statistics.median(rates):,.0f} vectors of 1280 assembled per second.",
    ]


class Counting:
    """An engine that notes each image it computes, one byte each, in a file for another process."""

    def __init__(self, engine: engines.Engine, tally: Path) -> None:
        self.engine, self.tally = engine, tally.open("ab", buffering=0)

    def __getattr__(self, name: str) -> object:
        return getattr(self.engine, name)

    def __call__(self, pixels: np.ndarray) -> tuple[np.ndarray, ...]:
        """See `engines.Engine`."""
        self.tally.write(b"." * len(pixels))
        return self.engine(pixels)


def extract_here(folder: str, root: str, target: str) -> None:
    """Run one extraction with a small backbone and print its peak memory; run as a process."""
    requests = requests_for(Path(folder))
    wanted = bottleneck("LeNet5", "random", "openvino", "float32")
    extraction = extract(
        wanted,
        requests,
        store=FeatureStore(Path(root)),
        load=lambda *arguments: Counting(engines.load(*arguments), Path(root, TALLY)),
    )
    write(extraction, requests, Path(target))
    print(peak_memory())


def peak_memory() -> int:
    """Return this process' peak resident memory in kB.

    Not `ru_maxrss`: on Linux a process inherits its parent's, which may have loaded TensorFlow.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)[1])


def start_extraction(folder: Path, root: Path, target: Path) -> subprocess.Popen[bytes]:
    """Start `extract_here` in a process of its own."""
    command = [sys.executable, __file__, "--process", str(folder), str(root), str(target)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def memory_figures(scratch: Path, count: int, repetitions: int) -> list[str]:
    """Compare the peak memory of a tenth of the images with that of all."""
    peaks = {}
    root = scratch / "memory-models"
    engines.load(bottleneck("LeNet5", "random", "openvino", "float32"), FeatureStore(root))
    for number in (count // 10, count):
        folder = scratch / f"small{number}"
        make_photos(folder, number, (64, 48))
        found = []
        for _ in range(repetitions):
            store = Path(tempfile.mkdtemp(dir=scratch))
            (store / "models").symlink_to(root / "models")
            output, _ = start_extraction(folder, store, scratch / "memory.h5").communicate()
            found.append(int(output) / 1024)
            shutil.rmtree(store)
        peaks[number] = statistics.median(found)
    few, many = peaks.values()
    return [
        f"- Peak memory, LeNet5 on small images: {few:.0f} MB at {count // 10:,} images, "
        f"{many:.0f} MB at {count:,}: {many / few:.2f} times."
    ]


def kill_figures(scratch: Path, count: int, kills: int) -> list[str]:
    """Kill runs at random moments; compare bytes, and count what their reruns computed again."""
    folder = scratch / "many"
    make_photos(folder, count, (64, 48))
    model_root = scratch / "kill-models"
    wanted = bottleneck("LeNet5", "random", "openvino", "float32")
    engine = engines.load(wanted, FeatureStore(model_root))

    def empty(name: str) -> Path:
        root = scratch / name
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        (root / "models").symlink_to(model_root / "models")
        (root / TALLY).touch()
        return root

    target = scratch / "killed.h5"
    if start_extraction(folder, empty("undisturbed"), target).wait():
        raise RuntimeError("the undisturbed run failed")
    expected = target.read_bytes()
    moments = random.Random(0)
    repeated = []
    for _ in range(kills):
        target.unlink(missing_ok=True)
        root = empty("killed")
        tally = root / TALLY
        process = start_extraction(folder, root, target)
        # By images, not by seconds, most of which go by before the first image.
        moment = moments.randrange(count)
        while tally.stat().st_size < moment and process.poll() is None:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if start_extraction(folder, root, target).wait() or target.read_bytes() != expected:
            raise RuntimeError("a rerun after SIGKILL gave other bytes")
        repeated.append(tally.stat().st_size - count)
    # What the engine has computed waits in tasks before it is in a shard; see BackbonePass.run.
    on_its_way = most_on_their_way(engine)
    shard = feature_store.SHARD_ROWS
    if max(repeated) > shard + on_its_way:
        raise RuntimeError(f"{max(repeated)} vectors were computed twice, a shard holds {shard}")
    return [
        f"- SIGKILL at {kills} random moments of {count:,} images, then a rerun: identical bytes "
        f"every time; at most {max(repeated)} vectors were computed twice (median "
        f"{statistics.median(repeated):.0f}), where a shard holds {shard} and {on_its_way} more "
        "may be on their way to it."
    ]


def main() -> None:
    """Run the part that is named, or all, and write a section for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", nargs="?", choices=PARTS)
    parser.add_argument("--images", type=int, default=600, help="photos of the reuse test")
    parser.add_argument("--small", type=int, default=20_000, help="images of the memory test")
    parser.add_argument("--repetitions", type=int, default=3, help="of the memory test")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--killed", type=int, default=4_000, help="small images of a killed run")
    parser.add_argument("--dry", action="store_true", help="print, do not write RESULTS.md")
    parser.add_argument("--process", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.process:
        extract_here(*arguments.process)
        return
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        measure = {
            "reuse": lambda: reuse_figures(scratch, arguments.images),
            "memory": lambda: memory_figures(scratch, arguments.small, arguments.repetitions),
            "kills": lambda: kill_figures(scratch, arguments.killed, arguments.kills),
        }
        for part in [arguments.part] if arguments.part else PARTS:
            lines = [f"Machine: {machine()}.", "", *measure[part]()]
            print("\n".join(lines), flush=True)
            if not arguments.dry:
                write_section(f"Extraction: {part}", lines)


if __name__ == "__main__":
    main()
