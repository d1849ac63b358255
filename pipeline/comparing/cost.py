"""What one pass through a backbone costs: time on this machine, arithmetic, size."""

import json
import os
import platform
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from pipeline import engines
from pipeline.bottleneck import Bottleneck
from pipeline.feature_store import FeatureStore
from pipeline.files import write_json
from pipeline.identity import EngineName, FeatureIdentity, digest_of

_REPETITIONS = 5
_SECONDS = 2.0
"""A repetition lasts at least this share of it, all of them about as long as this."""

_LIBRARIES: dict[EngineName, str] = {"openvino": "openvino", "tensorflow": "tensorflow"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one image costs.

    Attributes:
        milliseconds: Time of one image's pass on this machine, all cores at work, decoding not
            counted.
        multiply_adds: Of its convolutions and dense layers, up to the cut.
        parameters: Learned values up to the cut, and of the head.
    """

    milliseconds: float
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
    path = _kept_at(identity, store)
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        kept = {"milliseconds": _milliseconds(bottleneck, store), **_size(bottleneck)}
        write_json(path, kept)
    return Cost(
        milliseconds=kept["milliseconds"],
        multiply_adds=kept["multiply_adds"],
        parameters=kept["parameters"] + head_parameters,
    )


def _kept_at(identity: FeatureIdentity, store: FeatureStore) -> Path:
    # Another machine or library, another time.
    where = [platform.node(), platform.machine(), os.cpu_count()]
    library = _LIBRARIES[identity.engine]
    digest = digest_of([identity.fingerprint, library, version(library), *where])
    return store.root / "costs" / f"{digest}.json"


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


def _size(bottleneck: Bottleneck) -> dict[str, int]:
    # Only here is TensorFlow needed, which takes seconds to import.
    from pipeline.backbones.building import build_architecture
    from pipeline.backbones.cuts import get_cut

    network = build_architecture(bottleneck.spec, bottleneck.image_size, seed=0)
    cut = get_cut(network, bottleneck.taps[0].layer)
    return {"multiply_adds": cut.multiply_adds_below, "parameters": cut.parameters_below}
