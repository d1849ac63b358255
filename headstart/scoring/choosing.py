"""Choosing between candidates on held-out images, and what such a choice is worth on new ones.

The best of many candidates looks better than it is on the images that chose it. So these are dealt
into parts, and each part is judged by the candidate that the other parts choose: none of its
images has a say in what it is scored with.

Source: Cawley and Talbot, On Over-fitting in Model Selection and Subsequent Selection Bias in
    Performance Evaluation, JMLR 11, 2010; Tsamardinos et al., Bootstrapping the Out-of-sample
    Predictions for Efficient and Accurate Cross-Validation, Machine Learning 107, 2018, which
    corrects for the choice on predictions that are there already, as is done here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from headstart.scoring.calibration import fit_temperature, losses_at
from headstart.scoring.metrics import Floats, Labels

PARTS = 5
"""Parts that held-out images are dealt into."""


@dataclass(frozen=True)
class HeldOut:
    """The images that candidates are chosen on.

    Attributes:
        label: (n_samples,) class indices.
        unit: (n_samples,) images of one number belong together and count once for errors.
        part: (n_samples,) part of each image; a unit is in one part.
        weight: (n_samples,) what each image counts.
    """

    label: Labels
    unit: Labels
    part: Labels
    weight: Floats

    @cached_property
    def units(self) -> npt.NDArray[np.int64]:
        """(n_samples,) number of each image's unit, from 0 without gaps."""
        return np.unique(self.unit, return_inverse=True)[1]

    def by_unit(self, values: Floats) -> npt.NDArray[np.float64]:
        """Return the weighted sum over each unit, (n_units,), of (n_samples,) values."""
        return np.bincount(self.units, self.weight * values).astype(np.float64)

    @cached_property
    def unit_weight(self) -> npt.NDArray[np.float64]:
        """(n_units,) weight of each unit."""
        return self.by_unit(np.ones(len(self.label)))

    def splits(self) -> Iterator[tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]]:
        """Yield for each part which images are of it, and which ones choose for it.

        A single part has no others; it chooses for itself.
        """
        for number in np.unique(self.part):
            own = self.part == number
            yield own, (~own if not own.all() else own)

    def units_of(self, images: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Return which units, (n_units,), have an image among (n_samples,) `images`."""
        return np.bincount(self.units, images) > 0


def dealt(label: Labels, unit: Labels, seed: int) -> npt.NDArray[np.int64]:
    """Deal units into `PARTS` parts, those of one class in turn; return each image's, (n_samples,).

    Args:
        label: (n_samples,) class indices; a unit counts as of its first image's class.
        unit: (n_samples,).
        seed: Of the order within a class.
    """
    _, first, index = np.unique(unit, return_index=True, return_inverse=True)
    order = np.lexsort((np.random.default_rng(seed).permutation(len(first)), label[first]))
    part = np.empty(len(first), np.int64)
    part[order] = np.arange(len(first)) % PARTS
    return part[index]


def best_of(right: Floats, loss: Floats, weight: Floats, size: Floats | None = None) -> int:
    """Return the candidate to take.

    Where a curve is flat, a few hundred images rank its settings by luck. So of all whose accuracy
    is within one standard error of the best, paired over the images, the smallest is taken, of
    equally large ones the one with the lowest log loss, which says more per image; of equals the
    first.

    Args:
        right: (n_candidates, n_units) weighted number of images that each got right.
        loss: (n_candidates, n_units) weighted sum of their log losses.
        weight: (n_units,) weight of their images.
        size: (n_candidates,) number of learned values; None where all have the same.

    Source: the one standard error rule of Breiman et al., Classification and Regression Trees,
        1984, section 3.4.3.
    """
    total = weight.sum()
    accuracy, mean_loss = right.sum(axis=1) / total, np.nan_to_num(loss.sum(axis=1), nan=np.inf)
    worse = _told_apart(right, weight, int(np.lexsort((mean_loss, -accuracy))[0]))
    size = np.zeros(len(right)) if size is None else size
    return int(np.lexsort((mean_loss, size, worse))[0])


def contenders(right: Floats, weight: Floats) -> npt.NDArray[np.int64]:
    """Return the candidates of which `best_of` takes one, whatever their log losses are.

    Args:
        right: (n_candidates, n_units) weighted number of images that each got right.
        weight: (n_units,) weight of their images.
    """
    accuracy = right.sum(axis=1)
    tops = np.flatnonzero(accuracy == accuracy.max())
    return np.flatnonzero(
        ~np.all([_told_apart(right, weight, top) for top in tops.tolist()], axis=0)
    )


def _told_apart(right: Floats, weight: Floats, top: int) -> npt.NDArray[np.bool_]:
    """Return which candidates are worse than one by more than a standard error."""
    accuracy = right.sum(axis=1) / weight.sum()
    behind = accuracy[top] - accuracy
    residuals = right[top] - right - behind[:, None] * weight
    n_units = len(weight)
    error = np.sqrt((residuals**2).sum(axis=1) * n_units / max(n_units - 1, 1)) / weight.sum()
    # A little more, since what is equal need not be so to the last bit.
    return np.asarray(behind > error + 1e-12)


def temperatures_across(
    logits: Floats, held_out: HeldOut, whole: float | None
) -> npt.NDArray[np.float64]:
    """Return each image's temperature, (n_samples, 1): what makes the other parts most likely.

    Args:
        logits: (n_samples, n_classes).
        held_out: The images.
        whole: What is taken where the others are too few; None for 1.
    """
    temperatures = np.empty((len(logits), 1))
    for own, others in held_out.splits():
        temperatures[own] = temperature_of(logits, held_out, others) or whole or 1.0
    return temperatures


def temperature_of(
    logits: Floats, held_out: HeldOut, images: npt.NDArray[np.bool_]
) -> float | None:
    """Return the temperature that makes some of the images most likely; see `fit_temperature`."""
    return fit_temperature(logits[images], held_out.label[images], held_out.unit[images])


class BestEpochs:
    """For each part of the held-out images the epoch that the other parts found best.

    Attributes:
        logits: (n_samples, n_classes) float32, each part's of its epoch.
        losses: (n_parts,) mean log loss of that epoch on the other parts.
    """

    def __init__(self, held_out: HeldOut, n_classes: int) -> None:
        self._held_out = held_out
        self._splits = list(held_out.splits())
        self.logits = np.zeros((len(held_out.label), n_classes), np.float32)
        self.losses = np.full(len(self._splits), np.inf)

    def offer(self, logits: Floats) -> float:
        """Take another epoch's logits, (n_samples, n_classes); return its weighted log loss."""
        held_out = self._held_out
        losses = held_out.weight * losses_at(1.0, logits, held_out.label)
        for part, (own, others) in enumerate(self._splits):
            loss = losses[others].sum() / held_out.weight[others].sum()
            if loss < self.losses[part]:
                self.losses[part] = loss
                self.logits[own] = logits[own]
        return float(losses.sum() / held_out.weight.sum())
