"""What it takes to know a million vectors, in many shards, in few, and with an index."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from bench.projects import ROOT
from bench.results import table
from bench.scaling.cluster import bottleneck
from headstart.extraction.compaction import compact
from headstart.extraction.store import Collection, FeatureStore

HEADING = "Scale: the store"
COUNT, N_COLUMNS = 1_000_000, 8
SHARDS = (1_000, 3_126)
_ASKED, _READ = 10_000, 100_000


def keys_of(first: int, count: int) -> np.ndarray:
    """Return keys that any process draws alike, (count, 32) uint8."""
    return np.random.default_rng(first).integers(0, 256, (count, 32), np.uint8)


def _fill(collection: Collection, n_shards: int) -> None:
    size = -(-COUNT // n_shards)
    for first in range(0, COUNT, size):
        count = min(size, COUNT - first)
        vectors = np.random.default_rng(first).standard_normal((count, N_COLUMNS))
        with collection.writer((N_COLUMNS,), {}) as writer:
            writer.add(keys_of(first, count), vectors.astype(np.float32))


def opened(root: Path, size: int) -> dict[str, float]:
    """Open the collection in this process, which has done nothing else, and use it."""
    identity = bottleneck().taps[0]
    store = FeatureStore(root)
    before = psutil.Process().memory_full_info().uss
    times = [time.perf_counter()]
    collection = store.collection(identity)
    times.append(time.perf_counter())
    private = psutil.Process().memory_full_info().uss - before
    collection.reload()
    times.append(time.perf_counter())
    assert collection.contains(keys_of(0, size)[:_ASKED]).all()
    times.append(time.perf_counter())
    firsts = range(0, COUNT, size)[: -(-_READ // size)]
    asked = np.concatenate([keys_of(first, min(size, COUNT - first)) for first in firsts])
    assert sum(len(rows) for rows, _ in collection.read(asked)) == len(asked)
    times.append(time.perf_counter())
    names = ("open", "reload", "contains", "read")
    return {**dict(zip(names, np.diff(times).tolist(), strict=True)), "private": private}


def _told(root: Path, size: int) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "bench.scaling.store", str(root), str(size)],
        cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    found: dict[str, float] = json.loads(done.stdout)
    return found


def measure() -> list[str]:
    """Return the table."""
    rows = []
    for n_shards in SHARDS:
        with tempfile.TemporaryDirectory() as folder:
            root, size = Path(folder), -(-COUNT // n_shards)
            collection = FeatureStore(root).collection(bottleneck().taps[0])
            _fill(collection, n_shards)
            (collection.folder / "index").unlink(missing_ok=True)
            states = [("no index yet", _told(root, size)), ("indexed", _told(root, size))]
            begun = time.perf_counter()
            done = compact(collection.folder)
            seconds = time.perf_counter() - begun
            _told(root, size)
            states.append((f"compacted in {seconds:.0f} s to {done.merged}", _told(root, size)))
            index = (collection.folder / "index").stat().st_size
            for state, told in states:
                rows.append(
                    (
                        f"{n_shards:,}", state, f"{told['open']:.3f}", f"{told['reload']:.4f}",
                        f"{told['contains']:.3f}", f"{told['read']:.2f}",
                        f"{told['private'] / 1e6:.1f} MB", f"{index / COUNT:.2f}",
                    )
                )  # fmt: skip
                print(*rows[-1], flush=True)
    header = [
        "shards", "", "open, s", "reload, s", f"contains, {_ASKED:,} keys, s",
        f"read, {_READ:,} vectors, s", "private memory of opening", "bytes of index a vector",
    ]  # fmt: skip
    return [
        f"A million vectors of {N_COLUMNS} numbers; each line a process of its own.",
        "",
        *table(header, rows),
    ]


if __name__ == "__main__":
    print(json.dumps(opened(Path(sys.argv[1]), int(sys.argv[2]))))
