"""Weak slices: how often one that is planted is found, and how often one is found that is none."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from bench.results import table
from bench.sets import Sets, SplitSet
from headstart.common.threads import one_thread_each
from headstart.heads import create
from headstart.heads.options import LogisticOptions
from headstart.scoring.intervals import units
from headstart.scoring.weakness import WEAK, chance_of_weakness, compare, has_enough, holm

HEADING = "Care of the data: weak slices"

_DRAWS = 200
_ACCURACIES = (0.8, 0.95, 0.99)
_VALUES = 5
_RESAMPLES = 1000
_SHOTS = 20

Bools = NDArray[np.bool_]
Values = NDArray[np.float64]


def measure(sets: Sets) -> list[str]:
    """Draw slicings at random and plant weak ones, on simulated and on real predictions."""
    return [
        f"Share of {_DRAWS} random slicings into {_VALUES} values, one of which is called weak.",
        "Aim: at most .050, known to .015. Groups: of 1 to 6 images with a correlation of .5 (beta",
        "binomial); across: their images fall to any value; uneven: one value has the groups of 5",
        "to 19 images, the others single ones.",
        "",
        *_alarms(),
        "",
        f"Share of {_DRAWS} draws in which a planted weak value, one of {_VALUES}, is called weak,",
        "by its images, the accuracy of the rest and the drop (no groups; all values are tested):",
        "",
        *_power(),
        "",
        f"How often the 95 % interval of a difference of 0 holds it, of {_DRAWS} draws, and in",
        f"brackets its mean width; beside it the percentile bootstrap over units, {_RESAMPLES}",
        "resamples. A tenth of the images (at least 12) against the rest:",
        "",
        *_coverage(),
        "",
        f"Real predictions: a logistic head on {_SHOTS} images per class judges all other images.",
        f"Alarms: of {_DRAWS} random slicings into {_VALUES}. Found: a fifth of the images, of",
        "which so many points of the right ones are made wrong, is called weak.",
        "",
        *_real(sets),
    ]


def _any_weak(right: Values, unit: NDArray[np.int64], value: NDArray[np.int64], seed: int) -> Bools:
    """Return which of the values are called weak, (_VALUES,)."""
    parts = [value == one for one in range(_VALUES)]
    tested = [one for one, part in enumerate(parts) if has_enough(unit, part)]
    p_values = [
        chance_of_weakness(right, unit, parts[one], n_tests=len(tested), seed=seed)
        for one in tested
    ]
    weak = np.zeros(_VALUES, bool)
    for one, p in zip(tested, holm(p_values), strict=True):
        own, rest = right[parts[one]].mean(), right[~parts[one]].mean()
        weak[one] = p <= WEAK and own < rest
    return weak


def _drawn(
    rng: np.random.Generator, kind: str, n: int, accuracy: float
) -> tuple[Values, NDArray[np.int64], NDArray[np.int64]]:
    """Return which of about `n` images are right, their units and values."""
    if kind == "none":
        return (
            (rng.random(n) < accuracy).astype(np.float64),
            np.arange(n),
            rng.integers(0, _VALUES, n),
        )
    n_groups = n // 3
    value = rng.integers(0, _VALUES, n_groups)
    sizes = rng.integers(1, 7, n_groups)
    if kind == "uneven":
        sizes = np.where(value == 0, rng.integers(5, 20, n_groups), 1)
    unit = np.repeat(np.arange(n_groups), sizes)
    share = rng.beta(accuracy, 1 - accuracy, n_groups)
    right = (rng.random(len(unit)) < share[unit]).astype(np.float64)
    across = rng.integers(0, _VALUES, len(unit))
    return right, unit, across if kind == "across" else value[unit]


def _alarms() -> list[str]:
    rows = []
    for kind in ("none", "groups", "across", "uneven"):
        for n in (120, 400, 1200):
            cells = []
            for accuracy in _ACCURACIES:
                rng = np.random.default_rng(0)
                alarms = [
                    _any_weak(*_drawn(rng, kind, n, accuracy), seed).any() for seed in range(_DRAWS)
                ]
                cells.append(f"{np.mean(alarms):.3f}")
            rows.append([kind, n, *cells])
    return table(["groups", "images", *(f"accuracy {one}" for one in _ACCURACIES)], rows)


def _power() -> list[str]:
    rows = []
    for size in (20, 40, 80, 160):
        for accuracy in _ACCURACIES:
            cells = []
            for drop in (0.05, 0.1, 0.2, 0.3):
                rng = np.random.default_rng(0)
                value = np.repeat(np.arange(_VALUES), [size, *(_VALUES - 1) * [80]])
                likely = accuracy - drop * (value == 0)
                found = [
                    _any_weak(
                        (rng.random(len(value)) < likely).astype(np.float64),
                        np.arange(len(value)),
                        value,
                        seed,
                    )[0]
                    for seed in range(_DRAWS)
                ]
                cells.append(f"{np.mean(found):.2f}")
            rows.append([size, accuracy, *cells])
    drops = ("drop .05", "drop .10", "drop .20", "drop .30")
    return table(["images of 320 more", "accuracy", *drops], rows)


def _coverage() -> list[str]:
    rows = []
    for kind in ("none", "groups"):
        for n in (120, 400):
            for accuracy in _ACCURACIES:
                rng = np.random.default_rng(0)
                ends: dict[str, list[tuple[float, float]]] = {"ours": [], "bootstrap": []}
                for _ in range(_DRAWS):
                    right, unit, _ = _drawn(rng, kind, n, accuracy)
                    inside = unit < max(12, (unit.max() + 1) // 10)
                    labels, predicted = np.zeros(len(unit), np.int64), 1 - right.astype(np.int64)
                    ours = compare(labels, predicted, unit, inside, n_tests=1, seed=0)
                    ends["ours"].append((ours.low, ours.high))
                    ends["bootstrap"].append(_bootstrap(rng, right, unit, inside))
                rows.append([kind, n, accuracy, *(_cell(np.array(one)) for one in ends.values())])
    return table(["groups", "images", "accuracy", "ours", "bootstrap"], rows)


def _cell(ends: Values) -> str:
    holds = (ends[:, 0] <= 1e-12) & (ends[:, 1] >= -1e-12)
    return f"{holds.mean():.3f} ({np.mean(ends[:, 1] - ends[:, 0]):.3f})"


def _bootstrap(
    rng: np.random.Generator, right: Values, unit: NDArray[np.int64], inside: Bools
) -> tuple[float, float]:
    n_units = int(unit.max()) + 1
    drawn = rng.multinomial(n_units, np.full(n_units, 1 / n_units), _RESAMPLES)
    accuracy = [
        (drawn @ np.bincount(unit[one], right[one], n_units))
        / np.maximum(drawn @ np.bincount(unit[one], minlength=n_units), 1)
        for one in (inside, ~inside)
    ]
    low, high = np.quantile(accuracy[0] - accuracy[1], (0.025, 0.975))
    return float(low), float(high)


def _real(sets: Sets) -> list[str]:
    rows = []
    for name in sets.names:
        right, unit = _judged(sets.split(name))
        n_units = int(unit.max()) + 1
        rng = np.random.default_rng(0)
        values = [rng.integers(0, _VALUES, n_units)[unit] for _ in range(_DRAWS)]
        alarms = [_any_weak(right, unit, value, i).any() for i, value in enumerate(values)]
        found = [
            f"{np.mean([one[0] for one in _planted(right, unit, values, drop)]):.2f}"
            for drop in (0.1, 0.2, 0.3)
        ]
        rows.append([name, len(right), f"{right.mean():.3f}", f"{np.mean(alarms):.3f}", *found])
        print(*rows[-1], flush=True)
    return table(
        ["set", "images", "accuracy", "alarms", "found, 10 points", "20 points", "30 points"], rows
    )


def _planted(
    right: Values, unit: NDArray[np.int64], values: list[NDArray[np.int64]], drop: float
) -> Iterator[Bools]:
    for seed, value in enumerate(values):
        spoiled = (value == 0) & (np.random.default_rng(seed).random(len(right)) < drop)
        yield _any_weak(np.where(spoiled, 0.0, right), unit, value, seed)


def _judged(split: SplitSet) -> tuple[Values, NDArray[np.int64]]:
    """Return which images a head on few others has right, and their units."""
    file = split.file
    data = split.training_data(seed=0, shots=_SHOTS)
    head = create(LogisticOptions(kind="logistic"), 0)
    with one_thread_each():
        head.fit(data, refit=True)
    rows = np.setdiff1d(np.flatnonzero(file.view == 0), data.train_images)
    predicted = head.predict_proba(file.features, rows).argmax(axis=1)
    return (predicted == file.label[rows]).astype(np.float64), units(file.group[rows])
