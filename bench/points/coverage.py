"""Do sets of classes hold the true one as often as was asked for, and do decisions save costs?"""

from collections import defaultdict
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bench.decisions import Costs
from bench.results import table
from bench.sets import Sets, SplitSet
from bench.told import Told, Values, as_piped
from headstart.common.threads import one_thread_each
from headstart.heads import create
from headstart.heads.options import LogisticOptions
from headstart.scoring.calibration import fit_temperature, softmax
from headstart.scoring.conformal import FEWEST, ClassSets, _threshold, fit_sets
from headstart.scoring.intervals import units

HEADING = "Care: coverage and costs"

_WANTED = (0.8, 0.9, 0.95)
_RESPLITS = 200
_SHOTS = 3


def measure(sets: Sets) -> list[str]:
    """Return coverage with one model, as the pipeline does it, and what decisions cost."""
    exact: list[list[object]] = []
    piped: list[list[str]] = []
    costs = Costs()
    for name in sets.names:
        splits = [sets.split(name, seed) for seed in range(sets.seeds)]
        with one_thread_each():
            exact += _resplit(name, _few_shots(splits[0]))
            told = [as_piped(split) for split in splits]
            piped.append(_over_splits(name, told))
            for split, both in zip(splits, told, strict=True):
                costs.add(split, *both)
        print(name, exact[-1], piped[-1], flush=True)
    header = [
        "set",
        "units",
        "accuracy",
        "wanted",
        "covered",
        "set size",
        "plain",
        "set size",
        "empty",
    ]
    return [
        *_EXACT,
        "",
        *table([*header, "classes", "classes, one threshold"], exact),
        "",
        *_PIPED,
        "",
        *table(["set", *(f"{wanted:g}" for wanted in _WANTED), "accuracy"], piped),
        "",
        *costs.lines(),
    ]


_EXACT = (
    f"A logistic head of {_SHOTS} images per class; of all other images a half sets the thresholds",
    f"and the other is judged, by units, {_RESPLITS} times. `covered` and the mean size of sets",
    "are ours; `plain`: thresholds on the probability of the true class, likeliest or not, so that",
    "sets may be `empty`. Aim: `plain` within one point of what is wanted, or above it by what one",
    "of the `units` that set the thresholds makes; `covered` likewise, or of how often the",
    "likeliest class of a threshold's images is right, if that is more. Otherwise **bold**.",
    "`classes`: mean and lowest coverage of the classes with a threshold of their own (from",
    f"{FEWEST} units on) in most splits, then of the same classes with one threshold for all.",
)
_PIPED = (
    "As the pipeline does it: thresholds from the held-out images of the default logistic head,",
    "the head fitted once more, the test images. Coverage, and in brackets the mean size of sets,",
    "over all splits.",
)


def _few_shots(split: SplitSet) -> Told:
    """Return what a head of a few images says of all images that are no kin of these."""
    file = split.file
    everything = file.rows("train", "validation", "test")
    data = split.training_data(seed=0, shots=_SHOTS)
    head = create(LogisticOptions(kind="logistic", l2=1e-2), 0)
    head.fit(data, refit=False)
    rows = everything[~np.isin(data.unit[everything], data.unit[data.train])]
    logits = head.predict_logits(file.features, rows)
    label = file.label[rows]
    # Of all images alike, so that none is told from another by whether it set the temperature.
    temperature = fit_temperature(logits, label) or 1.0
    return Told(label, units(file.group[rows]), softmax(logits, temperature))


def _resplit(name: str, told: Told) -> list[list[object]]:
    """Return a row per wanted coverage."""
    rng = np.random.default_rng(0)
    n_units = told.unit.max() + 1
    accuracy = float((told.probabilities.argmax(axis=1) == told.label).mean())
    found: dict[float, list[list[float]]] = defaultdict(list)
    by_class: dict[float, list[Values]] = defaultdict(list)
    for _ in range(_RESPLITS):
        own = np.isin(told.unit, rng.permutation(n_units)[: n_units // 2])
        known, new = told.part(own), told.part(~own)
        for wanted in _WANTED:
            ours = fit_sets(known.label, known.probabilities, known.unit, wanted)
            inside = ours.of(new.probabilities)
            plain = new.probabilities >= _plain(known, ours)
            found[wanted].append(
                [
                    float(new.held(inside).mean()),
                    float(inside.sum(axis=1).mean()),
                    float(new.held(plain).mean()),
                    float(plain.sum(axis=1).mean()),
                    float((~plain.any(axis=1)).mean()),
                    _aim(new, _is_large(known, ours), wanted),
                ]
            )
            both = (ours, _alike(known, ours))
            by_class[wanted].append(np.stack([_large_classes(known, new, one) for one in both]))
    rows: list[list[object]] = []
    for wanted in _WANTED:
        covered, size, plain_covered, plain_size, empty, aim = np.mean(found[wanted], axis=0)
        rows.append(
            [
                name,
                n_units // 2,
                f"{accuracy:.3f}",
                f"{wanted:g}",
                _bold(covered, aim, n_units // 2),
                f"{size:.2f}",
                _bold(plain_covered, wanted, n_units // 2),
                f"{plain_size:.2f}",
                f"{empty:.3f}",
                *(_mean_and_lowest(one) for one in np.stack(by_class[wanted], axis=1)),
            ]
        )
    return rows


def _bold(covered: float, aim: float, n_units: int) -> str:
    told, above = f"{covered:.3f}", max(0.01, 1 / (n_units + 1))
    return told if aim - 0.01 <= covered <= aim + above else f"**{told}**"


def _aim(new: Told, large: NDArray[np.bool_], wanted: float) -> float:
    """Return what each threshold's classes are to be covered for, on the mean over images.

    That is what is wanted, or how often the likeliest class is right, if that is more often.
    """
    part = np.where(large, np.arange(len(large)), -1)[new.label]
    right = new.probabilities.argmax(axis=1) == new.label
    parts = [right[part == number] for number in np.unique(part)]
    return float(sum(len(one) * max(wanted, one.mean()) for one in parts) / len(right))


def _is_large(known: Told, sets: ClassSets) -> NDArray[np.bool_]:
    """Return which classes have a threshold of their own, (n_classes,)."""
    pairs = np.unique(np.stack([known.label, known.unit]), axis=1)[0]
    return np.asarray(sets.units == np.bincount(pairs, minlength=len(sets.units)))


def _plain(known: Told, ours: ClassSets) -> Values:
    """Return thresholds on the probability of the true class, likeliest or not."""
    large = _is_large(known, ours)
    part = np.where(large, np.arange(len(large)), -1)
    true = known.held(known.probabilities)
    found = np.empty(len(large))
    for number in np.unique(part):
        chosen = part[known.label] == number
        found[part == number] = _threshold(true[chosen], known.unit[chosen], ours.wanted)[0]
    return found


def _alike(known: Told, ours: ClassSets) -> ClassSets:
    """Return the same with one threshold for all classes."""
    likeliest = known.probabilities.argmax(axis=1) == known.label
    conforming = np.where(likeliest, 1.0, known.held(known.probabilities))
    threshold, _ = _threshold(conforming, known.unit, ours.wanted)
    return replace(ours, threshold=np.full(len(ours.threshold), threshold))


def _large_classes(known: Told, new: Told, sets: ClassSets) -> Values:
    """Return the coverage of each class that has a threshold of its own, else NaN; (n_classes,)."""
    large = _is_large(known, sets)
    held = np.bincount(new.label, new.held(sets.of(new.probabilities)), len(large))
    images = np.bincount(new.label, minlength=len(large))
    return np.where(large & (large.sum() > 1), held / images, np.nan)


def _mean_and_lowest(covered: Values) -> str:
    """Describe (n_resplits, n_classes) coverages, of the classes that have one in most resplits."""
    usual = np.isfinite(covered).mean(axis=0) > 0.5
    if not usual.any():
        return ""
    means = np.nanmean(covered[:, usual], axis=0)
    return f"{means.mean():.3f}, {means.min():.3f}"


def _over_splits(name: str, splits: list[tuple[Told, Told]]) -> list[str]:
    """Return a row of the table: coverage and size by what is wanted."""
    row = [name]
    for wanted in _WANTED:
        covered, sizes = [], []
        for held_out, test in splits:
            sets = fit_sets(held_out.label, held_out.probabilities, held_out.unit, wanted)
            inside = sets.of(test.probabilities)
            covered.append(test.held(inside).mean())
            sizes.append(inside.sum(axis=1).mean())
        row.append(f"{np.mean(covered):.3f} ({np.mean(sizes):.2f})")
    right = [(one.probabilities.argmax(axis=1) == one.label).mean() for _, one in splits]
    return [*row, f"{np.mean(right):.3f}"]
