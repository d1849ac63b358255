"""What a Ray worker of `cluster` and `bucket` runs: as ever, and noting each vector in a file."""

import os
from pathlib import Path
from typing import Any

from headstart.extraction import store as stores
from headstart.extraction.bottleneck import Bottleneck
from headstart.extraction.extract import Load
from headstart.extraction.on_ray import worker
from headstart.extraction.store import FeatureStore, ShardWriter
from headstart.features.identity import FeatureIdentity

TALLY, WORKERS = "tally", "workers"
"""Beside the store: a byte for each computed vector, a line for each worker's process."""


def note(path: Path, text: str) -> None:
    """Append to a file that several processes append to."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, text.encode())
    os.close(descriptor)


def recover_counting(identity: FeatureIdentity) -> tuple[Bottleneck, Load]:
    """As `headstart.extraction.on_ray.worker.recover`."""
    bottleneck, load = worker.recover(identity)

    def counting(bottleneck: Bottleneck, store: FeatureStore) -> Any:
        folder = store.root.parent
        note(folder / WORKERS, f"{os.getpid()}\n")

        class CountingWriter(ShardWriter):
            def add(self, keys: Any, vectors: Any) -> None:
                note(folder / TALLY, "1" * len(keys))
                super().add(keys, vectors)

        stores.ShardWriter = CountingWriter  # type: ignore[misc]  # a class in place of one, in this process alone
        return load(bottleneck, store)

    return bottleneck, counting
