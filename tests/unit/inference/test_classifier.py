"""What becomes of a model's numbers."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from headstart.extraction.requests import Request
from headstart.inference.classifier import Failure, Prediction, classify
from headstart.inference.model import ModelOutput, TrainedModel


class Overflowing(TrainedModel):
    """Gives, image after image, the rows it is made with."""

    def __init__(self, rows: Sequence[Sequence[float]]) -> None:
        self._rows = np.array(rows)

    def predict(self, requests: Sequence[Request], views: int, *, features: bool) -> ModelOutput:
        return ModelOutput(self._rows[: len(requests)], None, {})

    def close(self) -> None:
        pass


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_a_failure_of_that_image(
    photo_folder: Path, number: float
) -> None:
    photos = sorted(photo_folder.rglob("*.jpg"))[:3]
    model = Overflowing([[0.2, 0.8], [number, 0.5], [0.9, 0.1]])
    ((first, second, third),) = classify(model, photos, novelty=None)
    assert isinstance(first, Prediction)
    assert isinstance(third, Prediction)
    assert third.top(["cold", "warm"], 1) == [("cold", 0.9)]
    assert second == Failure(
        str(photos[1]), "the model gives no finite numbers for it; `dvc repro` trains it anew"
    )
