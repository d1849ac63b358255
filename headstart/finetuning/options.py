"""Options of fine-tuning: the section `finetune`."""

from typing import Annotated, Literal

from pydantic import Field

from headstart.common.errors import InputError
from headstart.common.params import Count, Positive, Section, Seed, Share
from headstart.common.vocabulary import Where
from headstart.features.identity import FeatureIdentity
from headstart.heads.options import OptimizerOptions

WORDS = ("none", "last_block", "all", "scratch")
"""What `unfreeze` may be besides a share and the name of a cut."""


class UnfreezeStep(Section):
    """One step of staged unfreezing."""

    unfreeze: str = Field(min_length=1)
    epochs: Count


class FinetuneOptions(OptimizerOptions):
    """Which part of the backbone learns, and how."""

    unfreeze: Literal["none", "last_block", "all", "scratch"] | Share | str
    head: str = Field(min_length=1)
    seed: Seed
    trunk: Literal["cached", "live"]
    max_cache: Positive
    batch_norm: Literal["inference", "train"]
    learning_rate: Positive
    layer_decay: Annotated[float, Field(gt=0, le=1)]
    warmup: Share
    schedule: Literal["constant", "cosine"]
    label_smoothing: Share
    clip_norm: Positive | None
    batch_size: Count
    epochs: Count
    patience: Count
    precision: Literal["float32", "mixed"]
    stages: list[UnfreezeStep]
    on: Where = "local"

    @property
    def start(self) -> str | None:
        """Name of the head that it starts from; None where nothing learns."""
        return None if self.unfreeze == "none" else self.head

    def check_backbone(self, identity: FeatureIdentity) -> None:
        """Check that the network that features come from can learn.

        Raises:
            InputError: it shall, and is that of an ONNX file, which holds no more than its way
                forward.
        """
        if identity.onnx is not None:
            self.check_file(identity.weights)

    def check_file(self, weights: str) -> None:
        """Check that nothing shall learn of the network of an ONNX file.

        Args:
            weights: The file.

        Raises:
            InputError: something shall.
        """
        if self.start is not None:
            raise InputError(
                f"params.yaml: finetune.unfreeze: expected none, since the features come from "
                f"{weights}, and the network of an ONNX file cannot be trained; received "
                f"{self.unfreeze}. Heads on its features can: section train"
            )
