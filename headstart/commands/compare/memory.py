"""What earlier comparisons found, so that asking again costs no run."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headstart.commands.compare.halving import Score
from headstart.commands.compare.results import TestPredictions
from headstart.common.files import digest_of, write_json

_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run leaves that does not depend on when or where it ran.

    Attributes:
        head: The head that validation chose.
        validation: That head's validation score.
        accuracy: Its test accuracy.
        interval: 95 % interval of it; None when the params ask for none.
        head_parameters: Learned values of the head.
        rows: Rows of features, images and views.
        predictions: Its test predictions.
    """

    head: str
    validation: Score
    accuracy: float
    interval: tuple[float, float] | None
    head_parameters: int
    rows: int
    predictions: TestPredictions


class Memory:
    """A folder of outcomes and scores, each under a digest of all that decides it.

    Args:
        folder: Deleting it costs time and nothing else.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _path(self, key: Any) -> Path:
        return self._folder / f"{digest_of([_FORMAT, key])}.json"

    def _load(self, key: Any) -> dict[str, Any] | None:
        try:
            return dict(json.loads(self._path(key).read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError):
            return None

    def score(self, key: Any) -> Score | None:
        """Return the score kept under a key."""
        kept = self._load(key)
        return None if kept is None else Score(kept["accuracy"], kept["negative_log_loss"])

    def keep_score(self, key: Any, score: Score) -> None:
        """Keep a score."""
        content = {"accuracy": score.accuracy, "negative_log_loss": score.negative_log_loss}
        write_json(self._path(key), content)

    def outcome(self, key: Any) -> Outcome | None:
        """Return the outcome kept under a key."""
        kept = self._load(key)
        if kept is None:
            return None
        interval = kept["interval"]
        return Outcome(
            head=kept["head"],
            validation=Score(*kept["validation"]),
            accuracy=kept["accuracy"],
            interval=None if interval is None else (interval[0], interval[1]),
            head_parameters=kept["head_parameters"],
            rows=kept["rows"],
            predictions=TestPredictions(
                images=np.array(kept["images"]),
                right=np.array(kept["right"], dtype=bool),
                groups=np.array(kept["groups"], dtype=np.int64),
            ),
        )

    def keep_outcome(self, key: Any, outcome: Outcome) -> None:
        """Keep an outcome."""
        write_json(
            self._path(key),
            {
                "head": outcome.head,
                "validation": [outcome.validation.accuracy, outcome.validation.negative_log_loss],
                "accuracy": outcome.accuracy,
                "interval": None if outcome.interval is None else list(outcome.interval),
                "head_parameters": outcome.head_parameters,
                "rows": outcome.rows,
                "images": outcome.predictions.images.tolist(),
                "right": outcome.predictions.right.tolist(),
                "groups": outcome.predictions.groups.tolist(),
            },
        )
