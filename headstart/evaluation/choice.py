"""Which of several models is best on held-out images, and whether that could be chance."""

from collections.abc import Collection, Mapping
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from headstart.common.errors import InputError
from headstart.dataset.manifest import Manifest
from headstart.scoring.choosing import HeldOut, best_of, dealt
from headstart.scoring.intervals import paired_interval, units
from headstart.scoring.metrics import Floats, Labels, negative_log_likelihood
from headstart.scoring.predictions import Predictions


def select(
    held_out: Mapping[str, Predictions],
    manifest: Manifest,
    *,
    class_weight: npt.NDArray[np.float64],
    sizes: Mapping[str, int],
    last: str,
    first: str,
    seed: int,
) -> dict[str, Any]:
    """Name the model that does best on held-out images: the smallest of those not told apart.

    Models are compared on the images that every one of them has held out. A lead over the second
    that the images cannot distinguish from zero is called a tie. Where nothing could be held out,
    it is `first`. The best of several looks better than it is on the images that chose it:
    `validation_accuracy` is what the choice is worth on images that had no say in it, and
    `held_out_images` says how many they are.

    Args:
        held_out: What each model said of images that it was not fitted to.
        manifest: Where their labels and groups stand.
        class_weight: (n_classes,) what an image of a class counts.
        sizes: Number of each model's learned values; see `best_of`.
        last: A model that is taken only where it has more images right than the one that is best
            of the others, however large these are: a fine-tuned one.
        first: The model to name where no image decides.
        seed: Of the parts that judge each other.

    Raises:
        InputError: images were held out, but none by all models.
    """
    held_out = {name: one for name, one in held_out.items() if len(one.image)}
    if not held_out:
        return {"head": first, "selected_by": "default"}
    common = reduce(np.intersect1d, [one.image for one in held_out.values()])
    if not len(common):
        raise InputError(
            f"{', '.join(held_out)}: these heads have no validation image in common; "
            "run `dvc repro` to train them on the present split"
        )
    labels, groups = manifest.labels[common], manifest.groups[common]
    unit = units(groups)
    judges = HeldOut(
        label=labels, unit=unit, part=dealt(labels, unit, seed), weight=class_weight[labels]
    )
    probabilities = {name: one.of(common) for name, one in held_out.items()}
    right = {name: is_right(labels, values) for name, values in probabilities.items()}
    tallies = {
        name: np.stack(
            [
                judges.by_unit(right[name]),
                judges.by_unit(negative_log_likelihood(labels, probabilities[name])),
            ]
        )
        for name in held_out
    }

    def best(names: Collection[str], images: npt.NDArray[np.bool_]) -> str:
        chosen = judges.units_of(images)
        others = [name for name in names if name != last] or list(names)
        rights, losses = np.stack([tallies[name][:, chosen] for name in others], axis=1)
        size = np.array([sizes[name] for name in others])
        found = others[best_of(rights, losses, judges.unit_weight[chosen], size)]
        if last not in names:
            return found
        rights = [tallies[name][0, chosen].sum() for name in (last, found)]
        return last if rights[0] > rights[1] else found

    every = np.ones(len(common), bool)
    winner = best(held_out, every)
    fair = np.empty(len(common))
    for own, others in judges.splits():
        fair[own] = right[best(held_out, others)][own]
    result: dict[str, Any] = {
        "head": winner,
        "held_out_images": len(common),
        "validation_accuracy": float(fair.mean()),
    }
    if rivals := [name for name in held_out if name != winner]:
        result["runner_up"] = runner_up = best(rivals, every)
        low, high = paired_interval(right[winner] - right[runner_up], groups)
        result["tie"] = low <= 0 <= high
        result["lead_interval"] = [low, high]
    return result


def is_right(labels: Labels, probabilities: Floats) -> npt.NDArray[np.float64]:
    """Return 1 where the likeliest class is the true one, else 0; (n_samples,)."""
    return np.asarray(probabilities.argmax(axis=1) == labels, dtype=np.float64)


def gain(
    labels: Labels,
    own: Floats,
    start: Floats,
    groups: npt.NDArray[np.int64],
) -> dict[str, Any]:
    """Return how much more accurate one model is than another, with its 95 % interval.

    Empty where there is no image.

    Args:
        labels: (n_samples,).
        own: (n_samples, n_classes) probabilities of the one.
        start: (n_samples, n_classes) probabilities of the other.
        groups: (n_samples,) images of one group (>= 0) are drawn together.
    """
    if not len(labels):
        return {}
    differences = is_right(labels, own) - is_right(labels, start)
    interval = paired_interval(differences, groups)
    return {"accuracy": float(differences.mean()), "interval": interval}
