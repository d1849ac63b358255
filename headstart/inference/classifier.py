"""From files to predictions, chunk by chunk, through the feature store."""

import itertools
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from joblib import cpu_count
from numpy.typing import NDArray

from headstart.evaluation.novelty import Novelty
from headstart.extraction.extract import Request, request_for
from headstart.images.decoding import UnreadableImage
from headstart.inference.inputs import NothingFound
from headstart.inference.model import TrainedModel

# The first answers come soon; later chunks are as large as give an answer every few seconds.
_FIRST_CHUNK = 16
_LARGEST_CHUNK = 1024
_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model makes of one image.

    Attributes:
        path: The file.
        probabilities: (n_classes,) calibrated.
        novelty: How unlike training it is, 1 being the usual limit; None where that is unknown.
        abstained: Whether it is so novel that its class is not to be believed.
    """

    path: str
    probabilities: NDArray[np.float64]
    novelty: float | None
    abstained: bool

    def top(self, class_names: Sequence[str], n: int) -> list[tuple[str, float]]:
        """Return the n likeliest classes and their probabilities, the likeliest first."""
        order = np.argsort(-self.probabilities, kind="stable")[:n]
        return [(class_names[index], float(self.probabilities[index])) for index in order]


@dataclass(frozen=True, slots=True)
class Failure:
    """A name or file that gives no prediction.

    Attributes:
        path: As the user would find it.
        reason: Why, in one line.
    """

    path: str
    reason: str


def classify(
    model: TrainedModel,
    found: Iterable[Path | NothingFound],
    *,
    views: int = 0,
    novelty: Novelty | None,
    limit: float = 1.0,
) -> Iterator[list[Prediction | Failure]]:
    """Classify files in their order; memory does not grow with their number.

    Args:
        model: What classifies.
        found: Files, and names that stand for none.
        views: Augmented views averaged with the image itself.
        novelty: Tells images that are unlike training; None tells none.
        limit: Novelty above which a prediction is not to be believed.

    Yields:
        What became of the next few names, in order.
    """
    iterator = iter(found)
    size = _FIRST_CHUNK
    with ThreadPoolExecutor(cpu_count()) as pool:
        while chunk := list(itertools.islice(iterator, size)):
            started = time.monotonic()
            yield _classify(model, list(pool.map(_identify, chunk)), views, novelty, limit)
            if time.monotonic() - started < _SECONDS:
                size = min(2 * size, _LARGEST_CHUNK)


def _identify(item: Path | NothingFound) -> Request | Failure:
    if isinstance(item, NothingFound):
        return Failure(item.name, item.reason)
    try:
        return request_for(item)
    except UnreadableImage as error:
        return Failure(str(item), error.reason)


def _classify(
    model: TrainedModel,
    items: Sequence[Request | Failure],
    views: int,
    novelty: Novelty | None,
    limit: float,
) -> list[Prediction | Failure]:
    wanted = [item for item in items if isinstance(item, Request)]
    probabilities, features, unreadable = model.predict(wanted, views, features=novelty is not None)
    scores: NDArray[np.float64] | None = None
    if novelty is not None and features is not None:
        scores = novelty.score(features)
    done: list[Prediction | Failure] = []
    row = 0
    for item in items:
        if isinstance(item, Failure):
            done.append(item)
        elif item.path in unreadable:
            done.append(Failure(item.path, unreadable[item.path]))
        else:
            score = None if scores is None else float(scores[row])
            done.append(_judge(item.path, probabilities[row], score, limit))
            row += 1
    return done


def _judge(
    path: str, probabilities: NDArray[np.float64], novelty: float | None, limit: float
) -> Prediction | Failure:
    # Weights or features near the end of float32 overflow, and NaN is above no limit.
    if not np.isfinite(probabilities).all() or not np.isfinite(novelty or 0.0):
        return Failure(path, "the model gives no finite numbers for it; `dvc repro` trains it anew")
    abstained = novelty is not None and novelty > limit
    return Prediction(path, probabilities, novelty, abstained)
