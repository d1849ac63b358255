"""How many labels does a wanted accuracy take, if suggestions, chance or the margin choose them?"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.results import table
from bench.sets import Sets
from headstart.commands.suggest import classifier
from headstart.commands.suggest.selection import Known, select
from headstart.common.threads import one_thread_each
from headstart.features.matrix import Matrix, pooled
from headstart.features.neighbors import directions

HEADING = "Care: what to label next"

LABELS = (10, 20, 50, 100, 200, 400)
# After the first columns as many are asked for at a time as the command does by itself.
_ROUNDS = (10, 20, *range(50, 401, 50))
SEEDS = 5
_COMPARED = (20, 50, 100)
_WANTED = 0.95
_SETS = (
    "digits", "pets", "faces", "glyphs", "cells", "tiles", "digits_few", "pets_32", "pets_gray",
    "pets_rare",
)  # fmt: skip
# Student's t at 97.5 % for so many pairs less one.
_T = 2.776

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class _Pool:
    """Images to choose from.

    Attributes:
        features: (n, n_columns).
        label: (n,), looked at for chosen images only.
        seed: Of draws.
        chosen: (n_chosen,) rows, in the order of choice.
    """

    features: NDArray[np.float32]
    label: NDArray[np.int64]
    seed: int
    chosen: Rows

    @property
    def free(self) -> Rows:
        return np.setdiff1d(np.arange(len(self.label)), self.chosen)

    def classifier(self, *, calibrated: bool = False) -> classifier.Classifier | None:
        """Learn from the labels. Uncalibrated they are one unit, of which none is held out."""
        rows = self.chosen
        unit = rows if calibrated else np.zeros_like(rows)
        return classifier.fit(self.features, rows, self.label[rows], unit, seed=self.seed)


def _by_chance(pool: _Pool, count: int) -> Rows:
    rng = np.random.default_rng([pool.seed, len(pool.chosen)])
    return rng.choice(pool.free, count, replace=False)


def _by_margin(pool: _Pool, count: int) -> Rows:
    found = pool.classifier() if len(pool.chosen) else None
    if found is None:
        return _by_chance(pool, count)
    ordered = np.sort(found.probabilities(pool.features[pool.free]), axis=1)
    return pool.free[np.argsort(ordered[:, -1] - ordered[:, -2], kind="stable")[:count]]


def _typiclust(pool: _Pool, count: int) -> Rows:
    """TypiClust (Hacohen, Dekel and Weinshall, 2022), with its 20 neighbors."""
    from sklearn.cluster import KMeans

    vectors = directions(pool.features, pool.features.mean(axis=0))
    clusters = KMeans(len(pool.chosen) + count, n_init=1, random_state=pool.seed)
    of = clusters.fit_predict(vectors)
    labels, sizes = np.bincount(of[pool.chosen], minlength=of.max() + 1), np.bincount(of)
    found: list[int] = []
    for _ in range(count):
        open_ = [k for k in range(len(sizes)) if np.setdiff1d(np.flatnonzero(of == k), found).size]
        left = {
            k: np.setdiff1d(np.flatnonzero(of == k), [*found, *pool.chosen.tolist()]) for k in open_
        }
        best = min((k for k in open_ if len(left[k])), key=lambda k: (labels[k], -sizes[k]))
        away = 2 - 2 * vectors[left[best]] @ vectors[of == best].T
        near = np.sort(np.sqrt(np.maximum(away, 0)), axis=1)[:, 1:21]
        typical = near.mean(axis=1).argmin() if near.shape[1] else 0
        found.append(int(left[best][typical]))
        labels[best] += 1
    return np.array(found)


def _ours(pool: _Pool, count: int) -> Rows:
    known = None
    if len(pool.chosen):
        found = pool.classifier(calibrated=True)
        probabilities = found.probabilities if found else None
        per_class = len(pool.chosen) / len(np.unique(pool.label[pool.chosen]))
        known = Known(Matrix(pool.features, pool.chosen), probabilities, per_class)
    free = pool.free
    choices = select(pool.features[free], count, known=known, seed=pool.seed)
    return free[[choice.row for choice in choices]]


_RULES: dict[str, Callable[[_Pool, int], Rows]] = {
    "suggest": _ours,
    "random": _by_chance,
    "margin": _by_margin,
    "TypiClust": _typiclust,
}


def measure(sets: Sets) -> list[str]:
    """Return accuracy by labels, the paired differences, and the labels that 95 % of it take."""
    curves, behind, needed = [], [], []
    for name in [one for one in _SETS if one in sets.names]:
        with one_thread_each():
            full, found = _curves(sets, name)
        steps = _ROUNDS[: found["suggest"].shape[1]]
        columns = [steps.index(n) for n in LABELS if n in steps]
        for rule, accuracy in found.items():
            shown = [f"{value:.3f}" for value in accuracy.mean(axis=0)[columns]]
            shown += [""] * (len(LABELS) - len(columns))
            curves.append([name if rule == "suggest" else "", rule, *shown, f"{full.mean():.3f}"])
        for other in ("random", "margin", "TypiClust"):
            told = [
                _difference(found["suggest"] - found[other], steps.index(n)) if n in steps else ""
                for n in _COMPARED
            ]
            behind.append([name if other == "random" else "", other, *told])
        takes = [_needed(accuracy, steps, full) for accuracy in found.values()]
        needed.append([name, f"{_WANTED * full.mean():.3f}", *takes])
        print(name, *curves[-4:], sep="\n", flush=True)
    return [
        f"Of each set a third is held out; from the rest labels are asked for, {LABELS[0]} without "
        "any known, then up to 20 and 50, then 50 at a time, which is the default of the command; "
        f"{SEEDS} draws of test part and chance. A logistic regression of the same penalty learns "
        "from what is labelled. Near duplicates are left in, for all methods alike.",
        "",
        *table(["set", "accuracy at labels", *LABELS, "all"], curves),
        "",
        "By how many points suggestions are ahead, paired by draw, with the 95 % interval of "
        f"Student's t over the {SEEDS} draws (they share images, so it is somewhat narrow). "
        "**Bold**: behind beyond that.",
        "",
        *table(["set", "ahead of", *_COMPARED], behind),
        "",
        f"Labels that {_WANTED:.0%} of the accuracy with all labels take, where the mean curve, "
        "drawn straight between the rounds, gets there.",
        "",
        *table(["set", "accuracy", *_RULES], needed),
    ]


def _curves(sets: Sets, name: str) -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]]]:
    file = sets.split(name).file
    rows = file.rows()
    features, label = pooled(np.asarray(file.features[rows])), file.label[rows]
    full, found = [], {rule: [] for rule in _RULES}
    for seed in range(SEEDS):
        shuffled = np.random.default_rng(seed).permutation(len(label))
        test, rest = shuffled[: len(label) // 3], np.sort(shuffled[len(label) // 3 :])
        start = _Pool(features[rest], label[rest], seed, np.empty(0, np.int64))

        def accuracy(pool: _Pool, test: Rows = test) -> float:
            fitted = pool.classifier()
            if fitted is None:
                return float((label[test] == pool.label[pool.chosen[0]]).mean())
            guess = fitted.classes[fitted.probabilities(features[test]).argmax(axis=1)]
            return float((guess == label[test]).mean())

        for rule, choose in _RULES.items():
            pool, scores = start, []
            for labels in (n for n in _ROUNDS if n <= len(rest)):
                new = choose(pool, labels - len(pool.chosen))
                chosen = np.concatenate([pool.chosen, new])
                assert len(np.unique(chosen)) == labels
                pool = _Pool(pool.features, pool.label, seed, chosen)
                scores.append(accuracy(pool))
            found[rule].append(scores)
        full.append(accuracy(_Pool(start.features, start.label, seed, np.arange(len(rest)))))
    return np.array(full), {rule: np.array(scores) for rule, scores in found.items()}


def _difference(ahead: NDArray[np.float64], step: int) -> str:
    values = 100 * ahead[:, step]
    mean, half = values.mean(), _T * values.std(ddof=1) / len(values) ** 0.5
    text = f"{mean:+.1f} ± {half:.1f}"
    return f"**{text}**" if mean + half < 0 else text


def _needed(
    accuracy: NDArray[np.float64], steps: tuple[int, ...], full: NDArray[np.float64]
) -> str:
    curve, wanted = accuracy.mean(axis=0), _WANTED * full.mean()
    above = np.flatnonzero(curve >= wanted)
    if not len(above):
        return f"> {steps[-1]}"
    at = int(above[0])
    if not at:
        return f"≤ {steps[0]}"
    share = (wanted - curve[at - 1]) / (curve[at] - curve[at - 1])
    return f"{steps[at - 1] + share * (steps[at] - steps[at - 1]):.0f}"
