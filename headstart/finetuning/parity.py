"""The gate before the first step: the assembled model says what the cached head says."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.common.errors import InputError
from headstart.common.tensorflow_runtime import keras
from headstart.common.vocabulary import Precision
from headstart.features.file import FeatureFile
from headstart.finetuning.assembly import Assembly
from headstart.finetuning.batches import BatchSource
from headstart.heads.base import Head

SAMPLES = 32

TOLERANCE: dict[Precision, float] = {"float32": 1e-3, "bfloat16": 5e-2, "float16": 1e-2}
"""Largest difference allowed, as a share of the largest value compared.

Engines agree to 1e-5 of a feature in float32 (5e-3 in bfloat16); a wrong layer, preprocessing or
weights file is off by the order of 1.
"""


@dataclass(frozen=True, slots=True)
class Parity:
    """How far the assembled model is from the cached head, as shares of the largest value.

    Attributes:
        features: Difference between the backbone's features and the cached ones.
        head: Difference between the head's layers and the head, both on cached features.
        logits: Difference between the whole and the head on cached features.
    """

    features: float
    head: float
    logits: float


def check_parity(
    assembly: Assembly,
    cut: str | None,
    source: BatchSource,
    head: Head,
    file: FeatureFile,
    precision: Precision,
) -> Parity:
    """Compare the assembled model with the cached head on a sample of the images.

    Args:
        assembly: Carries the head's weights.
        cut: Where `source` enters the assembly; None: images.
        source: Gives activations at the cut, or images.
        head: The cached head.
        file: The features it was trained on.
        precision: The lowest of those in play; decides the tolerance.

    Raises:
        InputError: they differ; the message says which part does.
    """
    images = file.rows()
    rows = images[np.linspace(0, len(images) - 1, min(SAMPLES, len(images))).astype(np.int64)]
    (inputs,) = source.read(rows, 0, len(rows))
    cached = np.asarray(file.features[rows])
    expected = _centered(head.logits(cached) / head.card.temperature)
    starts_from_images = inputs.dtype == np.uint8
    features = _run(assembly.features_from(cut, images=starts_from_images), inputs)
    found = Parity(
        features=_difference(features, cached),
        head=_difference(_centered(_run(assembly.head, cached)), expected),
        logits=_difference(_centered(_run(assembly.head, features)), expected),
    )
    tolerance = TOLERANCE[precision]
    if found.head > tolerance:
        part = f"the {head.kind} head as Keras layers differs from the head"
    elif found.features > tolerance:
        part = f"the backbone's features differ from those in {file.path}"
    elif found.logits > tolerance:
        part = "backbone and head agree each, but their small differences add up"
    else:
        return found
    raise InputError(
        f"finetune: the assembled model does not say what the cached head says: {part}. Largest "
        f"difference as a share of the largest value: features {found.features:.1e}, head "
        f"{found.head:.1e}, logits {found.logits:.1e}; expected at most {tolerance:.0e} "
        f"({precision}). Run `dvc repro` to bring features and head up to date."
    )


def _run(model: keras.Model, inputs: NDArray[np.generic]) -> NDArray[np.float64]:
    return np.asarray(keras.ops.convert_to_numpy(model(inputs, training=False)), np.float64)


def _centered(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    # A constant added to all logits of an image changes no probability.
    return np.asarray(logits - logits.mean(axis=1, keepdims=True), np.float64)


def _difference(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    scale = float(np.abs(other).max()) or 1.0
    return float(np.abs(one - other).max()) / scale
