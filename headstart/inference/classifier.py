"""From files to predictions, chunk by chunk, through the feature store."""

import itertools
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from joblib import cpu_count
from numpy.typing import NDArray

from headstart.evaluation.novelty import Novelty
from headstart.evaluation.operating import OperatingPoint
from headstart.extraction.requests import Request, request_for
from headstart.images.decoding import UnreadableImage
from headstart.inference.inputs import NothingFound
from headstart.inference.model import TrainedModel

# The first answers come soon; later chunks are as large as give an answer every few seconds.
_FIRST_CHUNK = 16
_LARGEST_CHUNK = 1024
_SECONDS = 2.0
# On many machines as many as share well, and as have their features in so many bytes.
_CLUSTER_CHUNK = 16 * _LARGEST_CHUNK
_CLUSTER_BYTES = 2**29


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model makes of one image.

    Attributes:
        path: The file.
        probabilities: (n_classes,) calibrated.
        novelty: How unlike training it is, 1 being the usual limit; None where that is unknown.
        abstained: Whether it is so novel that its class is not to be believed.
        members: (n_classes,) which classes are in its set; None where sets were not asked for, or
            it abstained.
        decision: Index of the class that costs least to name, or `costs.NONE`; None as above.
    """

    path: str
    probabilities: NDArray[np.float64]
    novelty: float | None
    abstained: bool
    members: NDArray[np.bool_] | None = None
    decision: int | None = None

    def top(self, class_names: Sequence[str], n: int) -> list[tuple[str, float]]:
        """Return the n likeliest classes and their probabilities, the likeliest first."""
        order = self._order()[:n]
        return [(class_names[index], float(self.probabilities[index])) for index in order]

    def set_of(self, class_names: Sequence[str]) -> list[str] | None:
        """Return the classes in the set, the likeliest first."""
        if self.members is None:
            return None
        return [class_names[index] for index in self._order() if self.members[index]]

    def _order(self) -> NDArray[np.int64]:
        return np.argsort(-self.probabilities, kind="stable")


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
    found: Iterable[str | Path | NothingFound],
    *,
    views: int = 0,
    novelty: Novelty | None,
    limit: float = 1.0,
    point: OperatingPoint | None = None,
    abstain: bool = True,
    chunk: int | None = None,
) -> Iterator[list[Prediction | Failure]]:
    """Classify files in their order; memory does not grow with their number.

    Args:
        model: What classifies.
        found: Files, URLs, which only a string can hold, and names that stand for none.
        views: Augmented views averaged with the image itself.
        novelty: Tells images that are unlike training; None tells none.
        limit: Novelty above which a prediction is not to be believed.
        point: Says which classes are in an image's set, and which one to name.
        abstain: Whether it may say that none is to be named.
        chunk: Images at a time; None for as many as give an answer every few seconds.

    Yields:
        What became of the next few names, in order.
    """
    judge = _Judge(novelty, limit, point, abstain)
    iterator = iter(found)
    size = chunk or _FIRST_CHUNK
    with ThreadPoolExecutor(cpu_count()) as pool:
        while some := list(itertools.islice(iterator, size)):
            started = time.monotonic()
            yield _classify(model, list(pool.map(_identify, some)), views, judge)
            if chunk is None and time.monotonic() - started < _SECONDS:
                size = min(2 * size, _LARGEST_CHUNK)


def cluster_chunk(model: TrainedModel, views: int) -> int:
    """Return how many images to classify at a time where many machines compute their features."""
    image_bytes = 4 * math.prod(model.card.feature_shape) * (1 + views)
    return max(_LARGEST_CHUNK, min(_CLUSTER_CHUNK, _CLUSTER_BYTES // image_bytes))


def _identify(item: str | Path | NothingFound) -> Request | Failure:
    if isinstance(item, NothingFound):
        return Failure(item.name, item.reason)
    try:
        return request_for(item)
    except UnreadableImage as error:
        return Failure(str(item), error.reason)


@dataclass(frozen=True, slots=True)
class _Judge:
    """What is made of probabilities; the arguments of `classify`."""

    novelty: Novelty | None
    limit: float
    point: OperatingPoint | None
    abstain: bool

    def __call__(
        self,
        paths: Sequence[str],
        probabilities: NDArray[np.float64],
        features: NDArray[np.float32] | None,
    ) -> list[Prediction | Failure]:
        novelty: list[float | None] = [None] * len(paths)
        if self.novelty is not None and features is not None:
            novelty = self.novelty.score(features).tolist()
        sets, costs = (self.point.sets, self.point.costs) if self.point else (None, None)
        members = None if sets is None else sets.of(probabilities)
        named = None if costs is None else costs.decide(probabilities, abstain=self.abstain)
        done: list[Prediction | Failure] = []
        for row, (path, score) in enumerate(zip(paths, novelty, strict=True)):
            # Weights or features near the end of float32 overflow, and NaN is above no limit.
            if not np.isfinite(probabilities[row]).all() or not np.isfinite(score or 0.0):
                reason = "the model gives no finite numbers for it; `dvc repro` trains it anew"
                done.append(Failure(path, reason))
                continue
            abstained = score is not None and score > self.limit
            done.append(
                Prediction(
                    path,
                    probabilities[row],
                    score,
                    abstained,
                    # What held-out images promise holds for images like them.
                    members=None if members is None or abstained else members[row],
                    decision=None if named is None or abstained else int(named[row]),
                )
            )
        return done


def _classify(
    model: TrainedModel, items: Sequence[Request | Failure], views: int, judge: _Judge
) -> list[Prediction | Failure]:
    wanted = [item for item in items if isinstance(item, Request)]
    output = model.predict(wanted, views, features=judge.novelty is not None)
    readable = [item.path for item in wanted if item.path not in output.unreadable]
    judged = iter(judge(readable, output.probabilities, output.features))
    return [
        item
        if isinstance(item, Failure)
        else Failure(item.path, output.unreadable[item.path])
        if item.path in output.unreadable
        else next(judged)
        for item in items
    ]
