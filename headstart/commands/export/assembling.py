"""The whole way from pixels to class probabilities as one Keras model of built-in operations."""

from pathlib import Path
from typing import Any

import numpy as np

from headstart.commands.export.resizing import resized
from headstart.common.errors import InputError
from headstart.common.tensorflow_runtime import keras
from headstart.extraction.bottleneck import recover
from headstart.extraction.engines.folding import fold_batch_normalization
from headstart.extraction.model import assemble, outputs_of
from headstart.features.identity import FeatureIdentity
from headstart.finetuning.head_layers import head_layers
from headstart.finetuning.saving import load_finetuned
from headstart.heads import load
from headstart.heads.base import Head, read_card
from headstart.heads.finetuned_card import KIND as FINETUNED
from headstart.heads.knn import KnnHead
from headstart.heads.prototype import CosineHead

INPUT, OUTPUT = "images", "probabilities"
"""Names of the exported model's input and output, in every format that has names."""

RESIZING = "resizing"
"""Name of the part that must stay in full precision when the rest is quantized."""


def whole_model(folder: Path) -> keras.Model:
    """Build the graph of a trained head or fine-tuned model.

    Args:
        folder: Such as models/heads/logistic.

    Returns:
        From images of one size, (batch, any, any, 3) uint8, RGB in [0, 255], to calibrated
        probabilities (batch, n_classes) float32.

    Raises:
        InputError: the folder holds no model, or one that cannot be a graph, or the backbone that
            it needs cannot be had.
    """
    # Keras numbers layers over a process' life; names in an export shall not depend on what ran.
    keras.utils.clear_session()
    if read_card(folder)["kind"] == FINETUNED:
        finetuned = load_finetuned(folder)
        identity = finetuned.card.head.identity
        logits = finetuned.assembly.logits_from(None, images=True)
        return _with_resizing(identity, logits, finetuned.card.head.temperature)
    head = load(folder)
    identity = head.card.identity
    head_model = _head_model(head)
    extractor = assemble(recover(identity), rewrite=fold_batch_normalization)
    images = _images(identity.image_size)
    (features,) = outputs_of(extractor, images)
    return _with_resizing(identity, keras.Model(images, head_model(features)), 1.0)


def resizing_of(identity: FeatureIdentity) -> keras.Model:
    """Return the model from images of any size, (batch, any, any, 3) uint8, to the backbone's."""
    images = _images((None, None))
    pixels = keras.ops.cast(resized(images, identity.sizing), "uint8")
    return keras.Model(images, pixels, name=RESIZING)


def classifier_of(head: Head) -> keras.Model:
    """Return the model from features to calibrated probabilities.

    Raises:
        InputError: a head of this kind cannot be a graph.
    """
    features = keras.Input(head.card.feature_shape, name="features")
    return keras.Model(features, keras.layers.Softmax()(_head_model(head)(features)))


def _with_resizing(
    identity: FeatureIdentity, logits: keras.Model, temperature: float
) -> keras.Model:
    small = _images(identity.image_size)
    scaled = logits(small) / np.float32(temperature)
    classifier = keras.Model(small, keras.layers.Softmax()(scaled), name="classifier")
    resizing = resizing_of(identity)
    images = _images((None, None))
    # The name of the last operation becomes the output's name.
    probabilities = keras.layers.Identity(name=OUTPUT)(classifier(resizing(images)))
    return keras.Model(images, probabilities, name="model")


def _images(size: tuple[int | None, int | None]) -> Any:
    return keras.Input((*size, 3), dtype="uint8", name=INPUT)


def _head_model(head: Head) -> keras.Model:
    """Return the model from features to logits whose softmax is calibrated."""
    if isinstance(head, KnnHead):
        raise InputError(
            "a knn head cannot be exported: it needs its training features beside it. Name "
            "another one with --head, such as a logistic or a prototype head"
        )
    if isinstance(head, CosineHead):
        return _cosine_model(head)
    return head_layers(head)


def _cosine_model(head: CosineHead) -> keras.Model:
    ops, card, model = keras.ops, head.card, head.as_prototypes()
    features = keras.Input(card.feature_shape, name="features")
    pooled = ops.mean(features, axis=(1, 2)) if len(card.feature_shape) > 1 else features
    centered = pooled - model.mean
    length = ops.sqrt(ops.sum(ops.square(centered), axis=1, keepdims=True))
    cosines = ops.matmul(centered / ops.maximum(length, 1e-12), model.prototypes)
    logits = (cosines + model.bias) / np.float32(card.temperature)
    return keras.Model(features, logits, name=head.kind)
