"""A trained model, to classify any images from Python."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headstart.api.images import ImageLike, as_list, refuse, requests_for
from headstart.common import places
from headstart.evaluation.novelty import Novelty
from headstart.extraction.store import FeatureStore
from headstart.heads.base import CARD_FILE
from headstart.inference.inputs import NothingFound, expand
from headstart.inference.model import (
    TrainedModel,
    find_novelty,
    model_folder,
)
from headstart.inference.model import load_model as load_trained_model

if TYPE_CHECKING:
    import pandas as pd


class LoadedModel:
    """A trained model with the preprocessing that it was trained with.

    Attributes:
        folder: Where it lies.
        classes_: (n_classes,) names, one per column of the probabilities.
    """

    def __init__(self, folder: Path, model: TrainedModel, novelty: Novelty | None) -> None:
        self.folder = folder
        self.classes_ = np.array(model.card.class_names, dtype=object)
        self._model = model
        self._novelty = novelty

    def __repr__(self) -> str:
        return f"LoadedModel({str(self.folder)!r}, classes: {', '.join(self.classes_)})"

    def predict(
        self, images: str | os.PathLike[str] | Iterable[ImageLike] | NDArray[Any]
    ) -> "pd.DataFrame":
        """Classify images.

        Args:
            images: As for `BottleneckFeatures.transform`; also the path of one image, of a folder
                (with all below it) or a glob.

        Returns:
            A row per image: path (of images in memory "image 0" and so on), class, its calibrated
            probability in [0, 1], and novelty: how unlike training the image is, 1 being the usual
            limit; missing where the project has no models/novelty.h5.

        Raises:
            InputError: images cannot be read; the message names them.
        """
        import pandas as pd

        names, probabilities, features = self._run(images, features=self._novelty is not None)
        best = probabilities.argmax(axis=1)
        novelty = np.full(len(names), np.nan)
        if self._novelty is not None and features is not None:
            novelty = self._novelty.score(features)
        return pd.DataFrame(
            {
                "path": names,
                "class": self.classes_[best],
                "probability": probabilities[np.arange(len(best)), best],
                "novelty": novelty,
            }
        )

    def predict_proba(
        self, images: str | os.PathLike[str] | Iterable[ImageLike] | NDArray[Any]
    ) -> NDArray[np.float64]:
        """Return calibrated probabilities, (n_images, n_classes), rows summing to 1.

        Args:
            images: As for `predict`.

        Raises:
            InputError: images cannot be read; the message names them.
        """
        return self._run(images, features=False)[1]

    def _run(
        self, images: str | os.PathLike[str] | Iterable[ImageLike] | NDArray[Any], *, features: bool
    ) -> tuple[list[str], NDArray[np.float64], NDArray[np.float32] | None]:
        if isinstance(images, str | os.PathLike):
            found = list(expand([os.fspath(images)]))
            refuse([f"{one.name}: {one.reason}" for one in found if isinstance(one, NothingFound)])
            images = [one for one in found if isinstance(one, Path)]
        requests = requests_for(as_list(images))
        output = self._model.predict(requests, 0, features=features)
        refuse([f"{path}: {reason}" for path, reason in output.unreadable.items()])
        return [request.path for request in requests], output.probabilities, output.features


def load_model(
    folder: str | os.PathLike[str] = ".", *, cache: str | os.PathLike[str] | None = None
) -> LoadedModel:
    """Load a trained model.

    Args:
        folder: A project's folder, for the model that its validation selected; or a model's own,
            such as models/heads/logistic.
        cache: Folder of the feature store; None for the user's own.

    Raises:
        InputError: there is no model, or the backbone it needs is not to be had.

    Examples:
        >>> import headstart
        >>> model = headstart.load_model("models/heads/logistic")  # doctest: +SKIP
        >>> model.predict(["a.jpg", "b.jpg"])  # doctest: +SKIP
    """
    place = Path(folder)
    if not (place / CARD_FILE).is_file() and (place / places.TEST_METRICS).is_file():
        place = model_folder(None, None, place)
    store = FeatureStore(None if cache is None else Path(cache))
    model = load_trained_model(place, store, None)
    novelty, _ = find_novelty(place, model)
    return LoadedModel(place, model, novelty)
