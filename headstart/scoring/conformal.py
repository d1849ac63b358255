"""Sets of classes that hold the true one as often as was asked for: split-conformal prediction.

A class is in an image's set where its probability is at least the class's threshold; the likeliest
class always is, since a set that names nothing helps nobody. So how well an image conforms is the
probability of its true class, or 1 where that is the likeliest anyway, and a threshold is what all
but the rest of the held-out images reach. Taking the likeliest class into the score keeps sets that
are never empty from being larger than they need to be. Where a model is right more often than was
asked for, each set is the likeliest class alone, and covers as often as that is right.

Thresholds on the probability of the true class give the smallest sets for a coverage, and any
program can apply them. Adaptive sets (Romano, Sesia and Candès, NeurIPS 2020; Angelopoulos et al.,
ICLR 2021) add up the likeliest classes instead: they serve hard images more evenly, but are larger,
draw random numbers to be exact, and cannot be told as a threshold.

Source: Sadinle, Lei and Wasserman, Least Ambiguous Set-Valued Classifiers With Bounded Error
    Levels, JASA 114, 2019 (the score, thresholds per class); Vovk, Gammerman and Shafer,
    Algorithmic Learning in a Random World, 2005, section 4.5 (coverage within each part of the
    labels); Lee, Barber and Willett, Distribution-free inference with hierarchical data, 2023
    (units).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from headstart.scoring.intervals import accuracy_interval
from headstart.scoring.metrics import Floats, Labels

FEWEST = 100
"""Held-out units from which on a class has a threshold of its own.

One of n units more or less below a threshold moves what it covers by 1 / (n + 1): by less than a
point from here on.
"""

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class ClassSets:
    """From which probability on a class is in an image's set.

    Attributes:
        wanted: Share of images whose set shall hold the true class.
        threshold: (n_classes,) in [0, 1]: 0 takes the class into every set, 1 into none but of
            images of which it is the likeliest.
        units: (n_classes,) held-out units that set each threshold; classes that have too few for
            one of their own share one, and its units.
    """

    wanted: float
    threshold: npt.NDArray[np.float64]
    units: npt.NDArray[np.int64]

    @property
    def needed(self) -> int:
        """How many units a threshold takes that leaves any class out."""
        return math.ceil(1 / (1 - self.wanted) - _ROUNDING) - 1

    def of(self, probabilities: Floats) -> npt.NDArray[np.bool_]:
        """Return which classes are in the set of each image, (n_samples, n_classes).

        Args:
            probabilities: (n_samples, n_classes).
        """
        inside = np.asarray(probabilities >= self.threshold)
        inside[np.arange(len(inside)), probabilities.argmax(axis=1)] = True
        return inside

    def check(
        self,
        labels: Labels,
        probabilities: Floats,
        groups: npt.NDArray[np.integer[Any]],
        class_names: Sequence[str],
    ) -> dict[str, Any]:
        """Return how often the sets of images hold the true class, as JSON types.

        Args:
            labels: (n_samples,); without any there is only what is wanted.
            probabilities: (n_samples, n_classes), of images that set no threshold.
            groups: (n_samples,) images of one group (>= 0) are covered together, more or less.
            class_names: One per column.
        """
        if not len(labels):
            return {"wanted": self.wanted}
        inside = self.of(probabilities)
        size = inside.sum(axis=1)
        held = inside[np.arange(len(labels)), labels]
        low, high = accuracy_interval(held.astype(np.float64), groups)
        images = np.bincount(labels, minlength=len(class_names))
        covered = np.bincount(labels, held, len(class_names))
        return {
            "wanted": self.wanted,
            "covered": float(held.mean()),
            "low": low,
            "high": high,
            "set_size": float(size.mean()),
            "one_class": float((size == 1).mean()),
            # A list, which `dvc metrics diff` passes over, as `per_class` of the scores.
            "per_class": [
                {"class": name, "images": int(n), "covered": float(hits / n)}
                for name, n, hits in zip(class_names, images, covered, strict=True)
                if n
            ],
        }

    def as_dict(self, class_names: Sequence[str]) -> dict[str, Any]:
        """Return the fields as JSON types, by class."""
        return {
            "wanted": self.wanted,
            "thresholds": dict(zip(class_names, self.threshold.tolist(), strict=True)),
            "units": dict(zip(class_names, self.units.tolist(), strict=True)),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], class_names: Sequence[str]) -> "ClassSets":
        """Undo `as_dict`."""
        return cls(
            float(content["wanted"]),
            np.array([content["thresholds"][name] for name in class_names], np.float64),
            np.array([content["units"][name] for name in class_names], np.int64),
        )


def fit_sets(
    labels: Labels, probabilities: Floats, unit: npt.NDArray[np.integer[Any]], wanted: float
) -> ClassSets:
    """Return thresholds that cover the wanted share of new images, on the average over such data.

    Of images that the weights were not fitted to, drawn as the new ones are. Classes with `FEWEST`
    units have a threshold of their own, which covers that share of their images; the others share
    one, which covers it of theirs together. While those have too few, the smallest of the former
    join them. A unit counts once, however many images it has, so that what is covered is a share
    of images of new units. With fewer units than a threshold takes, it is 0: all classes are in all
    sets.

    Args:
        labels: (n_samples,).
        probabilities: (n_samples, n_classes).
        unit: (n_samples,) images of one number belong together.
        wanted: In (0, 1).
    """
    n_classes = probabilities.shape[1]
    likeliest = probabilities.argmax(axis=1)
    true = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    conforming = np.where(likeliest == labels, 1.0, true)
    pairs = np.unique(np.stack([labels, unit]), axis=1)
    n_units = np.bincount(pairs[0], minlength=n_classes)
    fewest = max(FEWEST, math.ceil(1 / (1 - wanted) - _ROUNDING) - 1)
    own = n_units >= fewest
    for smallest in np.argsort(n_units, kind="stable"):
        shared = np.isin(pairs[0], np.flatnonzero(~own))
        if own.all() or len(np.unique(pairs[1, shared])) >= fewest:
            break
        own[smallest] = False
    threshold, counted = np.zeros(n_classes), np.zeros(n_classes, np.int64)
    for classes in [*np.flatnonzero(own)[:, None], np.flatnonzero(~own)]:
        chosen = np.isin(labels, classes)
        found = _threshold(conforming[chosen], unit[chosen], wanted)
        threshold[classes], counted[classes] = found
    return ClassSets(wanted, threshold, counted)


def _threshold(
    conforming: npt.NDArray[np.float64], unit: npt.NDArray[np.integer[Any]], wanted: float
) -> tuple[float, int]:
    """Return what the wanted share of new units conforms to, and how many units tell it.

    Each unit spreads the weight of one over its images, and the new one may conform to nothing:
    the rank ceil((n + 1) x wanted) from the top where each unit is one image.
    """
    _, number, size = np.unique(unit, return_inverse=True, return_counts=True)
    # What rounding takes from a whole number must not cost one unit more.
    spare = (1 - wanted) * (len(size) + 1) - 1 + _ROUNDING
    if spare < 0:
        return 0.0, len(size)
    order = np.argsort(conforming, kind="stable")
    weight = (1 / size)[number][order]
    below = np.cumsum(weight) - weight
    last = np.flatnonzero(below <= spare)[-1]
    return float(conforming[order[last]]), len(size)
