"""Which of several models is best on held-out images, and whether that could be chance."""

from collections.abc import Mapping
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from headstart.common.errors import InputError
from headstart.dataset.manifest import Manifest
from headstart.scoring.intervals import paired_interval
from headstart.scoring.metrics import Floats, Labels, log_loss
from headstart.scoring.predictions import Predictions


def select(
    held_out: Mapping[str, Predictions],
    manifest: Manifest,
    *,
    last: str,
    first: str,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """Name the model with most held-out images right, of equals the one with lower log loss.

    Models are compared on the images that every one of them has held out. A lead over the second
    that the paired bootstrap cannot distinguish from zero is called a tie. Where nothing could be
    held out, it is `first`.

    Args:
        held_out: What each model said of images that it was not fitted to.
        manifest: Where their labels and groups stand.
        last: A model that goes behind its equals, whatever its log loss.
        first: The model to name where no image decides.
        resamples: Draws of the bootstrap; 0 leaves the question of a tie open.
        seed: Of the draws.

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
    labels = manifest.labels[common]
    probabilities = {name: one.of(common) for name, one in held_out.items()}
    right = {name: is_right(labels, values) for name, values in probabilities.items()}
    ranked = sorted(
        held_out,
        key=lambda name: (-right[name].sum(), name == last, log_loss(labels, probabilities[name])),
    )
    best = ranked[0]
    result: dict[str, Any] = {"head": best, "validation_accuracy": float(right[best].mean())}
    if len(ranked) > 1:
        result["runner_up"] = ranked[1]
        if resamples:
            low, high = paired_interval(
                right[best] - right[ranked[1]],
                manifest.groups[common],
                resamples=resamples,
                seed=seed,
            )
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
    *,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """Return how much more accurate one model is than another, with its 95 % interval.

    Empty where there is no image.

    Args:
        labels: (n_samples,).
        own: (n_samples, n_classes) probabilities of the one.
        start: (n_samples, n_classes) probabilities of the other.
        groups: (n_samples,) images of one group (>= 0) are drawn together.
        resamples: Draws of the bootstrap; 0 leaves the interval out.
        seed: Of the draws.
    """
    if not len(labels):
        return {}
    differences = is_right(labels, own) - is_right(labels, start)
    result: dict[str, Any] = {"accuracy": float(differences.mean())}
    if resamples:
        result["interval"] = paired_interval(differences, groups, resamples=resamples, seed=seed)
    return result
