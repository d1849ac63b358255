"""Running candidates in the sandbox, in rounds or on all images."""

import time
from collections.abc import Callable, Sequence, Set
from contextlib import suppress
from functools import partial
from pathlib import PurePath
from typing import Any, NamedTuple

from headstart.commands.compare.candidates import Candidate
from headstart.commands.compare.halving import START, Dropped, Trial, halve, shares
from headstart.commands.compare.memory import Memory
from headstart.commands.compare.reading import (
    Images,
    read_computed,
    read_images,
    read_outcome,
    read_trial,
    written,
)
from headstart.commands.compare.results import Comparison, Cost, Outcome, Result, compare
from headstart.commands.compare.rounds import (
    PARAMETERS,
    data_key,
    in_round,
    left_out_of_rounds,
    on_share,
    parts,
    share_of,
    smallest_share,
)
from headstart.commands.compare.sandbox import Sandbox
from headstart.commands.compare.timing import pass_time
from headstart.common import places
from headstart.common.errors import InputError
from headstart.common.files import digest_of
from headstart.common.progress import notify
from headstart.dataset.manifest import read_manifest
from headstart.extraction import engines
from headstart.extraction.bottleneck import Bottleneck, identify
from headstart.extraction.feature_rows import wanted_features
from headstart.extraction.store import FeatureStore
from headstart.extraction.together import Pass, extract_together

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
        self._images: dict[str, Images] = {}
        self._seconds: dict[str, float] = {}
        self._pass_seconds: dict[str, float] = {}
        self.computed: dict[str, int] = {}
        self.failed: list[str] = []

    def start(self, candidates: Sequence[Candidate]) -> float:
        """Return the smallest share of the images that leaves enough to judge by.

        Above 1 it is too few even with all of them.
        """
        found = [START]
        for part in parts(candidates):
            images, params = self._images_of(part[0]), part[0].params
            if images is not None:
                shots = params.train.shots is not None
                found.append(smallest_share(images, params.extract.share, shots=shots))
        return max(found)

    def judge(
        self, candidates: Sequence[Candidate], share: float, keep: int, left_out: Set[str]
    ) -> list[Trial | None] | None:
        """Train candidates on a share of the images; see `headstart.commands.compare.halving`.

        Args:
            candidates: Which.
            share: Of the images.
            keep: How many of them may stay.
            left_out: Heads that need not be trained, see `left_out_of_rounds`.
        """
        trials = {one.label: self._memory.trial(one, share, left_out) for one in candidates}
        new = [one for one in candidates if trials[one.label] is None]
        for part in parts(new):
            self._extract(part, share)
        if new and not self._pays(candidates, share, keep):
            notify(f"a round on {share:.0%} of the images would take longer than it saves: none")
            return None
        for candidate in new:
            trial = self._judge(candidate, share, left_out)
            if trial is not None:
                self._memory.put_trial(candidate, share, left_out, trial)
            trials[candidate.label] = trial
        return [trials[one.label] for one in candidates]

    def run(self, candidates: Sequence[Candidate]) -> list[Result]:
        """Run candidates on all images and keep them as experiments; leave out those that fail."""
        outcomes = {one.label: self._memory.outcome(one) for one in candidates}
        for label, outcome in outcomes.items():
            if outcome is not None:
                notify(f"{label}: taken over, nothing that decides it has changed")
        for part in parts([one for one in candidates if outcomes[one.label] is None]):
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

    def _images_of(self, candidate: Candidate) -> Images | None:
        """Count a candidate's images; None where they cannot be prepared, which it tells later."""
        key = data_key(candidate)
        images = self._images.get(key) or self._memory.images(candidate)
        if images is None:
            sandbox = self._open_sandbox()
            if not sandbox.run("extract", candidate.content, itself=False):
                return None
            images = read_images(sandbox.root)
            self._memory.put_images(candidate, images)
        self._images[key] = images
        return images

    def _judge(self, candidate: Candidate, share: float, left_out: Set[str]) -> Trial | None:
        content = in_round(candidate, share, left_out, self._images_of(candidate))
        if not self._run(candidate, content, "train", f", {share:.0%} of the images"):
            return None
        return read_trial(self._open_sandbox().root)

    def _run_whole(self, candidate: Candidate) -> Outcome | None:
        # Up to the scores: a page for each candidate would take longer than training it.
        name = candidate.experiment(self._tree)
        if not self._run(candidate, candidate.content, "evaluate", name=name):
            return None
        return read_outcome(self._open_sandbox().root, candidate.model)

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
        before = written(sandbox.root)
        started = time.monotonic()
        succeeded = (
            sandbox.run_experiment(stage, content, name) if name else sandbox.run(stage, content)
        )
        self._count(candidate, read_computed(sandbox.root, before), time.monotonic() - started)
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
        if not sandbox.run("extract", on_share(candidates[0], share), itself=False):
            return
        with sandbox.located():
            manifest = read_manifest(places.MANIFEST)
            passes: dict[str, tuple[Candidate, Pass]] = {}
            for candidate in candidates:
                with suppress(InputError):
                    options = candidate.params.extract.model_copy(
                        update={"share": share_of(candidate, share)}
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
            if held + parameters > PARAMETERS:
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
        start = runner.start(candidates)
        if shares(start) == (1.0,):
            notify("too few images to judge on a part of them: every candidate gets all")
        judge = partial(runner.judge, left_out=left_out_of_rounds(candidates))
        left, dropped = halve(candidates, judge, start=start)
    results = runner.run(left)
    if not results:
        raise InputError(
            "compare: no candidate ran to its end; their messages are above. `dvc repro` shows "
            "whether the params as they are work"
        )
    tuned = all(one.model is not None for one in candidates)
    timed = all(one.training_seconds is not None for one in results)
    cost: Cost = "training" if tuned and timed else "pass"
    marked, winner, method = compare(results, cost)
    extractors = {candidate.bottleneck.taps[0].fingerprint for candidate in candidates}
    return Comparison(
        results=marked,
        winner=winner,
        method=method,
        cost=cost,
        subject=_subject(candidates),
        dropped=tuple(
            Dropped(one.candidate.label, one.share, one.merit, one.reason) for one in dropped
        ),
        failed=tuple(runner.failed),
        computed=sum(runner.computed.values()),
        without_budget=len(extractors) * max(result.rows for result in results),
    )


def _subject(candidates: Sequence[Candidate]) -> str:
    """Say what all candidates have in common: their data set, and their backbone's input."""
    sources = {", ".join(map(_short_name, one.params.prepare.sources)) for one in candidates}
    networks = {one.params.extract.backbone for one in candidates}
    sizes = {one.bottleneck.image_size for one in candidates}
    parts = [sources.pop() if len(sources) == 1 else f"{len(sources)} data sets"]
    parts += [networks.pop()] if len(networks) == 1 else []
    if len(sizes) == 1:
        height, width = sizes.pop()
        parts.append(f"{height} x {width} pixels")
    return ", ".join(parts)


def _short_name(source: str) -> str:
    return PurePath(source).name or source
