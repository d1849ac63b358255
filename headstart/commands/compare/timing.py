"""How long one pass through a backbone takes on this machine."""

import os
import platform
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np

from headstart.common.cache import Keep
from headstart.extraction.bottleneck import Bottleneck
from headstart.extraction.engines import Engine
from headstart.extraction.extract import Load
from headstart.extraction.store import FeatureStore

_REPETITIONS = 5
_SECONDS = 0.5
"""All repetitions together last about this long."""

# Load average per core; the run before the measurement makes for about one. A time measured on a
# busier machine is shown as that, and measured again when it is less busy.
_BUSY = 2.0


@dataclass(frozen=True, slots=True)
class PassTime:
    """Time of one image's pass through a backbone.

    Attributes:
        milliseconds: With all cores at work, decoding not counted.
        busy: Whether other programs kept the machine busy while it was measured.
    """

    milliseconds: float
    busy: bool


def pass_time(bottleneck: Bottleneck, store: FeatureStore, load: Load) -> PassTime:
    """Measure a backbone, or take what was measured on this machine before.

    Args:
        bottleneck: With one tap.
        store: Where converted models are kept; measurements lie beside them.
        load: Makes the engine, or has it.
    """
    (identity,) = bottleneck.taps
    # Another machine or library, another time; an engine is called as its library is.
    library = identity.engine.removesuffix("-gpu")
    machine = [platform.node(), platform.machine(), os.cpu_count(), version(library)]
    key = [identity.fingerprint, *machine]
    keep = Keep("times", store.root)
    kept = keep.get(key)
    if kept is not None:
        return PassTime(kept, busy=False)
    disturbed = [*key, "busy"]
    if _is_busy() and (kept := keep.get(disturbed)) is not None:
        return PassTime(kept, busy=True)
    milliseconds = _measure(bottleneck, load(bottleneck, store))
    busy = _is_busy()
    keep.put(disturbed if busy else key, milliseconds)
    return PassTime(milliseconds, busy)


def _is_busy() -> bool:
    return os.getloadavg()[0] > _BUSY * (os.cpu_count() or 1)


def _measure(bottleneck: Bottleneck, engine: Engine) -> float:
    """Return the time of one image in the fastest of some runs: others disturb, none help."""
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
