"""What a candidate is said to have cost."""

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from ruamel.yaml import YAML

from headstart.commands.compare.candidates import Candidate, make_candidates
from headstart.commands.compare.memory import Memory
from headstart.commands.compare.running import Runner
from headstart.commands.compare.sandbox import Sandbox
from headstart.common import places
from headstart.extraction.store import FeatureStore, make_keys


class Shared:
    """A sandbox whose candidates fail after extraction, while another process fills the store.

    Args:
        root: Where the stages write.
        store: That the other process fills, too.
        tap: What it computes.
        computed: Images per run; None where the extraction does not run again.
    """

    def __init__(self, root: Path, store: FeatureStore, tap: Any, computed: list[int | None]):
        self.root, self._store, self._tap, self._computed = root, store, tap, computed

    def run(self, stage: str, params: Any, *, itself: bool = True) -> bool:
        return False

    def run_experiment(self, stage: str, params: Any, name: str) -> bool:
        computed = self._computed.pop(0)
        collection = self._store.collection(self._tap)
        digests = [f"{len(collection) + number:064x}" for number in range(5)]
        with collection.writer((2,), {}) as writer:
            writer.add(make_keys(digests, [""] * 5), np.zeros((5, 2), np.float32))
        if computed is not None:
            path = self.root / places.EXTRACT_METRICS
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps({"computed": computed}))
        return False


def test_what_others_put_into_the_store_is_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content: dict[str, Any] = YAML().load(Path(__file__).parents[4] / "params.yaml")
    content["extract"]["weights"] = "random"
    candidates = make_candidates(["LeNet5", "AlexNet"], [("train.seed", [0, 1])], content)[:3]
    store = FeatureStore(tmp_path / "store")
    tap = candidates[0].bottleneck.taps[0]
    shared = Shared(tmp_path, store, tap, [3, None, 0])

    class Nothing:
        def outcome(self, candidate: Candidate) -> None:
            return None

    runner = Runner(lambda: cast(Sandbox, shared), store, cast(Memory, Nothing()), "tree")
    assert runner.run(candidates) == []
    assert len(store.collection(tap)) > 0
    assert list(runner.computed.values()) == [3, 0, 0]
