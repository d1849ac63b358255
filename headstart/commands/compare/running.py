"""Running candidates in the sandbox, and reading what came of them."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from headstart.commands.compare.candidates import Candidate
from headstart.commands.compare.halving import Dropped, Merit, halve
from headstart.commands.compare.memory import Memory
from headstart.commands.compare.results import (
    Comparison,
    Outcome,
    Result,
    TestPredictions,
    compare,
)
from headstart.commands.compare.sandbox import Sandbox
from headstart.commands.compare.timing import pass_time
from headstart.common import places
from headstart.common.errors import InputError
from headstart.common.files import digest_of, read_json
from headstart.common.progress import notify
from headstart.dataset.manifest import read_manifest
from headstart.evaluation.choice import is_right
from headstart.extraction import engines
from headstart.extraction.bottleneck import Bottleneck, identify
from headstart.extraction.feature_rows import wanted_features
from headstart.extraction.store import FeatureStore
from headstart.extraction.together import Pass, extract_together
from headstart.heads.finetuned_card import NAME as FINETUNED
from headstart.scoring.predictions import Predictions

_PARAMETERS = 250_000_000
"""Networks are loaded at the same time up to so many parameters, a gigabyte of float32."""

_RUN, _ROUND = 2.0, 1.0
"""Seconds that a candidate takes on few images, passes apart: up to its scores, and in a round."""


class _Loaded(NamedTuple):
    engine: engines.Engine
    parameters: int


class Runner:
    """Runs candidates and counts what they cost.

    Args:
        open_sandbox: Gives where they run, the same each time; not called where nothing does.
        store: The feature store, which they share.
        memory: What earlier comparisons found.
        tree: The baseline's git tree.

    Attributes:
        computed: Images that went through the backbone so far, by the candidate's label.
        failed: Labels of those that failed.
    """

    def __init__(
        self,
        open_sandbox: Callable[[], Sandbox],
        store: FeatureStore,
        memory: Memory,
        tree: str,
    ) -> None:
        self._open_sandbox = open_sandbox
        self._store = store
        self._memory = memory
        self._tree = tree
        self._begun = 0
        self._engines: dict[str, _Loaded] = {}
        self._seconds: dict[str, float] = {}
        self._pass_seconds: dict[str, float] = {}
        self.computed: dict[str, int] = {}
        self.failed: list[str] = []

    def judge(
        self, candidates: Sequence[Candidate], share: float, keep: int
    ) -> list[Merit | None] | None:
        """Train candidates on a share of the images; see `headstart.commands.compare.halving`."""
        merits = {one.label: self._memory.merit(one, share) for one in candidates}
        new = [one for one in candidates if merits[one.label] is None]
        for part in _parts(new):
            self._extract(part, share)
        if new and not self._pays(candidates, share, keep):
            notify(f"a round on {share:.0%} of the images would take longer than it saves: none")
            return None
        for candidate in new:
            merit = self._judge(candidate, share)
            if merit is not None:
                self._memory.put_merit(candidate, share, merit)
            merits[candidate.label] = merit
        return [merits[one.label] for one in candidates]

    def run(self, candidates: Sequence[Candidate]) -> list[Result]:
        """Run candidates on all images and keep them as experiments; leave out those that fail."""
        outcomes = {one.label: self._memory.outcome(one) for one in candidates}
        for label, outcome in outcomes.items():
            if outcome is not None:
                notify(f"{label}: taken over, nothing that decides it has changed")
        for part in _parts([one for one in candidates if outcomes[one.label] is None]):
            self._extract(part, 1.0)
            for candidate in part:
                outcome = self._run_whole(candidate)
                if outcome is not None:
                    self._memory.put_outcome(candidate, outcome)
                outcomes[candidate.label] = outcome
        return [
            Result.of(
                outcome,
                label=one.label,
                experiment=one.experiment(self._tree),
                overrides=dict(one.overrides),
                time=pass_time(one.bottleneck, self._store, self._load),
                computed=self.computed.get(one.label, 0),
                seconds=round(self._seconds.get(one.label, 0.0), 1),
            )
            for one in candidates
            if (outcome := outcomes[one.label]) is not None
        ]

    def _judge(self, candidate: Candidate, share: float) -> Merit | None:
        content = _on_share(candidate, share)
        # Nobody looks at it.
        content["train"]["learning_curve"] = "none"
        if not self._run(candidate, content, "train", f", {share:.0%} of the images"):
            return None
        root = self._open_sandbox().root
        cost = read_json(root / places.EXTRACT_METRICS)["cost"]
        heads = read_json(root / places.HEADS_METRICS)
        return min((_merit(head, cost) for head in heads.values()), key=lambda merit: merit.rank)

    def _run_whole(self, candidate: Candidate) -> Outcome | None:
        # Up to the scores: a page for each candidate would take longer than training it.
        name = candidate.experiment(self._tree)
        if not self._run(candidate, candidate.content, "evaluate", name=name):
            return None
        return _read_outcome(self._open_sandbox().root)

    def _run(
        self,
        candidate: Candidate,
        content: dict[str, Any],
        stage: str,
        part: str = "",
        name: str = "",
    ) -> bool:
        """Run a candidate up to a stage, as an experiment where it has a name."""
        self._begun += 1
        notify(f"[{self._begun}] {candidate.label}{part}")
        sandbox = self._open_sandbox()
        tap = candidate.bottleneck.taps[0]
        before = len(self._store.collection(tap))
        started = time.monotonic()
        succeeded = (
            sandbox.run_experiment(stage, content, name) if name else sandbox.run(stage, content)
        )
        computed = len(self._store.collection(tap)) - before
        self._count(candidate, computed, time.monotonic() - started)
        if not succeeded:
            self.failed.append(candidate.label)
        return succeeded

    def _count(self, candidate: Candidate, computed: int, seconds: float) -> None:
        label = candidate.label
        self.computed[label] = self.computed.get(label, 0) + computed
        self._seconds[label] = self._seconds.get(label, 0.0) + seconds

    def _extract(self, candidates: Sequence[Candidate], share: float) -> None:
        """Compute the features of candidates that see the same images, each image read once.

        What fails here fails once more when the candidate itself runs, which tells it.
        """
        sandbox = self._open_sandbox()
        if not sandbox.run("extract", _on_share(candidates[0], share), itself=False):
            return
        with sandbox.located():
            manifest = read_manifest(places.MANIFEST)
            passes: dict[str, tuple[Candidate, Pass]] = {}
            for candidate in candidates:
                with suppress(InputError):
                    options = candidate.params.extract.model_copy(
                        update={"share": _share(candidate, share)}
                    )
                    # Anew, since its weights may have been trained here.
                    bottleneck = identify(options, candidate.bottleneck.taps[0].engine)
                    wanted = wanted_features(manifest, options)
                    one = Pass(bottleneck, wanted.requests, wanted.recipe)
                    key = digest_of(options.model_dump(mode="json"))
                    passes.setdefault(key, (candidate, one))
            sizes = {row.sha256: (row.height, row.width) for row in manifest}
            costs = extract_together(
                [one for _, one in passes.values()], sizes, store=self._store, load=self._load
            )
        for (candidate, one), cost in zip(passes.values(), costs, strict=True):
            self._count(candidate, cost.computed, cost.seconds)
            if cost.computed:
                rows = len(one.requests) / share
                self._pass_seconds[candidate.label] = cost.seconds / cost.computed * rows

    def _load(self, bottleneck: Bottleneck, store: FeatureStore) -> engines.Engine:
        """Return a network's engine, which stays loaded while it is among those last used."""
        key = bottleneck.taps[0].fingerprint
        if key not in self._engines:
            self._make_room(bottleneck.spec.parameters)
            self._engines[key] = _Loaded(
                engines.load(bottleneck, store), bottleneck.spec.parameters
            )
        # The last used is the last to go.
        self._engines[key] = loaded = self._engines.pop(key)
        return loaded.engine

    def _make_room(self, parameters: int) -> None:
        held = sum(one.parameters for one in self._engines.values())
        for key in list(self._engines):
            if held + parameters > _PARAMETERS:
                held -= self._engines.pop(key).parameters

    def _pays(self, candidates: Sequence[Candidate], share: float, keep: int) -> bool:
        """Return whether a round saves more time than it costs.

        Its features are not lost: those who stay have computed a part of theirs.
        """
        # As if those with the shortest passes were dropped.
        rest = sorted((1 - share) * self._pass_seconds.get(one.label, 0.0) for one in candidates)
        dropped = len(candidates) - keep
        return sum(rest[:dropped]) + _RUN * dropped > _ROUND * len(candidates)


def run_all(runner: Runner, candidates: Sequence[Candidate], *, budget: bool) -> Comparison:
    """Run candidates, or with a budget the promising ones, and compare them.

    Raises:
        InputError: none of them succeeded.
    """
    dropped: list[Dropped[Candidate]] = []
    left = list(candidates)
    if budget:
        left, dropped = halve(candidates, runner.judge)
    results = runner.run(left)
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


def _parts(candidates: Sequence[Candidate]) -> list[list[Candidate]]:
    """Return candidates together that see the same images and whose networks fit into memory."""
    by_data: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        sections = (candidate.params.prepare, candidate.params.pretrain)
        key = digest_of([section.model_dump(mode="json") for section in sections])
        by_data.setdefault(key, []).append(candidate)
    parts = []
    for group in by_data.values():
        part: list[Candidate] = []
        for candidate in group:
            networks = {one.bottleneck.spec for one in (*part, candidate)}
            if part and sum(spec.parameters for spec in networks) > _PARAMETERS:
                parts.append(part)
                part = []
            part.append(candidate)
        parts.append(part)
    return parts


def _share(candidate: Candidate, share: float) -> float:
    """Return which share of the images that share of its own is."""
    return round(share * candidate.params.extract.share, 6)


def _on_share(candidate: Candidate, share: float) -> dict[str, Any]:
    """Return a candidate's params.yaml with a share of its images."""
    content = deepcopy(candidate.content)
    content["extract"]["share"] = _share(candidate, share)
    return content


def _read_outcome(root: Path) -> Outcome:
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
    return Outcome(
        head=head,
        merit=_merit(validated, extraction["cost"]),
        accuracy=selected["accuracy"],
        interval=None if interval is None else (interval[0], interval[1]),
        predictions=_read_predictions(root, root / places.PREDICTIONS / f"{predictions}.h5"),
        parameters=extraction["cost"]["parameters"] + heads[trained]["parameters"],
        rows=extraction["images"] + extraction["views"],
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
