"""Workers and nodes that come and go, on four local nodes: the same bytes, and what it costs."""

import hashlib
import os
import random
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil

from bench.projects import ROOT, changed_params
from bench.results import table
from bench.scaling.project import BACKBONE, write_pictures
from bench.scaling.workers import TALLY, WORKERS, recover_counting
from headstart.extraction import engines
from headstart.extraction.bottleneck import Bottleneck, identify
from headstart.extraction.extract import Extraction, extract
from headstart.extraction.on_ray.driver import Fleet
from headstart.extraction.requests import Request, request_for
from headstart.extraction.store import FeatureStore
from headstart.features.file import Columns

HEADING = "Scale: a cluster whose workers die"
COUNT, NODES, TURNS = 100_000, 4, 3
_OBJECT_STORE = 80 * 2**20
# Shares of the vectors at which something happens.
_EVENTS = ((0.15, "kill"), (0.35, "kill"), (0.5, "lose"), (0.65, "join"), (0.8, "kill"))
# A lost node is noticed in seconds rather than half a minute.
_NOTICING = {
    "health_check_initial_delay_ms": 500,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 2000,
    "health_check_failure_threshold": 3,
}


class Turn(NamedTuple):
    """What a run came to.

    Attributes:
        seconds: By the clock.
        driver: CPU seconds of the driving process.
        twice: Vectors that were computed once more.
        early: Bytes of the largest worker in the first half of the run.
        late: The same in the second half.
        same: Whether the feature file is that of one machine.
    """

    seconds: float
    driver: float
    twice: int
    early: int
    late: int
    same: bool


def bottleneck() -> Bottleneck:
    """Return a small network with random weights."""
    options = changed_params({f"extract.{key}": value for key, value in BACKBONE.items()}).extract
    return identify(options, engines.resolve(options.engine, options.precision, options.backbone))


def digest(extraction: Extraction, requests: Sequence[Request], target: Path) -> str:
    """Write the feature file of requests and return the digest of its bytes."""
    count = len(requests)
    columns = Columns(
        label=np.arange(count) % 2,
        split=np.repeat("train", count),
        sha256=np.array([request.sha256 for request in requests]),
        view=np.zeros(count, np.int32),
        group=np.full(count, -1),
        image=np.arange(count),
    )
    extraction.write(target, ("a", "b"), columns)
    with target.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def cluster() -> Iterator[Any]:
    """Start the nodes, of one CPU each."""
    import ray
    from ray.cluster_utils import Cluster

    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT)}
    os.environ.pop("HEADSTART_CACHE", None)
    made = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 1, "object_store_memory": _OBJECT_STORE, "include_dashboard": False,
            "_system_config": _NOTICING,
        },
    )  # fmt: skip
    for _ in range(NODES - 1):
        made.add_node(num_cpus=1, object_store_memory=_OBJECT_STORE)
    os.environ["RAY_ADDRESS"] = made.address
    try:
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


def turn(nodes: Any, requests: Sequence[Request], root: Path, expected: str, seed: int) -> Turn:
    """Fill an empty store on a cluster while workers and a node are lost."""
    draws = random.Random(seed)
    largest = {False: 0, True: 0}
    tally = root / TALLY

    def done() -> float:
        return tally.stat().st_size / len(requests) if tally.exists() else 0.0

    def living() -> list[int]:
        pids = map(int, (root / WORKERS).read_text().split()) if tally.exists() else []
        return [pid for pid in pids if psutil.pid_exists(pid)]

    def watch() -> None:
        for pid in living():
            with suppress(psutil.Error):
                half = done() > 0.5
                largest[half] = max(largest[half], psutil.Process(pid).memory_info().rss)

    def kill() -> None:
        os.kill(draws.choice(living()), signal.SIGKILL)

    acts: dict[str, Callable[[], Any]] = {
        "kill": kill,
        "lose": lambda: nodes.remove_node(next(iter(nodes.worker_nodes)), allow_graceful=False),
        "join": lambda: nodes.add_node(num_cpus=1, object_store_memory=_OBJECT_STORE),
    }
    store = FeatureStore(root / "store")
    begun, cpu = time.perf_counter(), time.process_time()
    with (
        ThreadPoolExecutor(1) as pool,
        Fleet(bottleneck(), None, store, recover=recover_counting) as fleet,
    ):
        filling = pool.submit(fleet.fill, requests, quiet=True)
        for share, act in _EVENTS:
            while done() < share and not filling.done():
                watch()
                time.sleep(0.2)
            if filling.done():
                filling.result()
                raise SystemExit(f"{act}: the run had ended before")
            acts[act]()
        while not filling.done():
            watch()
            time.sleep(0.2)
        filling.result()
    seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    extraction = extract(bottleneck(), requests, store=store, quiet=True)
    assert extraction.counts.computed == 0
    return Turn(
        seconds, cpu, tally.stat().st_size - len(requests), largest[False],
        largest[True], digest(extraction, requests, root / "ray.h5") == expected,
    )  # fmt: skip


def measure() -> list[str]:
    """Return the table."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_pictures(root / "photos", COUNT, 10)
        with ThreadPoolExecutor() as pool:
            requests = list(pool.map(request_for, sorted((root / "photos").rglob("*.png"))))
        begun = time.perf_counter()
        local = extract(bottleneck(), requests, store=FeatureStore(root / "local"), quiet=True)
        alone = time.perf_counter() - begun
        expected = digest(local, requests, root / "local.h5")
        turns = []
        for seed in range(TURNS):
            here = root / str(seed)
            here.mkdir()
            with cluster() as nodes:
                turns.append(turn(nodes, requests, here, expected, seed))
            print(turns[-1], flush=True)
    return [
        f"{COUNT:,} pictures of 32 x 32, LeNet5; {NODES} local nodes of one CPU on this machine, "
        f"which takes {alone:.0f} s alone. In each turn three workers are killed, a node is lost "
        "with its worker, and one joins. Aim: the same bytes, at most 1 % computed twice.",
        "",
        *rows(turns, COUNT),
    ]


def rows(turns: Sequence[Turn], count: int) -> list[str]:
    """Return the table of some turns."""
    header = [
        "turn", "seconds", "same bytes", "computed twice", "largest worker, first half",
        "second half", "driving process, CPU s per million",
    ]  # fmt: skip
    lines = [
        (
            str(number), f"{one.seconds:.0f}", "yes" if one.same else "NO",
            f"{one.twice} ({one.twice / count:.2%})", f"{one.early / 1e6:,.0f} MB",
            f"{one.late / 1e6:,.0f} MB", f"{one.driver / count * 1e6:,.0f}",
        )
        for number, one in enumerate(turns, start=1)
    ]  # fmt: skip
    return table(header, lines)
