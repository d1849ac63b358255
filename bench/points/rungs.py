"""Does `headstart compare --budget` end where running every candidate on all images ends?

Candidates are four cuts of EfficientNetLite0 and three networks of random weights, each judged by a
logistic regression on real predictions of the sets; no stage runs.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from bench.results import table
from bench.sets import Sets, SplitSet
from headstart.commands.compare.answers import Answers
from headstart.commands.compare.halving import FACTOR, FINALISTS, START, Merit, Trial, halve
from headstart.commands.compare.reading import Images
from headstart.commands.compare.rounds import smallest_share
from headstart.evaluation.choice import is_right
from headstart.extraction import engines
from headstart.extraction.bottleneck import identify
from headstart.extraction.extract import extract
from headstart.extraction.feature_rows import wanted_features
from headstart.extraction.network_size import network_size
from headstart.extraction.store import FeatureStore
from headstart.heads import create
from headstart.heads.data import TrainingData
from headstart.heads.options import LogisticOptions
from headstart.scoring.metrics import log_loss

HEADING = "Quality: rounds of compare"

CUTS = ("auto", "block5c_add", "block4c_add", "block3b_add")
RANDOM = ("LeNet5", "AlexNet", "MobileNetV3Small")


@dataclass(frozen=True)
class Candidate:
    """One that is compared.

    Attributes:
        multiply_adds: Of one pass.
        features: (n_rows, feature_dim), rows as in the set's feature file.
    """

    multiply_adds: int
    features: np.ndarray


@dataclass(frozen=True)
class Race:
    """All candidates of one set in one split, tried on any share of its images."""

    data: SplitSet
    candidates: tuple[Candidate, ...]

    def judged(self, number: int, share: float, *, by_folds: bool) -> tuple[Trial, float]:
        """Return what a candidate comes to, and its test accuracy."""
        candidate, file = self.candidates[number], self.data.file
        options = self.data.params.train
        whole = _training(self.data)
        part = self.data.params.extract.model_copy(update={"share": share})
        chosen = np.isin(file.image, wanted_features(self.data.manifest, part).images)
        data = replace(
            whole,
            features=candidate.features,
            header=replace(whole.header, feature_shape=candidate.features.shape[1:]),
            train=whole.train[chosen[whole.train]],
            validation=whole.validation[chosen[whole.validation]],
            min_validation=len(whole.label) if by_folds else options.min_validation,
        )
        head = create(LogisticOptions(kind="logistic"), options.seed)
        report = head.fit(data)
        rows = report.held_out
        probabilities = report.probabilities
        # As in metrics/heads.json.
        scored = np.isin(rows, data.validation) | (not data.validation_suffices)
        right = is_right(data.label[rows], probabilities)
        merit = Merit(
            validation_accuracy=float(right[scored].mean()),
            multiply_adds=candidate.multiply_adds,
            validation_log_loss=log_loss(data.label[rows[scored]], probabilities[scored]),
        )
        answers = Answers(images=data.sha256[rows], right=right, groups=file.group[rows])
        test = file.rows("test")
        accuracy = is_right(file.label[test], head.predict_logits(data.features, test)).mean()
        return Trial(merit, answers), float(accuracy)


def _training(data: SplitSet) -> TrainingData:
    options = data.params.train
    return TrainingData.from_file(
        data.file,
        class_weight=options.class_weight,
        min_validation=options.min_validation,
        folds_below=options.folds_below,
        streaming_above=options.streaming_above,
        seed=options.seed,
    )


def _candidates(data: SplitSet, store: FeatureStore) -> Iterator[Candidate]:
    options = data.params.extract
    requests = wanted_features(data.manifest, options).requests
    for backbone, cuts in (("EfficientNetLite0", CUTS), *((name, ("auto",)) for name in RANDOM)):
        weights = "pretrained" if len(cuts) > 1 else "random"
        changed = options.model_copy(update={"backbone": backbone, "weights": weights})
        bottleneck = identify(changed, engines.resolve(options.engine, options.precision))
        tapped = bottleneck.tapped([(cut, "avg") for cut in cuts])
        extraction = extract(tapped, requests, store=store, quiet=True)
        for number, tap in enumerate(tapped.taps):
            yield Candidate(network_size(tap, store).multiply_adds, extraction.array(number))


def before(candidates: Sequence[int], judge: Callable[[int, float], Trial]) -> list[int]:
    """Drop all but the best third by rank at a tenth, and all but two at a third."""
    left, share = list(candidates), START
    while share < 1 / math.sqrt(FACTOR):
        keep = max(FINALISTS, math.ceil(len(left) / FACTOR))
        if keep < len(left):
            ranked = sorted(left, key=lambda one: judge(one, share).merit.rank)
            left = [one for one in left if one in ranked[:keep]]
        share *= FACTOR
    return left


def measure(sets: Sets) -> list[str]:
    """Race the rules on every set and split."""
    store = FeatureStore()
    found: dict[str, list[tuple[str, bool, float, float]]] = {"before": [], "ours": []}
    for data in sets.splits():
        race = Race(data, tuple(_candidates(data, store)))
        numbers = range(len(race.candidates))
        full = {one: race.judged(one, 1.0, by_folds=False) for one in numbers}
        start = smallest_share(_images(data))
        for rule in found:
            seen: dict[tuple[int, float], Trial] = {}
            judge = partial(_judge, race, rule, seen)
            if rule == "before":
                left = before(numbers, judge)
            else:
                left, _ = halve(numbers, partial(_judge_all, judge), start=start)
            best = min(numbers, key=lambda one: full[one][0].merit.rank)
            chosen = min(left, key=lambda one: full[one][0].merit.rank)
            found[rule].append(
                (
                    data.name,
                    best not in left,
                    full[best][1] - full[chosen][1],
                    _cost(race.candidates, left, seen),
                )
            )
    return _told(sets, found)


def _judge(
    race: Race, rule: str, seen: dict[tuple[int, float], Trial], number: int, share: float
) -> Trial:
    if (number, share) not in seen:
        seen[number, share], _ = race.judged(number, share, by_folds=rule == "ours")
    return seen[number, share]


def _judge_all(
    judge: Callable[[int, float], Trial], numbers: Sequence[int], share: float, keep: int
) -> list[Trial]:
    return [judge(number, share) for number in numbers]


def _images(data: SplitSet) -> Images:
    split = np.array([row.split for row in data.manifest])
    return Images(
        int((split == "train").sum()),
        int((split == "validation").sum()),
        len(data.manifest.class_names),
    )


def _cost(candidates: Sequence[Candidate], left: Sequence[int], seen: dict) -> float:
    """Return the passes' multiply-adds, as a share of all candidates' on all images."""
    reached = dict.fromkeys(left, 1.0)
    for one, share in seen:
        reached[one] = max(reached.get(one, 0.0), share)
    total = sum(candidate.multiply_adds for candidate in candidates)
    return sum(share * candidates[one].multiply_adds for one, share in reached.items()) / total


def _told(sets: Sets, found: dict[str, list[tuple[str, bool, float, float]]]) -> list[str]:
    rows = []
    for name in sets.names:
        row: list[str] = [name]
        for rule in found.values():
            own = [one for one in rule if one[0] == name]
            row += _cells(own)
        rows.append(row)
    rows.append(["all", *itertools.chain(*map(_cells, found.values()))])
    header = ["set"]
    for rule in found:
        header += [f"{rule}: winner dropped", "test points lost (worst)", "passes"]
    return [
        f"{len(CUTS)} cuts of EfficientNetLite0 and {', '.join(RANDOM)} with random weights, a "
        f"logistic regression on each, {sets.seeds} splits. The winner is whom `compare` chooses "
        "without a budget; lost is its test accuracy less that of whom the rule chooses; passes "
        "are multiply-adds, as a share of all candidates on all images. Aim: the winner is not "
        "dropped, or for one as good, at about half the passes where there are images enough for "
        "rounds.",
        "",
        *table(header, rows),
    ]


def _cells(own: Sequence[tuple[str, bool, float, float]]) -> list[str]:
    lost = 100 * np.array([one[2] for one in own])
    return [
        f"{sum(one[1] for one in own)} of {len(own)}",
        f"{lost.mean():+.2f} ({lost.max():+.1f})",
        f"{np.mean([one[3] for one in own]):.2f}",
    ]
