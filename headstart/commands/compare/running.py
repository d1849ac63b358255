"""Running candidates in the sandbox, and reading what came of them."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headstart.commands.compare.candidates import Candidate
from headstart.commands.compare.cost import measure
from headstart.commands.compare.halving import Dropped, Score, halve
from headstart.commands.compare.memory import Memory, Outcome
from headstart.commands.compare.results import Comparison, Result, TestPredictions, compare
from headstart.commands.compare.sandbox import Sandbox
from headstart.common.errors import InputError
from headstart.dataset.manifest import read_manifest
from headstart.evaluation.options import EvaluateOptions
from headstart.extraction import engines
from headstart.extraction.bottleneck import Bottleneck, identify
from headstart.extraction.options import ExtractOptions
from headstart.extraction.store import FeatureStore
from headstart.features.file import FeatureFile
from headstart.finetuning.card import NAME as FINETUNED
from headstart.scoring.predictions import Predictions

_NAMED_WEIGHTS = frozenset({"pretrained", "imagenet", "random"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A candidate with its params, checked.

    Attributes:
        candidate: What is compared.
        content: The whole content of its params.yaml.
        extract: Its section `extract`.
        evaluate: Its section `evaluate`.
        heads: Names of its heads.
    """

    candidate: Candidate
    content: dict[str, Any]
    extract: ExtractOptions
    evaluate: EvaluateOptions
    heads: tuple[str, ...]

    @property
    def label(self) -> str:
        """What sets it apart."""
        return self.candidate.label

    @property
    def bottleneck(self) -> Bottleneck:
        """What computes its features."""
        engine = engines.resolve(self.extract.engine, self.extract.precision)
        return identify(self.extract, engine)


class Runner:
    """Runs trials one after the other and counts what they cost.

    Args:
        sandbox: Where they run.
        store: The feature store, which they share.
        memory: What earlier comparisons found.
        announce: Told what begins.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        store: FeatureStore,
        memory: Memory,
        announce: Callable[[str], None],
    ) -> None:
        self._sandbox = sandbox
        self._store = store
        self._memory = memory
        self._announce = announce
        self._computed: dict[str, int] = {}
        self._inputs: dict[str, Any] = {}
        self.failed: list[str] = []

    @property
    def computed(self) -> int:
        """Images that went through a backbone so far."""
        return sum(self._computed.values())

    def score(self, trial: Trial, share: float) -> Score | None:
        """Train a trial on a share of the images; return its validation score, None if it fails."""
        self._announce(f"{trial.label}, {share:.0%} of the images")
        content = _with_share(trial, share)
        key = self._key(trial, content)
        score = None if key is None else self._memory.score(key)
        if score is not None:
            return score
        if not self._run(trial, lambda: self._sandbox.reproduce("train", content)):
            return None
        metrics = self._sandbox.root / "metrics"
        score = max(_validation(metrics / f"{name}.json") for name in trial.heads)
        if key is not None:
            self._memory.keep_score(key, score)
        return score

    def run(self, trial: Trial) -> tuple[Result, int] | None:
        """Run a trial on all images as an experiment.

        Returns:
            What came of it, and its rows of features; None if it failed.
        """
        self._announce(trial.label)
        started = time.monotonic()
        name = trial.candidate.experiment(self._sandbox.baseline)
        key = self._key(trial, trial.content)
        outcome = None
        if key is not None and self._sandbox.has_experiment(name):
            outcome = self._memory.outcome(key)
        if outcome is None:
            # Up to the scores: a page for each candidate would take longer than training it.
            if not self._run(
                trial, lambda: self._sandbox.run_experiment(name, "evaluate", trial.content)
            ):
                return None
            outcome = _read_outcome(self._sandbox.root)
            if key is not None:
                self._memory.keep_outcome(key, outcome)
        result = Result(
            label=trial.label,
            experiment=name,
            overrides=dict(trial.candidate.overrides),
            head=outcome.head,
            validation=outcome.validation,
            accuracy=outcome.accuracy,
            interval=outcome.interval,
            predictions=outcome.predictions,
            cost=measure(trial.bottleneck, self._store, outcome.head_parameters),
            computed=self._computed.get(trial.label, 0),
            seconds=round(time.monotonic() - started, 1),
        )
        return result, outcome.rows

    def _key(self, trial: Trial, content: dict[str, Any]) -> Any:
        """Return what decides a run's outcome; None where that is not known."""
        # A weights file may change, and git does not see it.
        if trial.extract.weights not in _NAMED_WEIGHTS:
            return None
        section = json.dumps(content["prepare"], sort_keys=True)
        if section not in self._inputs:
            # The user's images are no part of the tree either; DVC sees whether they changed.
            known = self._sandbox.reproduce("prepare", content)
            self._inputs[section] = self._sandbox.locked("prepare") if known else None
        inputs = self._inputs[section]
        return None if inputs is None else [self._sandbox.baseline, inputs, content]

    def _run(self, trial: Trial, run: Callable[[], bool]) -> bool:
        before = self._stored(trial)
        succeeded = run()
        new = self._stored(trial) - before
        self._computed[trial.label] = self._computed.get(trial.label, 0) + new
        if not succeeded:
            self.failed.append(trial.label)
        return succeeded

    def _stored(self, trial: Trial) -> int:
        return len(self._store.collection(trial.bottleneck.taps[0]))


def run_all(runner: Runner, trials: Sequence[Trial], *, budget: bool) -> Comparison:
    """Run trials, or with a budget the promising ones, and compare them.

    Raises:
        InputError: none of them succeeded.
    """
    dropped: list[Dropped[Trial]] = []
    left = list(trials)
    if budget:
        left, dropped = halve(trials, runner.score)
    runs = [run for trial in left if (run := runner.run(trial)) is not None]
    if not runs:
        raise InputError(
            "compare: no candidate ran to its end; their messages are above. `dvc repro` shows "
            "whether the params as they are work"
        )
    first = left[0].evaluate
    results = [result for result, _ in runs]
    marked, winner, method = compare(results, resamples=first.bootstrap, seed=first.seed)
    passes = {trial.bottleneck.taps[0].fingerprint for trial in trials}
    return Comparison(
        results=marked,
        winner=winner,
        method=method,
        dropped=tuple(Dropped(one.candidate.label, one.share, one.score) for one in dropped),
        failed=tuple(runner.failed),
        computed=runner.computed,
        without_budget=len(passes) * max(rows for _, rows in runs),
    )


def _with_share(trial: Trial, share: float) -> dict[str, Any]:
    extract = {**trial.content["extract"], "share": round(share * trial.extract.share, 6)}
    return {**trial.content, "extract": extract}


def _validation(path: Path) -> Score:
    scores = _load(path)["validation"]
    return Score(scores["accuracy"], -scores["log_loss"])


def _load(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _read_outcome(root: Path) -> Outcome:
    test = _load(root / "metrics" / "test.json")
    selected = test["selected"]
    head = str(selected["head"])
    # The fine-tuned model counts its backbone's parameters, too; the head is that it began with.
    own_head = test[selected["gain"]["over"]] if head == FINETUNED else selected
    metrics = "finetune" if head == FINETUNED else head
    interval = selected.get("intervals", {}).get("accuracy")
    return Outcome(
        head=head,
        validation=_validation(root / "metrics" / f"{metrics}.json"),
        accuracy=selected["accuracy"],
        interval=None if interval is None else (interval[0], interval[1]),
        head_parameters=int(own_head["parameters"]),
        rows=len(FeatureFile.open(root / "features" / "bottleneck.h5")),
        predictions=_read_predictions(root, head),
    )


def _read_predictions(root: Path, head: str) -> TestPredictions:
    manifest = read_manifest(root / "data" / "manifest.csv")
    predictions = Predictions.read(root / "predictions" / f"{head}.h5")
    called = predictions.probabilities.argmax(axis=1)
    return TestPredictions(
        images=np.array([manifest.rows[image].sha256 for image in predictions.image]),
        right=called == manifest.labels[predictions.image],
        groups=manifest.groups[predictions.image],
    )
