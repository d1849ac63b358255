"""Running candidates in the sandbox, and reading what came of them."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import engines
from pipeline.bottleneck import identify
from pipeline.comparing.candidates import Candidate
from pipeline.comparing.cost import measure
from pipeline.comparing.halving import Dropped, Score, halve
from pipeline.comparing.results import Comparison, Result, TestPredictions, compare
from pipeline.comparing.sandbox import Sandbox
from pipeline.errors import InputError
from pipeline.feature_file import FeatureFile
from pipeline.feature_store import FeatureStore
from pipeline.manifest import read_manifest
from pipeline.options import EvaluateOptions, ExtractOptions
from pipeline.predictions import Predictions

Announce = Callable[[str], None]


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


class Runner:
    """Runs trials one after the other and counts what they cost.

    Args:
        sandbox: Where they run.
        store: The feature store, which they share.
        announce: Told what begins.
    """

    def __init__(self, sandbox: Sandbox, store: FeatureStore, announce: Announce) -> None:
        self._sandbox = sandbox
        self._store = store
        self._announce = announce
        self._computed: dict[str, int] = {}
        self.failed: list[str] = []

    @property
    def computed(self) -> int:
        """Images that went through a backbone so far."""
        return sum(self._computed.values())

    def score(self, trial: Trial, share: float) -> Score | None:
        """Train a trial on a share of the images; return its validation score, None if it fails."""
        self._announce(f"{trial.label}: {share:.0%} of the images")
        content = _with_share(trial, share)
        done = self._counted(trial, lambda: self._sandbox.reproduce("train", content))
        if not done:
            self.failed.append(trial.label)
            return None
        metrics = self._sandbox.root / "metrics"
        return max(_validation(metrics / f"{name}.json") for name in trial.heads)

    def run(self, trial: Trial) -> Result | None:
        """Run a trial on all images as an experiment; None if it fails."""
        self._announce(trial.label)
        name = trial.candidate.experiment(self._sandbox.baseline)
        started = time.monotonic()
        done = self._counted(trial, lambda: self._sandbox.run_experiment(name, trial.content))
        if not done:
            self.failed.append(trial.label)
            return None
        return self._read(trial, name, time.monotonic() - started)

    def images(self) -> int:
        """Return how many rows of features the last run had."""
        return len(FeatureFile.open(self._sandbox.root / "features" / "bottleneck.h5"))

    def _counted(self, trial: Trial, run: Callable[[], bool]) -> bool:
        before = self._stored(trial)
        done = run()
        new = self._stored(trial) - before
        self._computed[trial.label] = self._computed.get(trial.label, 0) + new
        return done

    def _stored(self, trial: Trial) -> int:
        return len(self._store.collection(_bottleneck(trial).taps[0]))

    def _read(self, trial: Trial, experiment: str, seconds: float) -> Result:
        root = self._sandbox.root
        selected = _load(root / "metrics" / "test.json")["selected"]
        head = str(selected["head"])
        interval = selected.get("intervals", {}).get("accuracy")
        return Result(
            label=trial.label,
            experiment=experiment,
            overrides=dict(trial.candidate.overrides),
            head=head,
            validation=_validation(root / "metrics" / f"{head}.json"),
            accuracy=selected["accuracy"],
            interval=None if interval is None else (interval[0], interval[1]),
            predictions=_read_predictions(root, head),
            cost=measure(_bottleneck(trial), self._store, int(selected["parameters"])),
            computed=self._computed[trial.label],
            seconds=round(seconds, 1),
        )


def run_all(runner: Runner, trials: Sequence[Trial], *, budget: bool) -> Comparison:
    """Run trials, or with a budget the promising ones, and compare them.

    Raises:
        InputError: none of them succeeded.
    """
    dropped: list[Dropped[Trial]] = []
    left = list(trials)
    if budget:
        left, dropped = halve(trials, runner.score)
    results = [result for trial in left if (result := runner.run(trial)) is not None]
    if not results:
        raise InputError(
            "compare: no candidate ran to its end; their messages are above. `dvc repro` shows "
            "whether the params as they are work"
        )
    first = left[0].evaluate
    marked, winner, method = compare(results, resamples=first.bootstrap, seed=first.seed)
    passes = {_bottleneck(trial).taps[0].fingerprint for trial in trials}
    return Comparison(
        results=marked,
        winner=winner,
        method=method,
        dropped=tuple(Dropped(one.candidate.label, one.share, one.score) for one in dropped),
        failed=tuple(runner.failed),
        computed=runner.computed,
        without_budget=len(passes) * runner.images(),
    )


def _bottleneck(trial: Trial) -> Any:
    engine = engines.resolve(trial.extract.engine, trial.extract.precision)
    return identify(trial.extract, engine)


def _with_share(trial: Trial, share: float) -> dict[str, Any]:
    extract = {**trial.content["extract"], "share": round(share * trial.extract.share, 6)}
    return {**trial.content, "extract": extract}


def _validation(path: Path) -> Score:
    scores = _load(path)["validation"]
    return Score(scores["accuracy"], -scores["log_loss"])


def _load(path: Path) -> Mapping[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _read_predictions(root: Path, head: str) -> TestPredictions:
    manifest = read_manifest(root / "data" / "manifest.csv")
    predictions = Predictions.read(root / "predictions" / f"{head}.h5")
    called = predictions.probabilities.argmax(axis=1)
    return TestPredictions(
        images=np.array([manifest.rows[image].sha256 for image in predictions.image]),
        right=called == manifest.labels[predictions.image],
        groups=manifest.groups[predictions.image],
    )
