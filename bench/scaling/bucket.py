"""A cluster on photos of an object store that refuses one request in fifty, and back from there."""

import os
import tempfile
import time
from pathlib import Path

from bench.results import table
from bench.scaling.cluster import NODES, Turn, bottleneck, cluster, digest, rows, turn
from bench.scaling.project import write_pictures
from headstart.commands.cli import main as headstart
from headstart.extraction.extract import extract
from headstart.extraction.requests import Request, request_for
from headstart.extraction.store import FeatureStore
from tests.object_store import Store, environment, object_store

HEADING = "Scale: an object store that fails"
COUNT, TURNS, FAILING = 10_000, 3, 0.02


def _requests(store: Store, photos: Path) -> list[Request]:
    """Put the photos into the bucket, and ask for them there."""
    found = []
    for path in sorted(photos.rglob("*.png")):
        here = request_for(path)
        url = store.put(f"photos/{path.relative_to(photos).as_posix()}", path.read_bytes())
        found.append(here._replace(path=url))
    return found


def _there_and_back(root: Path, remote: str) -> tuple[float, float]:
    """Push a store and pull it into an empty one; return the seconds of both."""
    taken = []
    for action, name in (("push", "store"), ("pull", "pulled")):
        os.environ["HEADSTART_CACHE"] = str(root / name)
        begun = time.perf_counter()
        assert headstart(["cache", action, remote, "--all"]) == 0
        taken.append(time.perf_counter() - begun)
    del os.environ["HEADSTART_CACHE"]
    return taken[0], taken[1]


def measure() -> list[str]:
    """Return the tables."""
    turns: list[Turn] = []
    told = []
    with tempfile.TemporaryDirectory() as folder, object_store() as server:
        root = Path(folder)
        os.environ |= environment(server)
        write_pictures(root / "photos", COUNT, 10)
        requests = _requests(server, root / "photos")
        local = [request_for(path) for path in sorted((root / "photos").rglob("*.png"))]
        done = extract(bottleneck(), local, store=FeatureStore(root / "local"), quiet=True)
        expected = digest(done, local, root / "local.h5")
        server.failing = FAILING
        for seed in range(TURNS):
            here = root / str(seed)
            here.mkdir()
            server.requests.clear()
            with cluster() as nodes:
                turns.append(turn(nodes, requests, here, expected, seed))
            reads = server.requests["GET"]
            server.requests.clear()
            push, pull = _there_and_back(here, f"s3://photos/store-{seed}")
            back = extract(bottleneck(), requests, store=FeatureStore(here / "pulled"), quiet=True)
            same = digest(back, requests, here / "pulled.h5") == expected
            told.append(
                (
                    str(seed + 1), f"{reads:,}", f"{reads / COUNT - 1:.1%}", f"{push:.1f}",
                    str(server.requests["PUT"]), f"{pull:.1f}", str(back.counts.computed),
                    "yes" if same else "NO",
                )
            )  # fmt: skip
            print(turns[-1], told[-1], flush=True)
    header = [
        "turn", "GETs of photos", "beyond one each", "push, s", "PUTs", "pull, s",
        "computed after it", "same bytes",
    ]  # fmt: skip
    return [
        f"{COUNT:,} pictures in the bucket of an S3 server of moto; {FAILING:.0%} of all requests "
        f"are refused with the status 503. {NODES} local nodes, with losses as of a cluster whose "
        "workers die; then the store is pushed to the bucket and pulled into an empty one. The "
        "server and what refuses, in Python, are in the driving process and take most of its time.",
        "",
        *rows(turns, COUNT),
        "",
        *table(header, told),
    ]
