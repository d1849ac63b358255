"""What a model says of images that it was not fitted to, for points that only need that."""

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.sets import SplitSet
from headstart import heads
from headstart.heads.base import HELD_OUT_FILE
from headstart.heads.training import train_heads
from headstart.scoring.intervals import units
from headstart.scoring.predictions import Predictions

Labels = NDArray[np.int64]
Values = NDArray[np.float64]


class Told(NamedTuple):
    """What a model says of images that it was not fitted to."""

    label: Labels
    unit: Labels
    probabilities: Values

    def part(self, chosen: NDArray[np.bool_]) -> "Told":
        """Return some of the images."""
        return Told(*(values[chosen] for values in self))

    def held(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return what `values`, (n_images, n_classes), say of the true class of each."""
        return np.asarray(values[np.arange(len(self.label)), self.label])


def as_piped(split: SplitSet, **changes: object) -> tuple[Told, Told]:
    """Train as the pipeline does; return what is held out, and the test images."""
    options = split.params.train
    logistic = {name: one for name, one in options.heads.items() if name == "logistic"}
    options = options.model_copy(update={"heads": logistic, "learning_curve": "none", **changes})
    file, rows = split.file, split.file.rows("test")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        train_heads(
            file,
            options,
            models=folder / "heads",
            metrics=folder / "heads.json",
            plots=folder / "plots",
        )
        held_out = Predictions.read(folder / "heads/logistic" / HELD_OUT_FILE)
        probabilities = heads.load(folder / "heads/logistic").predict_proba(file.features, rows)
    labels, groups = split.manifest.labels, split.manifest.groups[held_out.image]
    return (
        Told(labels[held_out.image], units(groups), held_out.probabilities),
        Told(file.label[rows], units(file.group[rows]), probabilities),
    )
