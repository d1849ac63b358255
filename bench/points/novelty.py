"""Which images are called unlike training: ordinary ones too often, strange ones too seldom?"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

import headstart
from bench.results import table
from bench.sets import Sets
from headstart.evaluation.novelty import conformal_threshold, fit
from headstart.features.file import FeatureFile
from headstart.features.neighbors import NeighborIndex, directions
from headstart.scoring.intervals import units

HEADING = "Quality: novelty"

# What the score was chosen on, before the other sets were looked at.
_CHOSEN_ON = ("faces", "digits", "textures", "cells", "pets", "pets_few")
_FOLDS = 5
_REPEATS = 5
_KEEP = 0.99
_STRANGERS = 100
_FEWEST_CLASSES = 4

Vectors = NDArray[np.float32]
Scores = NDArray[np.float64]
# Scores of images, above 1 where they are turned away, and the share that is to be expected.
Judge = tuple[Callable[[Vectors], Scores], float]


def measure(sets: Sets) -> list[str]:
    """Return the false abstentions, and what share of strangers is turned away."""
    with tempfile.TemporaryDirectory() as folder:
        noise = headstart.BottleneckFeatures().fit_transform(_noise(Path(folder)))
    files = {name: sets.split(name).file for name in sets.names}
    strange = {name: _some(np.asarray(file.features)) for name, file in files.items()}
    strange["noise"] = np.asarray(noise, np.float32)
    ordinary, kinds, means = [], [], {}
    for name, file in files.items():
        far = {k: v for k, v in strange.items() if k.split("_")[0] != name.split("_")[0]}
        found = {rule: _Found() for rule in _RULES}
        for seed in range(_REPEATS):
            for test in range(_FOLDS):
                split = _folds(file, seed) == test
                shown = far if test == 0 and seed < sets.seeds else {}
                for rule, judge in _RULES.items():
                    found[rule].add(judge(_resplit(file, split)), file, split, shown)
        for seed in range(sets.seeds):
            for held, kept in _without_classes(file, seed):
                near = {"near": np.asarray(file.features[held])}
                split = (_folds(file, seed) == 0) & kept
                for rule, judge in _RULES.items():
                    found[rule].add(judge(_resplit(file, split, held)), file, split, near, False)
        for rule, one in found.items():
            ordinary.append([_marked(name), rule, *one.ordinary(len(file))])
            kinds.append([_marked(name), rule, *one.strangers()])
            means.setdefault(rule, {})[name] = one
    header = ["ordinary images of", "rule", "stated", "turned away", "95 % interval", "held"]
    return [*_TEXT, "", *table(header, ordinary), "", *_over_sets(means), "",
            *table(["trained on", "rule", *_Found.HEADER], kinds)]  # fmt: skip


_TEXT = (
    f"Ordinary images: in {_FOLDS} folds by unit, each is judged once by what the other folds",
    f"taught; mean of {_REPEATS} draws of folds, with Clopper and Pearson's interval for so many",
    "images. Aim: its lower end not above the rate the rule states (`held`). Strangers: images",
    "of other sets (all that are not of the same pictures), noise and plain colors, and as near",
    f"ones a third of the classes, held out. The limit is set for {1 - _KEEP:.0%}; where training",
    "images are too few for that, the rate of ours is what they can tell. `before`: the 5th",
    "nearest training image and the validation quantile. `Mahalanobis`: Lee et al. 2018, raw",
    "features, the same quantile. `kNN, conformal`: the 5th nearest, with the limit of ours. `*`:",
    "sets that the score was chosen on; the others were looked at afterwards.",
)


def _marked(name: str) -> str:
    return f"{name} *" if name in _CHOSEN_ON else name


class _Found:
    """What one rule made of one set."""

    HEADER = ("far", "worst kind", "AUROC far", "near", "AUROC near")

    def __init__(self) -> None:
        self._stated: list[float] = []
        self._false = 0
        self._turned: dict[str, list[float]] = {}
        self._auroc: dict[str, list[float]] = {}

    def add(
        self,
        judge: Judge,
        file: FeatureFile,
        test: NDArray[np.bool_],
        strange: dict[str, Vectors],
        counted: bool = True,
    ) -> None:
        score, stated = judge
        usual = score(file.features[test])
        if counted:
            self._stated.append(stated)
            self._false += int((usual > 1).sum())
        for kind, features in strange.items():
            scores = score(features)
            self._turned.setdefault(kind, []).append(float(np.mean(scores > 1)))
            above = np.searchsorted(np.sort(usual), scores, side="left").mean()
            equal = np.searchsorted(np.sort(usual), scores, side="right").mean() - above
            self._auroc.setdefault(kind, []).append(float((above + equal / 2) / len(usual)))

    def ordinary(self, n_images: int) -> list[str]:
        from scipy.stats import beta

        stated, false = float(np.mean(self._stated)), self._false / _REPEATS
        low = beta.ppf(0.025, false, n_images - false + 1) if false else 0.0
        high = beta.ppf(0.975, false + 1, n_images - false)
        cells = [f"{100 * share:.2f} %" for share in (stated, false / n_images)]
        held = "yes" if low <= stated else "**no**"
        return [*cells, f"{100 * low:.2f} to {100 * high:.2f} %", held]

    def values(self) -> tuple[float, float, float, float, float]:
        far = {kind: float(np.mean(one)) for kind, one in self._turned.items() if kind != "near"}
        auroc = [float(np.mean(one)) for kind, one in self._auroc.items() if kind != "near"]
        near, ranked = self._turned.get("near", [np.nan]), self._auroc.get("near", [np.nan])
        return (float(np.mean(list(far.values()))), min(far.values()), float(np.mean(auroc)),
                float(np.mean(near)), float(np.mean(ranked)))  # fmt: skip

    def strangers(self) -> list[str]:
        far, worst, ranked, near, ranked_near = self.values()
        weakest = min((k for k in self._turned if k != "near"), key=lambda k: self._turned[k])
        cells = [f"{far:.3f}", f"{worst:.2f} ({weakest})", f"{ranked:.3f}"]
        return cells + ["" if np.isnan(one) else f"{one:.3f}" for one in (near, ranked_near)]


def _over_sets(means: dict[str, dict[str, _Found]]) -> list[str]:
    rows = []
    for half, chosen in (("chosen on", True), ("unseen", False)):
        for rule, found in means.items():
            values = [one.values() for name, one in found.items() if (name in _CHOSEN_ON) == chosen]
            if values:
                cells = [f"{value:.3f}" for value in np.nanmean(values, axis=0)]
                rows.append([half, rule, *cells])
    return table(["mean over sets", "rule", *_Found.HEADER], rows)


def _some(features: Vectors) -> Vectors:
    order = np.random.default_rng(1).permutation(len(features))
    return np.asarray(features[np.sort(order[:_STRANGERS])])


def _folds(file: FeatureFile, seed: int) -> NDArray[np.int64]:
    """Return the fold of each image, units together, classes spread evenly."""
    unit = units(file.group)
    _, first, number = np.unique(unit, return_index=True, return_inverse=True)
    order = np.lexsort((np.random.default_rng(seed).random(len(first)), file.label[first]))
    fold = np.empty(len(first), np.int64)
    fold[order] = np.arange(len(first)) % _FOLDS
    return np.asarray(fold[number])


def _resplit(
    file: FeatureFile, test: NDArray[np.bool_], held: NDArray[np.bool_] | None = None
) -> FeatureFile:
    """Return the file with these images for testing, and a quarter of the others to validate."""
    split = np.where(_folds(file, 99) % 4 == 0, "validation", "train").astype("U10")
    split[test] = "test"
    if held is not None:
        split[held] = "none"
    again = FeatureFile(file.path, file.header, file.features, file.digest)
    again.__dict__["split"] = split
    return again


def _without_classes(
    file: FeatureFile, seed: int
) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Give which images are of a third of the classes, and which are not, if classes suffice."""
    classes = np.unique(file.label)
    if len(classes) >= _FEWEST_CLASSES:
        chosen = np.random.default_rng(seed).permutation(classes)[: len(classes) // 3]
        held = np.isin(file.label, chosen)
        yield held, ~held


def _ours(file: FeatureFile) -> Judge:
    novelty = fit(file, keep=_KEEP)
    return novelty.score, 1 - novelty.kept


def _before(file: FeatureFile) -> Judge:
    """The distance to the 5th nearest; the limit from validation, or training if that is small."""
    bank = file.features[file.rows("train")]
    validation = file.features[file.rows("validation")]
    index = NeighborIndex.over(directions(bank))
    distances = 1 - index.search(validation, 5)[0][:, -1]
    if len(validation) < 100:
        distances = np.concatenate([distances, 1 - index.search(bank, 6)[0][:, -1]])
    limit = float(np.quantile(distances, _KEEP, method="higher"))
    return lambda features: (1 - index.search(features, 5)[0][:, -1]) / limit, 1 - _KEEP


def _mahalanobis(file: FeatureFile) -> Judge:
    rows = file.rows("train")
    train, label = file.features[rows].astype(np.float64), file.label[rows]
    means = np.stack([train[label == one].mean(axis=0) for one in np.unique(label)])
    residuals = train - means[np.unique(label, return_inverse=True)[1]]
    _, sizes, basis = np.linalg.svd(residuals / np.sqrt(len(rows)), full_matrices=False)
    known = sizes > 1e-6 * sizes[0]
    whitening = basis[known].T / sizes[known]  # its product is the pseudo-inverse

    def distances(features: Vectors) -> Scores:
        apart = (features @ whitening)[:, None] - means @ whitening
        return np.asarray(np.square(apart).sum(axis=2).min(axis=1))

    validation = distances(file.features[file.rows("validation")])
    limit = float(np.quantile(validation, _KEEP, method="higher"))
    return lambda features: distances(features) / limit, 1 - _KEEP


def _neighbors(file: FeatureFile) -> Judge:
    rows = file.rows("train", "validation")
    vectors, unit = directions(np.asarray(file.features[rows])), units(file.group[rows])
    cosines = vectors @ vectors.T
    cosines[unit[:, None] == unit] = -1
    _, first = np.unique(unit, return_index=True)
    usual = 1 - np.sort(cosines[first], axis=1)[:, -5].astype(np.float64)
    limit, kept = conformal_threshold(usual, _KEEP)
    index = NeighborIndex.over(vectors)
    return lambda features: (1 - index.search(features, 5)[0][:, -1]) / limit, 1 - kept


_RULES: dict[str, Callable[[FeatureFile], Judge]] = {
    "ours": _ours,
    "before": _before,
    "Mahalanobis": _mahalanobis,
    "kNN, conformal": _neighbors,
}


def _noise(folder: Path) -> list[str]:
    """Write pixels of noise, clouds, plain colors and gradients."""
    rng = np.random.default_rng(5)
    paths = []
    for number in range(_STRANGERS):
        pixels = np.broadcast_to(rng.integers(0, 256, 3), (96, 96, 3)).astype(np.float64)
        if number % 4 == 1:
            pixels = pixels * np.linspace(0, 1, 96)[:, None, None]
        elif number % 4 > 1:
            pixels = rng.integers(0, 256, (96, 96, 3)).astype(np.float64)
        image = Image.fromarray(pixels.astype(np.uint8))
        if number % 4 == 3:
            image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(1, 4))))
        paths.append(str(folder / f"{number:03}.png"))
        image.save(paths[-1])
    return paths
