"""Running candidates in the sandbox, and reading what came of them."""

import time
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np

from headstart.commands.compare.candidates import Candidate
from headstart.commands.compare.halving import Dropped, Merit, halve
from headstart.commands.compare.results import Comparison, Result, TestPredictions, compare
from headstart.commands.compare.sandbox import Sandbox
from headstart.commands.compare.timing import pass_time
from headstart.common import places
from headstart.common.errors import InputError
from headstart.common.files import read_json
from headstart.common.progress import notify
from headstart.dataset.manifest import read_manifest
from headstart.evaluation.choice import is_right
from headstart.extraction.store import FeatureStore
from headstart.heads.finetuned_card import NAME as FINETUNED
from headstart.scoring.predictions import Predictions


class Runner:
    """Runs candidates one after the other and counts what they cost.

    Args:
        sandbox: Where they run.
        store: The feature store, which they share.

    Attributes:
        computed: Images that went through the backbone so far, by the candidate's label.
        failed: Labels of those that failed.
    """

    def __init__(self, sandbox: Sandbox, store: FeatureStore) -> None:
        self._sandbox = sandbox
        self._store = store
        self._begun = 0
        self.computed: dict[str, int] = {}
        self.failed: list[str] = []

    def judge(self, candidate: Candidate, share: float) -> Merit | None:
        """Train a candidate on a share of the images; return its merit, None if it fails."""
        content = deepcopy(candidate.content)
        content["extract"]["share"] = round(share * content["extract"].get("share", 1.0), 6)
        if not self._run(candidate, content, "train", f", {share:.0%} of the images"):
            return None
        cost = read_json(self._sandbox.root / places.EXTRACT_METRICS)["cost"]
        heads = read_json(self._sandbox.root / places.HEADS_METRICS)
        return min((_merit(head, cost) for head in heads.values()), key=lambda merit: merit.rank)

    def run(self, candidate: Candidate) -> Result | None:
        """Run a candidate on all images and keep it as an experiment; return None if it fails."""
        started = time.monotonic()
        # Up to the scores: a page for each candidate would take longer than training it.
        if not self._run(candidate, candidate.content, "evaluate"):
            return None
        name = candidate.experiment(self._sandbox.baseline)
        self._sandbox.save_experiment(name)
        root = self._sandbox.root
        extraction = read_json(root / places.EXTRACT_METRICS)
        heads = read_json(root / places.HEADS_METRICS)
        test = read_json(root / places.TEST_METRICS)
        selected = test["selected"]
        head, trained, predictions = selected["head"], selected["head"], f"heads/{selected['head']}"
        validated = heads.get(head)
        if head == FINETUNED:
            # Its own parameters are mostly the backbone's; its head is the one it started from.
            trained, predictions = test["finetuned"]["gain"]["over"], "finetuned"
            validated = read_json(root / places.FINETUNE_METRICS)
        if "accuracy" not in selected:
            raise InputError(
                "compare: expected test images to compare on, received none: raise prepare.test in "
                "params.yaml, or where every class is one unit add images or groups"
            )
        interval = selected.get("intervals", {}).get("accuracy")
        return Result(
            label=candidate.label,
            experiment=name,
            overrides=dict(candidate.overrides),
            head=head,
            merit=_merit(validated, extraction["cost"]),
            accuracy=selected["accuracy"],
            interval=None if interval is None else (interval[0], interval[1]),
            predictions=_read_predictions(root, root / places.PREDICTIONS / f"{predictions}.h5"),
            time=pass_time(candidate.bottleneck, self._store),
            parameters=extraction["cost"]["parameters"] + heads[trained]["parameters"],
            rows=extraction["images"] + extraction["views"],
            computed=self.computed[candidate.label],
            seconds=round(time.monotonic() - started, 1),
        )

    def _run(
        self, candidate: Candidate, content: dict[str, Any], stage: str, part: str = ""
    ) -> bool:
        self._begun += 1
        notify(f"[{self._begun}] {candidate.label}{part}")
        tap = candidate.bottleneck.taps[0]
        before = len(self._store.collection(tap))
        succeeded = self._sandbox.reproduce(stage, content)
        new = len(self._store.collection(tap)) - before
        self.computed[candidate.label] = self.computed.get(candidate.label, 0) + new
        if not succeeded:
            self.failed.append(candidate.label)
        return succeeded


def run_all(runner: Runner, candidates: Sequence[Candidate], *, budget: bool) -> Comparison:
    """Run candidates, or with a budget the promising ones, and compare them.

    Raises:
        InputError: none of them succeeded.
    """
    dropped: list[Dropped[Candidate]] = []
    left = list(candidates)
    if budget:
        left, dropped = halve(candidates, runner.judge)
    results = [result for candidate in left if (result := runner.run(candidate)) is not None]
    if not results:
        raise InputError(
            "compare: no candidate ran to its end; their messages are above. `dvc repro` shows "
            "whether the params as they are work"
        )
    options = left[0].params.evaluate
    marked, winner, method = compare(results, resamples=options.bootstrap, seed=options.seed)
    extractors = {candidate.bottleneck.taps[0].fingerprint for candidate in candidates}
    return Comparison(
        results=marked,
        winner=winner,
        method=method,
        dropped=tuple(Dropped(one.candidate.label, one.share, one.merit) for one in dropped),
        failed=tuple(runner.failed),
        computed=sum(runner.computed.values()),
        without_budget=len(extractors) * max(result.rows for result in results),
    )


def _merit(metrics: dict[str, Any], cost: dict[str, Any]) -> Merit:
    scores = metrics.get("validation", {})
    if "accuracy" not in scores:
        raise InputError(
            "compare: expected held-out images to choose by, received none, since no class has two "
            "units (images that belong together count once): add images or groups to prepare.source"
        )
    return Merit(
        validation_accuracy=scores["accuracy"],
        multiply_adds=cost["multiply_adds"],
        validation_log_loss=scores["log_loss"],
    )


def _read_predictions(root: Path, path: Path) -> TestPredictions:
    manifest = read_manifest(root / places.MANIFEST)
    predictions = Predictions.read(path, "evaluate")
    image = predictions.image
    return TestPredictions(
        images=np.array([manifest.rows[row].sha256 for row in image]),
        right=is_right(manifest.labels[image], predictions.probabilities),
        groups=manifest.groups[image],
    )
