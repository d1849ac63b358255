"""Does an exported model say what the pipeline says?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.commands.export.formats import Predict
from headstart.common.vocabulary import Split
from headstart.dataset.manifest import ManifestRow
from headstart.images.decoding import read_checked

BOUND = 1e-4
"""Largest difference of a probability that is accepted."""


@dataclass(frozen=True, slots=True)
class Reference:
    """Images and what the pipeline says of them.

    Attributes:
        split: Which one they come from.
        rows: Their rows of the manifest.
        labels: (n,) class indices.
        probabilities: (n, n_classes), with the backbone in float32, as the exported model has it.
        as_trained: (n, n_classes), with the features in the precision that the model was trained
            and scored with; None where that is float32.
    """

    split: Split
    rows: Sequence[ManifestRow]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    as_trained: NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True)
class Agreement:
    """How an exported model compares with the pipeline.

    Attributes:
        split: Which images were compared.
        images: How many.
        largest_difference: Of any probability.
        worst: Path of the image with it.
        accuracy: Share that the exported model calls right.
        pipeline_accuracy: Share that the pipeline calls right.
        same_class: Share that both call the same.
        precision_difference: Largest difference of any probability between the pipeline in
            float32, which the exported model was compared with, and in the precision of the
            features that the model was trained on; None where that is float32.
    """

    split: Split
    images: int
    largest_difference: float
    worst: str
    accuracy: float
    pipeline_accuracy: float
    same_class: float
    precision_difference: float | None = None


def compare(predict: Predict, reference: Reference) -> Agreement:
    """Run an exported model on the files that the pipeline was run on.

    Raises:
        InputError: an image has changed or can no longer be read.
    """
    exported = np.concatenate(
        [predict(read_checked(row.path, row.sha256)[np.newaxis]) for row in reference.rows]
    ).astype(np.float64)
    differences = np.abs(exported - reference.probabilities).max(axis=1)
    # A probability that is not a number is as far off as can be.
    differences = np.nan_to_num(differences, nan=np.inf)
    worst = int(differences.argmax())
    called, expected = exported.argmax(axis=1), reference.probabilities.argmax(axis=1)
    return Agreement(
        split=reference.split,
        images=len(reference.rows),
        largest_difference=float(differences[worst]),
        worst=reference.rows[worst].path,
        accuracy=float((called == reference.labels).mean()),
        pipeline_accuracy=float((expected == reference.labels).mean()),
        same_class=float((called == expected).mean()),
        precision_difference=(
            None
            if reference.as_trained is None
            else float(np.abs(reference.as_trained - reference.probabilities).max())
        ),
    )


def evenly(total: int, count: int) -> NDArray[np.int64]:
    """Return at most `count` positions below `total`, evenly spaced, in order."""
    return np.unique(np.linspace(0, total - 1, min(count, total)).round().astype(np.int64))
