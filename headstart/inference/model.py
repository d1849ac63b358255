"""The trained model that classifies, with the preprocessing it was trained with.

What decides that is the model's own card: params.yaml may have been edited since.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headstart.common.errors import InputError
from headstart.extraction import engines
from headstart.extraction.bottleneck import Bottleneck, recover
from headstart.extraction.extract import Extraction, Request, extract
from headstart.extraction.store import FeatureStore
from headstart.finetuning.card import KIND as FINETUNED
from headstart.finetuning.card import read_finetuned_card
from headstart.heads import load as load_head
from headstart.heads.base import Head, HeadCard, read_card
from headstart.images.options import AugmentOptions
from headstart.inference import finetuned
from headstart.scoring.calibration import softmax

MODELS = Path("models")
METRICS = Path("metrics/test.json")


class Outcome(NamedTuple):
    """What a model says of some images.

    Attributes:
        probabilities: (n_readable, n_classes), calibrated, in the order of the requests.
        features: (n_readable, *feature_shape) of the images themselves; None unless asked for.
        unreadable: Reasons by path; such images have no row above.
    """

    probabilities: NDArray[np.float64]
    features: NDArray[np.float32] | None
    unreadable: dict[str, str]


class Model(ABC):
    """A trained model.

    Attributes:
        card: What is known of it.
    """

    card: HeadCard

    @abstractmethod
    def predict(self, requests: Sequence[Request], views: int, *, features: bool) -> Outcome:
        """Classify images.

        Args:
            requests: View 0 of each.
            views: Augmented views whose probabilities are averaged with those of the image.
            features: Whether to return the bottleneck features, too.
        """


def load_model(folder: Path, store: FeatureStore, recipe: AugmentOptions | None) -> Model:
    """Load a head or a fine-tuned model.

    Args:
        folder: Such as models/logistic.
        store: Where features are kept.
        recipe: What makes the views; needed if there will be any.

    Raises:
        InputError: the folder holds no model, or the backbone it needs is not to be had.
    """
    if read_card(folder)["kind"] == FINETUNED:
        return _FinetunedModel(folder, store, recipe)
    return _HeadModel(load_head(folder), store, recipe)


def model_folder(head: str | None, folder: Path | None) -> Path:
    """Return the folder of the model that a command was told to use.

    Args:
        head: Name below models/; None for the one that `evaluate` selected.
        folder: Of a model anywhere; goes before `head`.

    Raises:
        InputError: nothing is named, and no run has selected a model.
    """
    if folder is not None:
        return folder
    if head is not None:
        return MODELS / head
    try:
        return MODELS / str(json.loads(METRICS.read_text(encoding="utf-8"))["selected"]["head"])
    except (FileNotFoundError, KeyError, TypeError, ValueError):
        raise InputError(
            f"{METRICS}: expected the scores of a finished run, which name the selected head; run "
            "`dvc repro` first, or name a model with --head or --model"
        ) from None


class _Source:
    """Features of images, chunk after chunk; the engine and the store's index are kept."""

    def __init__(
        self,
        bottleneck: Bottleneck,
        store: FeatureStore,
        recipe: AugmentOptions | None,
        load: Callable[[Bottleneck, FeatureStore], engines.Engine] = engines.load,
    ) -> None:
        self._bottleneck = bottleneck
        self._store = store
        self._recipe = recipe
        self._load = load
        self._previous: Extraction | None = None

    def vectors(
        self, requests: Sequence[Request], unreadable: dict[str, str]
    ) -> NDArray[np.float32]:
        """Return features of the requests that can be read; note the others."""
        self._previous = extract(
            self._bottleneck,
            requests,
            recipe=self._recipe,
            store=self._store,
            load=self._load,
            previous=self._previous,
            unreadable=unreadable,
        )
        return self._previous.array()


class _HeadModel(Model):
    def __init__(self, head: Head, store: FeatureStore, recipe: AugmentOptions | None) -> None:
        self.card = head.card
        self._head = head
        self._source = _Source(recover(head.card.identity), store, recipe)

    def predict(self, requests: Sequence[Request], views: int, *, features: bool) -> Outcome:
        unreadable: dict[str, str] = {}
        vectors = self._source.vectors(_with_views(requests, views), unreadable)
        probabilities = _averaged(self._head.predict_proba(vectors), views)
        return Outcome(probabilities, vectors[:: views + 1] if features else None, unreadable)


class _FinetunedModel(Model):
    """Logits of the fine-tuned network; its novelty is told on the features it started from."""

    def __init__(self, folder: Path, store: FeatureStore, recipe: AugmentOptions | None) -> None:
        card = read_finetuned_card(folder)
        self.card = card.head
        self._logits = _Source(
            finetuned.as_bottleneck(folder, card), store, recipe, finetuned.load_engine
        )
        self._features = _Source(recover(card.head.identity), store, None)

    def predict(self, requests: Sequence[Request], views: int, *, features: bool) -> Outcome:
        unreadable: dict[str, str] = {}
        logits = self._logits.vectors(_with_views(requests, views), unreadable)
        probabilities = _averaged(softmax(logits, self.card.temperature), views)
        if not features:
            return Outcome(probabilities, None, unreadable)
        readable = [request for request in requests if request.path not in unreadable]
        gone: dict[str, str] = {}
        vectors = self._features.vectors(readable, gone)
        kept = np.array([request.path not in gone for request in readable], dtype=bool)
        return Outcome(probabilities[kept], vectors, unreadable | gone)


def _with_views(requests: Sequence[Request], views: int) -> list[Request]:
    return [request._replace(view=view) for request in requests for view in range(views + 1)]


def _averaged(probabilities: NDArray[np.float64], views: int) -> NDArray[np.float64]:
    """Average (n_images * (1 + views), n_classes), the views of an image together."""
    by_image = probabilities.reshape(-1, views + 1, probabilities.shape[1])
    averaged: NDArray[np.float64] = by_image.mean(axis=1)
    return averaged
