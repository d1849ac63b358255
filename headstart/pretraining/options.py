"""Options of pretraining: the section `pretrain`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from headstart.common.errors import InputError
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

if TYPE_CHECKING:
    from headstart.catalog.spec import BackboneSpec

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

    def check_backbone(self, key: str) -> "tuple[BackboneSpec, tuple[int, int]]":
        """Return the backbone, and (height, width) of its images in pixels.

        Args:
            key: Where in params.yaml the run stands.

        Raises:
            InputError: there is no such backbone, or it cannot be trained, or not at that size.
        """
        # Not needed without any run.
        from headstart import catalog

        try:
            spec = catalog.get(self.backbone)
            image_size = spec.image_size(self.image_size)
        except InputError as error:
            # It begins with the name of the option.
            raise InputError(f"{key}.{error}") from None
        if spec.network is not None:
            raise InputError(
                f"{key}.backbone: expected a backbone whose weights are one file, received "
                f"{spec.name}, whose weights are a preset of KerasHub; to train it on these "
                "images, fine-tune it: finetune.unfreeze"
            )
        return spec, image_size


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
