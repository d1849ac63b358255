"""What tests have a Ray worker run in place of an engine; each is a function, as Ray wants it.

Each call of an engine is noted beside the store, in the file `tally`, one byte each; each worker's
process in the file `workers`.
"""

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.extraction.bottleneck import Bottleneck
from headstart.extraction.engines import Engine
from headstart.extraction.extract import Load
from headstart.extraction.on_ray import worker
from headstart.extraction.store import FeatureStore
from headstart.features.identity import FeatureIdentity

SECONDS = 0.01


class _Slow:
    """Takes its time, and dies of a black picture."""

    def __init__(self, engine: Engine, tally: Path) -> None:
        self._engine = engine
        self._tally = tally
        self.batch_size, self.workers = engine.batch_size, engine.workers
        self.feature_shapes, self.versions = engine.feature_shapes, engine.versions

    def __call__(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
        if not images.any():
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(SECONDS)
        _note(self._tally, "1")
        return self._engine(images)


def recover_slowly(identity: FeatureIdentity) -> tuple[Bottleneck, Load]:
    bottleneck, load = worker.recover(identity)

    def slowly(bottleneck: Bottleneck, store: FeatureStore) -> Any:
        _note(store.root.parent / "workers", f"{os.getpid()}\n")
        return _Slow(load(bottleneck, store), store.root.parent / "tally")

    return bottleneck, slowly


def recover_never(identity: FeatureIdentity) -> tuple[Bottleneck, Load]:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError(identity)


def recover_elsewhere(identity: FeatureIdentity) -> tuple[Bottleneck, Load]:
    """As on a node whose own environment names another store."""
    os.environ["HEADSTART_CACHE"] = os.environ["ANOTHER_STORE"]
    return worker.recover(identity)


def _note(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, text.encode())
    os.close(descriptor)
