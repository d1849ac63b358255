"""Options of pretraining: the section `pretrain`."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from headstart.common.params import (
    ClassName,
    Count,
    FileName,
    Positive,
    Section,
    Seed,
    Share,
    Side,
)
from headstart.common.places import MANIFEST
from headstart.images.options import AugmentOptions

SOURCE_KEY = "pretrain.source"
"""Where params.yaml names the source, for errors."""


class PretrainAugmentOptions(AugmentOptions):
    """The recipe of the views that pretraining sees, new ones in each epoch."""

    # Their number is that of the epochs, their seed the run's.
    views: Literal[0] = 0
    seed: Literal[0] = 0


class PretrainRun(Section):
    """One backbone, and how it is trained."""

    classes: list[ClassName] | None = None
    backbone: str = Field(min_length=1)
    objective: Literal["classify", "reconstruct"] = "classify"
    image_size: (
        Literal["auto"] | Side | Annotated[list[Side], Field(min_length=2, max_length=2)]
    ) = "auto"
    validation: Share = 0.2
    augment: PretrainAugmentOptions = PretrainAugmentOptions()
    erase: Share = 0.5
    seed: Seed
    learning_rate: Positive = 1e-3
    batch_size: Count = 32
    epochs: Count = 50
    patience: Count = 8


class PretrainOptions(Section):
    """The runs, all on one source data set."""

    source: str = Field(min_length=1)
    runs: dict[FileName, PretrainRun]

    @property
    def learns_from_project(self) -> bool:
        """Whether the source is this project's own images, as `prepare` left them."""
        return Path(self.source).expanduser().absolute() == MANIFEST.absolute()

    @property
    def listings(self) -> tuple[bool, ...]:
        """How a source of its own is listed for the runs: with labels, without, both or neither."""
        if self.learns_from_project:
            return ()
        return tuple(sorted({run.objective == "classify" for run in self.runs.values()}))
