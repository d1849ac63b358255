"""The trained model that classifies, with the preprocessing it was trained with.

What decides that is the model's own card: params.yaml may have been edited since.
"""

import difflib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headstart.catalog import onnx
from headstart.catalog.weights import FILE_SUFFIXES
from headstart.common import places
from headstart.common.errors import InputError
from headstart.common.files import read_json
from headstart.common.project import missing
from headstart.common.vocabulary import Where
from headstart.evaluation.novelty import Novelty
from headstart.extraction import engines
from headstart.extraction.bottleneck import Bottleneck, recover
from headstart.extraction.extract import Extraction, Load, extract
from headstart.extraction.on_ray import worker
from headstart.extraction.on_ray.driver import Fleet
from headstart.extraction.requests import Request
from headstart.extraction.store import FeatureStore
from headstart.features.identity import FeatureIdentity
from headstart.heads import load as load_head
from headstart.heads import trained_heads
from headstart.heads.base import HeadCard, read_card
from headstart.heads.finetuned_card import KIND as FINETUNED
from headstart.heads.finetuned_card import NAME as FINETUNED_NAME
from headstart.heads.finetuned_card import is_present, read_finetuned_card
from headstart.images.options import AugmentOptions
from headstart.inference import finetuned
from headstart.scoring.calibration import softmax

_FIRST = "there is no finished run yet; run `dvc repro`, or name a model with --head or --model"


class ModelOutput(NamedTuple):
    """What a model says of some images.

    Attributes:
        probabilities: (n_readable, n_classes), calibrated, in the order of the requests.
        features: (n_readable, *feature_shape) of the images themselves; None unless asked for.
        unreadable: Reasons by path; such images have no row above.
    """

    probabilities: NDArray[np.float64]
    features: NDArray[np.float32] | None
    unreadable: dict[str, str]


class TrainedModel(ABC):
    """A trained model.

    Attributes:
        card: What is known of it.
    """

    card: HeadCard

    @abstractmethod
    def close(self) -> None:
        """Let go of a cluster's workers."""

    @abstractmethod
    def predict(self, requests: Sequence[Request], views: int, *, features: bool) -> ModelOutput:
        """Classify images.

        Args:
            requests: View 0 of each.
            views: Augmented views whose probabilities are averaged with those of the image.
            features: Whether to return the bottleneck features, too.
        """


def load_trained_model(
    folder: Path, store: FeatureStore, recipe: AugmentOptions | None, on: Where = "local"
) -> TrainedModel:
    """Load a head or a fine-tuned model.

    Args:
        folder: Such as models/heads/logistic.
        store: Where features are kept.
        recipe: What makes the views; needed if there will be any.
        on: Where the features are computed that the store lacks.

    Raises:
        InputError: the folder holds no model, or the backbone it needs is not to be had.
    """
    if read_card(folder)["kind"] == FINETUNED:
        return _FinetunedModel(folder, store, recipe, on)
    return _HeadModel(folder, store, recipe, on)


def model_folder(head: str | None, folder: Path | None, project: Path = Path()) -> Path:
    """Return the folder of the model to use.

    Args:
        head: Name of a head; None for the model that `evaluate` selected. "finetuned" means the
            fine-tuned model where no head has that name.
        folder: Of a model anywhere; goes before `head`.
        project: The project's folder.

    Raises:
        InputError: no model has that name, or none is named and no run has selected one.
    """
    if folder is not None:
        if not folder.is_dir():
            raise InputError(
                f"--model {folder}: no such folder; expected that of a model, such as "
                f"{places.HEADS}/logistic"
            )
        return folder
    finetuned_folder = project / places.FINETUNED
    if head is not None:
        heads = project / places.HEADS
        folders = {FINETUNED: finetuned_folder} if is_present(finetuned_folder) else {}
        folders |= {name: heads / name for name in trained_heads(heads)}
        if head not in folders:
            if not folders:
                raise missing(heads, _FIRST)
            near = difflib.get_close_matches(head, folders, n=1)
            raise InputError(
                f"--head: expected one of {', '.join(sorted(folders))}, received {head}"
                + (f"; did you mean {near[0]}?" if near else "")
            )
        return folders[head]
    metrics = project / places.TEST_METRICS
    try:
        selected = str(read_json(metrics)["selected"]["head"])
    except FileNotFoundError:
        raise missing(metrics, _FIRST) from None
    except (KeyError, TypeError, ValueError):
        raise InputError(
            f"{metrics}: expected the scores of a finished run, which name the selected head; run "
            "`dvc repro` to write them again, or name a model with --head or --model"
        ) from None
    return finetuned_folder if selected == FINETUNED_NAME else project / places.HEADS / selected


def find_novelty(folder: Path, model: TrainedModel) -> tuple[Novelty | None, str]:
    """Return what tells whether an image is novel, for a model of a project.

    Args:
        folder: The model's, such as models/heads/logistic.
        model: It must have been made for the same features.

    Returns:
        The novelty and an empty text, or None and why there is none.
    """
    name = places.NOVELTY.name
    above = folder.absolute().parents
    path = next((place / name for place in above[:2] if (place / name).is_file()), None)
    if path is None:
        return None, f"{above[0] / name}: no such file"
    novelty = Novelty.load(path)
    if novelty.feature_digest != model.card.identity.feature_digest:
        return None, f"{path}: made for other features than this model"
    return novelty, ""


class _FeatureSource:
    """Features of images, chunk after chunk; the engine and the store's index are kept."""

    def __init__(
        self,
        bottleneck: Bottleneck,
        store: FeatureStore,
        recipe: AugmentOptions | None,
        shape: tuple[int, ...],
        on: Where,
        load: Load = engines.load,
        recover: worker.Recover = worker.recover,
    ) -> None:
        self._fleet = (
            Fleet(bottleneck, recipe, store, lenient=True, recover=recover) if on == "ray" else None
        )
        self._bottleneck = bottleneck
        self._store = store
        self._recipe = recipe
        self._shape = shape
        self._load = load
        self._previous: Extraction | None = None

    def vectors(
        self, requests: Sequence[Request], unreadable: dict[str, str]
    ) -> NDArray[np.float32]:
        """Return features of the requests that can be read; note the others."""
        if not requests:
            return np.empty((0, *self._shape), np.float32)
        if self._fleet is not None:
            self._fleet.fill(requests, quiet=True)
        self._previous = extract(
            self._bottleneck,
            requests,
            recipe=self._recipe,
            store=self._store,
            load=self._load,
            previous=self._previous,
            unreadable=unreadable,
            quiet=True,
        )
        vectors = self._previous.array()
        self._previous.release()
        return vectors

    def close(self) -> None:
        """Let go of a cluster's workers."""
        if self._fleet is not None:
            self._fleet.close()


class _HeadModel(TrainedModel):
    def __init__(
        self, folder: Path, store: FeatureStore, recipe: AugmentOptions | None, on: Where
    ) -> None:
        self._head = load_head(folder)
        self.card = self._head.card
        self._source = _FeatureSource(
            _recover_near(folder, self.card.identity), store, recipe, self.card.feature_shape, on
        )

    def close(self) -> None:
        self._source.close()

    def predict(self, requests: Sequence[Request], views: int, *, features: bool) -> ModelOutput:
        unreadable: dict[str, str] = {}
        vectors = self._source.vectors(_with_views(requests, views), unreadable)
        probabilities = _averaged(self._head.predict_proba(vectors), views)
        return ModelOutput(probabilities, vectors[:: views + 1] if features else None, unreadable)


class _FinetunedModel(TrainedModel):
    """Logits of the fine-tuned network; its novelty is judged on the features it started from."""

    def __init__(
        self, folder: Path, store: FeatureStore, recipe: AugmentOptions | None, on: Where
    ) -> None:
        card = read_finetuned_card(folder)
        self.card = card.head
        self._logits = _FeatureSource(
            finetuned.as_bottleneck(folder, card),
            store,
            recipe,
            (len(card.head.class_names),),
            on,
            finetuned.load_engine,
            finetuned.recover,
        )
        self._folder = folder
        self._store = store
        self._on = on

    def close(self) -> None:
        self._logits.close()
        # A cached property: there only once it was asked for.
        if "_features" in vars(self):
            self._features.close()

    @cached_property
    def _features(self) -> _FeatureSource:
        # Only now, since the weights of the backbone before fine-tuning may be gone.
        bottleneck = _recover_near(self._folder, self.card.identity)
        return _FeatureSource(bottleneck, self._store, None, self.card.feature_shape, self._on)

    def predict(self, requests: Sequence[Request], views: int, *, features: bool) -> ModelOutput:
        unreadable: dict[str, str] = {}
        logits = self._logits.vectors(_with_views(requests, views), unreadable)
        probabilities = _averaged(softmax(logits, self.card.temperature), views)
        if not features:
            return ModelOutput(probabilities, None, unreadable)
        readable = [request for request in requests if request.path not in unreadable]
        gone: dict[str, str] = {}
        vectors = self._features.vectors(readable, gone)
        kept = np.array([request.path not in gone for request in readable], dtype=bool)
        return ModelOutput(probabilities[kept], vectors, unreadable | gone)


def _recover_near(folder: Path, identity: FeatureIdentity) -> Bottleneck:
    """Return the bottleneck of a model's features, wherever its project lies.

    Args:
        folder: The model's.
        identity: Of the features; a weights file is named relative to the project's folder, which
            holds the model's.
    """
    if identity.weights.endswith((*FILE_SUFFIXES, onnx.SUFFIX)):
        for above in folder.absolute().parents:
            if (above / identity.weights).is_file():
                return recover(replace(identity, weights=str(above / identity.weights)))
    return recover(identity)


def _with_views(requests: Sequence[Request], views: int) -> list[Request]:
    return [request._replace(view=view) for request in requests for view in range(views + 1)]


def _averaged(probabilities: NDArray[np.float64], views: int) -> NDArray[np.float64]:
    """Average (n_images * (1 + views), n_classes), the views of an image together."""
    by_image = probabilities.reshape(-1, views + 1, probabilities.shape[1])
    averaged: NDArray[np.float64] = by_image.mean(axis=1)
    return averaged
