"""Options of the heads: the section `train`."""

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, model_validator

from headstart.common.params import (
    ClassName,
    Count,
    FileName,
    NotNegative,
    Positive,
    Section,
    Seed,
    Share,
)

Optimizer = Literal["adam", "adamw", "sgd", "rmsprop"]


# Settings of "auto" where nothing can be held out to choose on: those of scikit-learn, but for the
# neighbors, since a class may have one image only. Networks train all their epochs then.
DEFAULT_L2 = 1.0
DEFAULT_C = 1.0
DEFAULT_NEIGHBORS = 1


class OptimizerOptions(Section):
    """What moves the weights, in a head's training and in fine-tuning."""

    optimizer: Optimizer
    weight_decay: NotNegative

    @model_validator(mode="after")
    def _adamw_decays(self) -> Self:
        """Refuse AdamW without weight decay, which would silently be Adam."""
        if self.optimizer == "adamw" and self.weight_decay == 0:
            raise ValueError(
                "adamw is adam with weight decay: expected weight_decay above 0 (0.01 is usual), "
                "received 0; set it, or use adam"
            )
        return self


class NetworkOptions(OptimizerOptions):
    """How a small network is trained on the features."""

    l2: NotNegative = 0.0
    label_smoothing: Share = 0.0
    optimizer: Optimizer = "adam"
    weight_decay: NotNegative = 0.0
    learning_rate: Positive = 1e-3
    schedule: Literal["constant", "cosine"] = "constant"
    batch_size: Count = 32
    epochs: Count = 50
    patience: Count = 8


class DenseOptions(NetworkOptions):
    """Hidden layers and a softmax, trained by gradient descent."""

    kind: Literal["dense"]
    units: list[Count] = Field(default_factory=lambda: [256])
    activation: Literal["relu", "gelu", "selu", "tanh", "swish"] = "relu"
    batch_normalization: bool = False
    dropout: Share = 0.5


GapPooling = Literal["avg", "max", "both"]


class GapOptions(NetworkOptions):
    """Global pooling and a softmax straight on it, nothing hidden."""

    kind: Literal["gap"]
    pooling: GapPooling = "avg"


class LinearSVCOptions(Section):
    """scikit-learn's LinearSVC on standardized features; C chosen on a log grid."""

    kind: Literal["linear_svc"]
    c: Literal["auto"] | Positive = "auto"


class LogisticOptions(Section):
    """Multinomial logistic regression; the whole L2 path, or one value of it."""

    kind: Literal["logistic"]
    l2: Literal["auto"] | Positive = "auto"
    start: Literal["none", "text"] = "none"


class RidgeOptions(Section):
    """Ridge regression on one-hot labels; the whole L2 path from one eigendecomposition."""

    kind: Literal["ridge"]
    l2: Literal["auto"] | Positive = "auto"


class PrototypeOptions(Section):
    """Nearest class mean by cosine."""

    kind: Literal["prototype"]


class ZeroShotOptions(Section):
    """The class whose name is nearest by cosine, for backbones paired with text; no training."""

    kind: Literal["zero_shot"]


class KnnOptions(Section):
    """Nearest neighbors by cosine."""

    kind: Literal["knn"]
    neighbors: Literal["auto"] | Count = "auto"


HeadOptions = Annotated[
    DenseOptions
    | GapOptions
    | LinearSVCOptions
    | LogisticOptions
    | RidgeOptions
    | PrototypeOptions
    | ZeroShotOptions
    | KnnOptions,
    Field(discriminator="kind"),
]
HeadKind = Literal[
    "dense", "gap", "linear_svc", "logistic", "ridge", "prototype", "zero_shot", "knn"
]
HEAD_KINDS: tuple[HeadKind, ...] = get_args(HeadKind)


class TrainOptions(Section):
    """The heads, and how their settings are chosen."""

    seed: Seed
    class_weight: Literal["none", "balanced", "logit_adjusted"] | dict[ClassName, Positive]
    refit: bool
    min_validation: Annotated[int, Field(ge=1)]
    folds_below: Annotated[int, Field(ge=0)]
    shots: Count | None
    repeats: Count
    streaming_above: Count
    learning_curve: Literal["none", "cheap", "all"]
    heads: Annotated[dict[FileName, HeadOptions], Field(min_length=1)]

    @model_validator(mode="before")
    @classmethod
    def _kind_defaults_to_the_name(cls, content: Any) -> Any:
        """`dense: {}` needs no `kind: dense`."""
        heads = content.get("heads") if isinstance(content, dict) else None
        if not isinstance(heads, dict):
            return content
        filled = {
            name: {"kind": name, **(options or {})}
            if options is None or isinstance(options, dict)
            else options
            for name, options in heads.items()
        }
        return {**content, "heads": filled}
