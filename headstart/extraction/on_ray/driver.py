"""What the machine that drives does: cut requests into slices, give them out, hear of losses.

Whatever is lost with a worker is given to another one; what it had brought into the store is not
computed again.
"""

import itertools
import logging
import os
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from headstart.common.errors import InputError
from headstart.common.progress import notify, progress
from headstart.extraction.bottleneck import Bottleneck
from headstart.extraction.on_ray.worker import (
    Answer,
    Order,
    Recover,
    Slice,
    Worker,
    code_digest,
    recover,
)
from headstart.extraction.requests import Request, keys_of
from headstart.extraction.store import Collection, FeatureStore, unique_keys
from headstart.images.options import AugmentOptions

ADDRESS = "RAY_ADDRESS"

# Images in a slice. A worker closes its shard at the end of each, so a slice is what its death
# costs at most: a 512th of all, for 1 % over five deaths.
LEAST, MOST = 32, 2048
SHARE = 512

# One is computed, one lies there ready.
_UNDER_WAY = 2

# Deaths of a worker over one slice, or starts that fail on one node, before the run ends.
_DEATHS = 3

# Seconds between looks at the cluster's nodes, and before it is told that no worker has started.
_LOOK = 1.0
_PATIENCE = 15.0

# Seconds in which what another machine has written appears here: NFS remembers what is in a folder
# for up to 60 (acdirmax).
VISIBLE = 70.0

# Nothing but requests and answers goes through it.
_OBJECT_STORE = 100 * 2**20


@dataclass(eq=False, slots=True)
class _Given:
    """A slice on its way.

    Attributes:
        requests: The slice.
        deaths: Workers that died while they computed it.
    """

    requests: Slice
    deaths: int = 0


@dataclass(eq=False, slots=True)
class _Actor:
    """A worker as the driver knows it.

    Attributes:
        handle: Ray's.
        node: Ray's name of its node.
        address: What people call that node.
        ready: Whether it has started and agreed.
        under_way: What it was given, in order; None stands for its start.
    """

    handle: Any
    node: str
    address: str
    ready: bool = False
    under_way: dict[Any, _Given | None] = field(default_factory=dict)


class _Node(NamedTuple):
    address: str
    actors: int
    cpus: int


class Fleet:
    """Workers on all nodes of a Ray cluster, one on each, or one for each GPU.

    A context manager: workers end with it.

    Args:
        bottleneck: What to compute.
        recipe: What makes the views; needed if there will be any.
        store: Where this machine finds the vectors afterwards.
        lenient: Whether images that cannot be read are left out, rather than an error.
        recover: Makes of the first tap's identity what computes it.
    """

    def __init__(
        self,
        bottleneck: Bottleneck,
        recipe: AugmentOptions | None,
        store: FeatureStore,
        *,
        lenient: bool = False,
        recover: Recover = recover,
    ) -> None:
        self._bottleneck = bottleneck
        self._recipe = recipe
        self._store = store
        self._lenient = lenient
        self._recover = recover
        self._collections: list[Collection] = []
        self._on_gpu = bottleneck.taps[0].engine == "tensorflow-gpu"
        self._connected = self._own_connection = False
        self._actors: list[_Actor] = []
        self._failed_starts: Counter[str] = Counter()
        self._given_back: deque[_Given] = deque()
        self._looked = self._idle_since = -np.inf

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers, and the connection where this made it."""
        if not self._connected:
            return
        import ray

        for actor in self._actors:
            with suppress(Exception):  # whatever Ray says of a worker that is gone already
                ray.kill(actor.handle)
        self._actors.clear()
        self._connected = False
        if self._own_connection:
            ray.shutdown()
            self._own_connection = False

    def fill(self, requests: Sequence[Request], *, quiet: bool = False) -> int:
        """Make sure that the vectors of requests are in the store.

        Where nothing lacks, no cluster is needed.

        Args:
            requests: The views of an image together.
            quiet: Draw no bar.

        Returns:
            How many vectors lacked and are there now.

        Raises:
            InputError: there is no cluster, or one of its nodes cannot compute this; an image has
                changed or can no longer be read; a slice has killed its worker time and again; the
                nodes' store is not this machine's.
        """
        keys = keys_of(requests, self._recipe)
        rows = self._missing(keys)
        if not len(rows):
            return 0
        self._connect()
        images = sum(1 for _ in itertools.groupby(requests[row].sha256 for row in rows.tolist()))
        size = max(LEAST, min(MOST, images // SHARE))
        unreadable: set[str] = set()
        with progress(total=len(rows), desc="Extracting on Ray", quiet=quiet) as bar:
            for given, answer in self._compute(_slices(requests, rows, size)):
                unreadable.update(answer.unreadable)
                bar.set_postfix_str(f"{sum(actor.ready for actor in self._actors)} workers")
                bar.update(len(given.requests))
        readable = [row for row in rows.tolist() if requests[row].path not in unreadable]
        self._await(keys[readable])
        return len(readable)

    def _missing(self, keys: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Return the rows whose vectors lack, each vector once."""
        if not self._collections:
            self._collections = [self._store.collection(tap) for tap in self._bottleneck.taps]
        else:
            for collection in self._collections:
                collection.reload()
        stored = np.ones(len(keys), dtype=bool)
        for collection in self._collections:
            stored &= collection.contains(keys)
        rows = np.flatnonzero(~stored)
        missing: NDArray[np.int64] = rows[unique_keys(keys[rows])]
        return missing

    def _await(self, keys: NDArray[np.uint8]) -> None:
        """Wait until what the nodes have written is seen here, too."""
        until = time.monotonic() + VISIBLE
        while len(lacking := self._missing(keys)):
            if time.monotonic() > until:
                raise InputError(
                    f"{self._store.root}: expected a feature store that this machine and all nodes "
                    f"of the Ray cluster share; of {len(keys):,} vectors that were computed "
                    f"{len(lacking):,} are not in it. Name a folder on a shared disk by "
                    "HEADSTART_CACHE on all of them, or bring theirs here: `headstart cache push` "
                    "there, `headstart cache pull` here"
                )
            time.sleep(_LOOK)

    def _connect(self) -> None:
        if self._connected:
            return
        if find_spec("ray") is None:
            raise InputError("on: ray is not installed; run `pip install 'headstart[ray]'`")
        import ray

        if not ray.is_initialized():
            self._own_connection = True
            _connect()
        self._connected = True
        if self._bottleneck.taps[0].engine == "openvino":
            from headstart.extraction.engines import openvino_models

            # Once, rather than by every node: that takes TensorFlow, and its memory.
            openvino_models.obtain(self._bottleneck, self._store)

    def _compute(self, slices: Iterator[_Given]) -> Iterator[tuple[_Given, Answer]]:
        """Give out slices, and yield each when it is done, with what the worker said."""
        import ray

        self._idle_since = time.monotonic()
        while True:
            if time.monotonic() - self._looked >= _LOOK:
                self._look()
            left = self._give_out(slices)
            if not left and not any(any(actor.under_way.values()) for actor in self._actors):
                return
            waiting = {ref: actor for actor in self._actors for ref in actor.under_way}
            if not waiting:
                time.sleep(_LOOK)
                continue
            done, _ = ray.wait(list(waiting), num_returns=1, timeout=_LOOK)
            if done:
                # All that are, at once.
                done, _ = ray.wait(list(waiting), num_returns=len(waiting), timeout=0)
            for ref in done:
                yield from self._take(waiting[ref], ref)

    def _give_out(self, slices: Iterator[_Given]) -> bool:
        """Give each worker enough to do; return whether slices may be left."""
        ready = [actor for actor in self._actors if actor.ready]
        for depth in range(1, _UNDER_WAY + 1):
            for actor in ready:
                if len(actor.under_way) >= depth:
                    continue
                given = self._given_back.popleft() if self._given_back else next(slices, None)
                if given is None:
                    return False
                actor.under_way[actor.handle.compute.remote(given.requests)] = given
        return True

    def _take(self, actor: _Actor, ref: Any) -> Iterator[tuple[_Given, Answer]]:
        import ray

        if ref not in actor.under_way:
            # It was lost with its worker, a moment ago.
            return
        try:
            answer = Answer(*ray.get(ref))
        except ray.exceptions.RayTaskError:
            # The worker's code answers whatever happens: this is a defect.
            raise
        except ray.exceptions.RayError as error:
            self._lose(actor, str(error))
            return
        if answer.kind == "failed":
            raise RuntimeError(f"on node {actor.address}:\n{answer.text}")
        if answer.kind == "refused":
            raise InputError(f"{answer.text} (on node {actor.address})")
        given = actor.under_way.pop(ref)
        if given is None:
            actor.ready = True
            self._failed_starts[actor.node] = 0
        else:
            yield given, answer

    def _look(self) -> None:
        """Start workers on nodes that are new or have lost theirs; forget those of lost nodes."""
        nodes = self._nodes()
        for actor in list(self._actors):
            if actor.node not in nodes:
                self._lose(actor, "its node is gone")
        have = Counter(actor.node for actor in self._actors)
        for name, node in nodes.items():
            for _ in range(node.actors - have[name]):
                self._actors.append(self._start(name, node))
        self._looked = time.monotonic()
        if any(actor.ready for actor in self._actors):
            self._idle_since = self._looked
        elif self._looked - self._idle_since > _PATIENCE:
            self._idle_since = self._looked
            notify(
                "waiting for a node of the Ray cluster that has "
                f"{'a GPU' if self._on_gpu else 'its CPUs'} free"
            )

    def _nodes(self) -> dict[str, _Node]:
        """Return the nodes that can compute, by Ray's name."""
        import ray

        nodes = {}
        for node in ray.nodes():
            resources = node.get("Resources", {})
            cpus = int(resources.get("CPU", 0))
            actors = int(resources.get("GPU", 0)) if self._on_gpu else min(1, cpus)
            if node["Alive"] and actors:
                nodes[node["NodeID"]] = _Node(node["NodeManagerAddress"], actors, cpus // actors)
        return nodes

    def _start(self, name: str, node: _Node) -> _Actor:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        order = Order(
            code=code_digest(),
            taps=[tap.as_dict() for tap in self._bottleneck.taps],
            recipe=self._recipe,
            cache=str(self._store.root),
            project=str(Path.cwd()),
            lenient=self._lenient,
            threads=max(1, node.cpus),
        )
        made = ray.remote(
            num_cpus=node.cpus,
            num_gpus=1 if self._on_gpu else 0,
            # A loss is told at once, and another worker begins where it is needed.
            max_restarts=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(name, soft=False),
        )(Worker)
        handle = made.remote(order.model_dump_json(), self._recover)
        actor = _Actor(handle, name, node.address)
        actor.under_way[handle.start.remote()] = None
        return actor

    def _lose(self, actor: _Actor, why: str) -> None:
        """Take back what a lost worker had; say so where that happens time and again."""
        import ray

        if actor not in self._actors:
            return
        self._actors.remove(actor)
        with suppress(Exception):  # whatever Ray says of a worker that is gone already
            ray.kill(actor.handle)
        # A worker computes in the order in which it was given slices.
        given = [one for one in actor.under_way.values() if one is not None]
        self._given_back.extendleft(reversed(given))
        # Of a node that is gone, the slice need not be to blame.
        if actor.node not in self._nodes():
            return
        if not actor.ready:
            self._failed_starts[actor.node] += 1
            if self._failed_starts[actor.node] == _DEATHS:
                raise InputError(
                    f"node {actor.address} of the Ray cluster: {_DEATHS} workers were started and "
                    f"none lived ({' '.join(why.split())}); check that the same Headstart is "
                    "installed there, and its memory"
                )
        elif given:
            given[0].deaths += 1
            if given[0].deaths == _DEATHS:
                path, _, _ = given[0].requests[0]
                raise InputError(
                    f"{path}: {_DEATHS} workers were killed while they computed this image or one "
                    f"of the {len(given[0].requests) - 1:,} after it, the last on node "
                    f"{actor.address} ({' '.join(why.split())}); give workers more memory, or find "
                    "the image with `headstart predict` and leave it out"
                )


def fill(
    bottleneck: Bottleneck,
    requests: Sequence[Request],
    recipe: AugmentOptions | None,
    store: FeatureStore,
) -> int:
    """Make sure that the vectors of requests are in the store; see `Fleet.fill`."""
    with Fleet(bottleneck, recipe, store) as fleet:
        return fleet.fill(requests)


def _slices(requests: Sequence[Request], rows: NDArray[np.int64], size: int) -> Iterator[_Given]:
    """Cut rows into slices of so many images, in order; an image's views stay together."""
    images = itertools.groupby(rows.tolist(), key=lambda row: requests[row].sha256)
    by_image = ([requests[row] for row in group] for _, group in images)
    while some := list(itertools.islice(by_image, size)):
        yield _Given([(one.path, one.sha256, one.view) for image in some for one in image])


def _connect() -> None:
    import ray

    address = os.environ.get(ADDRESS)
    if not address:
        raise InputError(
            f"on: ray needs a cluster, and {ADDRESS} is not set. Start one with `ray start --head` "
            f"and set {ADDRESS}=auto there, or name its address; {ADDRESS}=local starts one on "
            "this machine alone"
        )
    # Ray would send usage data to its makers, unasked.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    local: dict[str, Any] = {"include_dashboard": False, "object_store_memory": _OBJECT_STORE}
    # Ray takes SIGTERM for itself.
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM) if main else None
    try:
        ray.init(
            address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            **(local if address == "local" else {}),
        )
    # What Ray raises where it finds no cluster, or one of other versions.
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise InputError(
            f"{ADDRESS}: expected the address of a running Ray cluster, received {address}: "
            f"{' '.join(str(error).split())}; start one with `ray start --head`"
        ) from None
    finally:
        if handler is not None:
            signal.signal(signal.SIGTERM, handler)
