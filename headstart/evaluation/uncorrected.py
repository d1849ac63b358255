"""Scores on the test images as the source labels them, whatever prepare.corrections says of them.

A model that was trained on corrected labels and judged on corrected ones gains twice. Only scores
on labels that no correction touched compare with those from before.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from headstart.dataset.manifest import Manifest
from headstart.scoring.metrics import Floats, Tally, log_loss
from headstart.scoring.predictions import Predictions


def uncorrected_scores(predictions: Predictions, manifest: Manifest) -> dict[str, Any]:
    """Score the images that were for testing before any correction.

    Args:
        predictions: Of the test images, dropped ones included.
        manifest: Their labels; an image that the source gives none is left out.

    Returns:
        `headlines`, and under "images" how many there are.
    """
    given = [manifest.rows[image].source_label for image in predictions.image.tolist()]
    class_names = manifest.class_names
    # Classes that corrections left without an image come behind the model's own.
    names = (*class_names, *sorted({*given} - {*class_names, ""}))
    index = {name: number for number, name in enumerate(names)} | {"": -1}
    labels = np.array([index[label] for label in given], np.int64)
    labelled = labels >= 0
    if labelled.all():
        return headlines(labels, predictions.probabilities)
    return headlines(labels[labelled], predictions.probabilities[labelled])


def headlines(labels: npt.NDArray[np.int64], probabilities: Floats) -> dict[str, Any]:
    """Return images, accuracy, balanced accuracy, macro F1 and log loss.

    An image of a class that the model does not have is a mistake, and that class has a recall and
    an F1 of 0; log loss, which would be infinite, leaves it out.

    Args:
        labels: (n_samples,) class indices, also of classes beyond the columns.
        probabilities: (n_samples, n_classes), rows summing to 1.
    """
    if not len(labels):
        return {"images": 0}
    n_classes = max(probabilities.shape[1], int(labels.max()) + 1)
    tally = Tally.of(labels, probabilities.argmax(axis=1), n_classes)
    result = {
        "images": len(labels),
        "accuracy": tally.accuracy,
        "balanced_accuracy": tally.balanced_accuracy,
        "macro_f1": tally.macro(tally.f1),
    }
    known = labels < probabilities.shape[1]
    if known.all():
        result["log_loss"] = log_loss(labels, probabilities)
    elif known.any():
        result["log_loss"] = log_loss(labels[known], probabilities[known])
    return result
