"""A trained model, to classify any images from Python."""

import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headstart.api.images import ImageLike, as_list, refuse, requests_for
from headstart.common import places
from headstart.common.errors import InputError
from headstart.evaluation.novelty import Novelty
from headstart.evaluation.operating import OperatingPoint, find_point
from headstart.extraction.store import FeatureStore
from headstart.heads.base import CARD_FILE
from headstart.inference.inputs import NothingFound, expand
from headstart.inference.model import (
    ModelOutput,
    TrainedModel,
    find_novelty,
    load_trained_model,
    model_folder,
)
from headstart.scoring.costs import NONE

if TYPE_CHECKING:
    import pandas as pd

_CHUNK = 1024
"""Images whose features are in memory at once; spatial maps are large."""

Images = str | os.PathLike[str] | Iterable[ImageLike] | NDArray[Any]


class LoadedModel:
    """A trained model with the preprocessing that it was trained with; see `load_model`.

    Attributes:
        folder: Where it lies.
        classes_: (n_classes,) names, one per column of the probabilities.
    """

    def __init__(
        self,
        folder: Path,
        model: TrainedModel,
        novelty: Novelty | None,
        point: OperatingPoint | None,
    ) -> None:
        self.folder = folder
        self.classes_ = np.array(model.card.class_names, dtype=object)
        self._model = model
        self._novelty = novelty
        self._sets, self._costs = (point.sets, point.costs) if point else (None, None)

    def __repr__(self) -> str:
        return f"LoadedModel({str(self.folder)!r}, classes: {', '.join(self.classes_)})"

    def predict(self, images: Images) -> "pd.DataFrame":
        """Classify images, as `headstart predict` does.

        Args:
            images: As for `BottleneckFeatures.transform`; also the path of one image, of a folder
                (with all below it) or a glob.

        Returns:
            A row per image, in order: path (of images in memory "image 0" and so on), class, its
            calibrated probability in [0, 1], and novelty: how unlike training the image is, 1 being
            the limit above which `headstart predict` names no class; missing where `load_model`
            warned of it. With `evaluate.coverage` also set, a list of classes, the likeliest first;
            with `evaluate.costs` or `evaluate.abstain_cost` decision, the class that costs least to
            name, or None.

        Raises:
            InputError: images cannot be read; the message names them.
        """
        import pandas as pd

        names: list[str] = []
        best: list[NDArray[np.int64]] = []
        probability: list[NDArray[np.float64]] = []
        novelty: list[NDArray[np.float64]] = []
        further: dict[str, list[Any]] = {}
        for chunk, output in self._outputs(images, features=self._novelty is not None):
            names += chunk
            best.append(output.probabilities.argmax(axis=1))
            probability.append(output.probabilities.max(axis=1))
            if self._novelty is None or output.features is None:
                novelty.append(np.full(len(chunk), np.nan))
            else:
                novelty.append(self._novelty.score(output.features))
            for name, values in self._decided(output.probabilities).items():
                further.setdefault(name, []).extend(values)
        return pd.DataFrame(
            {
                "path": names,
                "class": self.classes_[np.concatenate(best)],
                "probability": np.concatenate(probability),
                "novelty": np.concatenate(novelty),
                **further,
            }
        )

    def _decided(self, probabilities: NDArray[np.float64]) -> dict[str, list[Any]]:
        """Return the columns that an operating point adds."""
        found: dict[str, list[Any]] = {}
        if self._sets is not None:
            order = np.argsort(-probabilities, axis=1, kind="stable")
            inside = np.take_along_axis(self._sets.of(probabilities), order, axis=1)
            pairs = zip(order, inside, strict=True)
            found["set"] = [self.classes_[ranked[chosen]].tolist() for ranked, chosen in pairs]
        if self._costs is not None:
            named = self._costs.decide(probabilities)
            found["decision"] = [None if one == NONE else self.classes_[one] for one in named]
        return found

    def predict_proba(self, images: Images) -> NDArray[np.float64]:
        """Return calibrated probabilities.

        Args:
            images: As for `predict`.

        Returns:
            (n_images, n_classes), the columns in the order of `classes_`, rows summing to 1.

        Raises:
            InputError: images cannot be read; the message names them.
        """
        outputs = self._outputs(images, features=False)
        return np.concatenate([output.probabilities for _, output in outputs])

    def _outputs(
        self, images: Images, *, features: bool
    ) -> Iterator[tuple[list[str], ModelOutput]]:
        """Yield the names of the next images and what the model says of them."""
        if isinstance(images, str | os.PathLike):
            found = list(expand([os.fspath(images)]))
            refuse([f"{one.name}: {one.reason}" for one in found if isinstance(one, NothingFound)])
            images = [one for one in found if isinstance(one, Path)]
        # All are read before any is classified: what cannot be read is told at once.
        requests = requests_for(as_list(images))
        for start in range(0, len(requests), _CHUNK):
            chunk = requests[start : start + _CHUNK]
            output = self._model.predict(chunk, 0, features=features)
            refuse([f"{path}: {reason}" for path, reason in output.unreadable.items()])
            yield [request.path for request in chunk], output


def load_model(
    folder: str | os.PathLike[str] = ".", *, cache: str | os.PathLike[str] | None = None
) -> LoadedModel:
    """Load a trained model.

    Args:
        folder: A project's folder, for the model that its validation selected; or a model's own,
            such as models/heads/logistic or models/finetuned, wherever it lies.
        cache: Folder of the feature store; None for the user's own.

    Raises:
        InputError: there is no model, or the backbone it needs is not to be had.

    Warns:
        UserWarning: novelty cannot be told: no novelty.h5 lies beside or above the model, or one
            that was made for other features; or an operating.json that was made for other models.

    Examples:
        >>> import headstart
        >>> model = headstart.load_model("models/heads/logistic")
        >>> model.predict(["photos/cold/00.jpg"]).loc[0, "class"]
        'cold'
        >>> model.predict_proba("photos/warm").shape
        (20, 2)
    """
    place = Path(folder)
    if not (place / CARD_FILE).is_file():
        if not (place / places.TEST_METRICS).is_file():
            raise InputError(
                f"{place}: expected a model's folder, which holds {CARD_FILE}, or that of a "
                f"project whose `dvc repro` has finished, which holds {places.TEST_METRICS}; "
                "received neither"
            )
        place = model_folder(None, None, place)
    store = FeatureStore(None if cache is None else Path(cache))
    model = load_trained_model(place, store, None)
    novelty, problem = find_novelty(place, model)
    if novelty is None:
        warnings.warn(f"{problem}; novelty is missing in what is predicted", stacklevel=2)
    point, problem = find_point(place, model.card.class_names)
    if problem:
        warnings.warn(f"{problem}; there are no sets, nor decisions", stacklevel=2)
    return LoadedModel(place, model, novelty, point)
