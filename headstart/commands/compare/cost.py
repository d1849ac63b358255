"""What one pass through a backbone costs: time on this machine, arithmetic, size."""

import json
import os
import platform
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from headstart.common.files import digest_of, write_json
from headstart.common.vocabulary import EngineName
from headstart.extraction import engines
from headstart.extraction.bottleneck import Bottleneck
from headstart.extraction.network_size import network_size
from headstart.extraction.store import FeatureStore

_REPETITIONS = 5
_SECONDS = 2.0
"""A repetition lasts at least this share of it, all of them about as long as this."""

# Load average per core; the run before the measurement makes for about one. A time measured on a
# busier machine is told, but not kept.
_BUSY = 2.0

_LIBRARIES: dict[EngineName, str] = {"openvino": "openvino", "tensorflow": "tensorflow"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one image costs.

    Attributes:
        milliseconds: Time of one image's pass on this machine, all cores at work, decoding not
            counted.
        busy: Whether other programs kept the machine busy while it was measured.
        multiply_adds: Of its convolutions and dense layers, up to the cut.
        parameters: Learned values up to the cut, and of the head.
    """

    milliseconds: float
    busy: bool
    multiply_adds: int
    parameters: int

    @property
    def megabytes(self) -> float:
        """Size of the parameters in float32, 10^6 bytes."""
        return self.parameters * 4 / 1e6


def measure(bottleneck: Bottleneck, store: FeatureStore, head_parameters: int) -> Cost:
    """Measure a backbone, or take what was measured on this machine before.

    Args:
        bottleneck: With one tap.
        store: Where converted models and measurements are kept.
        head_parameters: Learned values of the head on top.
    """
    (identity,) = bottleneck.taps
    library = version(_LIBRARIES[identity.engine])
    # Another machine or library, another time.
    where = [platform.node(), platform.machine(), os.cpu_count(), library]
    time_at = store.root / "costs" / f"{digest_of([identity.fingerprint, *where])}.json"
    timed = _load(time_at)
    busy = False
    if timed is None:
        timed = {"milliseconds": _milliseconds(bottleneck, store)}
        busy = os.getloadavg()[0] > _BUSY * (os.cpu_count() or 1)
        if not busy:
            write_json(time_at, timed)
    size = network_size(identity, store)
    return Cost(
        milliseconds=timed["milliseconds"],
        busy=busy,
        multiply_adds=size.multiply_adds,
        parameters=size.parameters + head_parameters,
    )


def _load(path: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError):
        return None


def _milliseconds(bottleneck: Bottleneck, store: FeatureStore) -> float:
    """Return the time of one image in the fastest of some runs: others disturb, none help."""
    engine = engines.load(bottleneck, store)
    height, width = bottleneck.image_size
    # Not all zeros: arithmetic on denormal or empty maps may be faster.
    images = np.random.default_rng(0).integers(
        0, 256, (engine.batch_size, height, width, 3), dtype=np.uint8
    )
    with ThreadPoolExecutor(engine.workers) as pool:

        def run(calls: int) -> float:
            started = time.perf_counter()
            for _ in pool.map(lambda _: engine(images), range(calls)):
                pass
            return time.perf_counter() - started

        run(engine.workers)  # the first calls allocate
        once = run(engine.workers) / engine.workers
        calls = engine.workers * max(1, round(_SECONDS / _REPETITIONS / once / engine.workers))
        fastest = min(run(calls) for _ in range(_REPETITIONS))
    return fastest / calls / engine.batch_size * 1e3
