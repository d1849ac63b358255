"""What each part of the pipeline can be told: strict, typed, frozen option records.

Values enter through `pipeline.params`, which only stages and the command line may read; the parts
themselves take these records as plain arguments.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pipeline.identity import Pooling, Precision, Resize

Seed = Annotated[int, Field(ge=0, lt=2**32)]
Share = Annotated[float, Field(ge=0, lt=1)]
Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Side = Annotated[int, Field(ge=1, le=4096)]
Range = Annotated[tuple[float, float], Field(description="lowest and highest factor")]

# Files under metrics/ and models/ that are not a head's.
RESERVED_NAMES = frozenset(
    {
        "data",
        "extract",
        "test",
        "finetune",
        "finetuned",
        "leaks",
        "cost",
        "pretrained",
        "selected",
        "timing",
        "novelty",
        "comparison",
    }
)


class Section(BaseModel):
    """Base of all sections: no unknown key, no coercion of text into numbers, frozen."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class PrepareOptions(Section):
    """Which photos, and how they are split."""

    source: str = Field(min_length=1)
    validation: Share
    test: Share
    seed: Seed
    max_unreadable: Annotated[float, Field(ge=0, le=1)]
    near_duplicates: Literal["keep", "together", "drop"]

    @model_validator(mode="after")
    def _leave_something_to_train_on(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError("validation + test must leave a share for training (sum below 1)")
        return self


class AugmentOptions(Section):
    """The recipe of augmented views of training images; a range of 0 switches a step off."""

    views: Annotated[int, Field(ge=0, le=1000)]
    seed: Seed
    horizontal_flip: Probability = 0.0
    vertical_flip: Probability = 0.0
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    zoom: Share = 0.0
    shift: Share = 0.0
    shear: Annotated[float, Field(ge=0, le=45)] = 0.0
    brightness: Share = 0.0
    contrast: Share = 0.0
    saturation: Share = 0.0
    hue: Annotated[float, Field(ge=0, le=180)] = 0.0
    crop: Annotated[float, Field(gt=0, le=1)] = 1.0
    cutout: Share = 0.0
    noise: Annotated[float, Field(ge=0, le=128)] = 0.0


class ExtractOptions(Section):
    """The backbone, where it is cut, and how it is run."""

    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    backbone: str = Field(min_length=1)
    weights: str = Field(min_length=1)
    seed: Seed
    image_size: Literal["auto"] | Side | Annotated[list[Side], Field(min_length=2, max_length=2)]
    resize: Resize
    layer: str = Field(min_length=1)
    pooling: Pooling
    engine: Literal["auto", "tensorflow", "openvino"]
    precision: Precision
    augment: AugmentOptions


class DenseOptions(Section):
    """Hidden layers and a softmax, trained by gradient descent."""

    kind: Literal["dense"]
    units: list[Count] = [256]
    activation: Literal["relu", "gelu", "selu", "tanh", "swish"] = "relu"
    batch_normalization: bool = False
    dropout: Share = 0.5
    l2: NotNegative = 0.0
    label_smoothing: Share = 0.0
    optimizer: Literal["adam", "adamw", "sgd", "rmsprop"] = "adam"
    learning_rate: Positive = 1e-3
    schedule: Literal["constant", "cosine"] = "constant"
    batch_size: Count = 32
    epochs: Count = 50
    patience: Count = 8


class GapOptions(Section):
    """Global pooling and a softmax straight on it, nothing hidden."""

    kind: Literal["gap"]
    pooling: Literal["avg", "max", "both"] = "avg"
    l2: NotNegative = 0.0
    label_smoothing: Share = 0.0
    optimizer: Literal["adam", "adamw", "sgd", "rmsprop"] = "adam"
    learning_rate: Positive = 1e-3
    schedule: Literal["constant", "cosine"] = "constant"
    batch_size: Count = 32
    epochs: Count = 50
    patience: Count = 8


class LinearSVCOptions(Section):
    """scikit-learn's LinearSVC on standardised features; C chosen on a log grid."""

    kind: Literal["linear_svc"]
    c: Literal["auto"] | Positive = "auto"


class LogisticOptions(Section):
    """Multinomial logistic regression; the whole L2 path, or one value of it."""

    kind: Literal["logistic"]
    l2: Literal["auto"] | Positive = "auto"


class RidgeOptions(Section):
    """Ridge regression on one-hot labels; the whole L2 path from one eigendecomposition."""

    kind: Literal["ridge"]
    l2: Literal["auto"] | Positive = "auto"


class PrototypeOptions(Section):
    """Nearest class mean by cosine."""

    kind: Literal["prototype"]


class KnnOptions(Section):
    """Nearest neighbours by cosine."""

    kind: Literal["knn"]
    neighbors: Literal["auto"] | Count = "auto"


HeadOptions = Annotated[
    DenseOptions
    | GapOptions
    | LinearSVCOptions
    | LogisticOptions
    | RidgeOptions
    | PrototypeOptions
    | KnnOptions,
    Field(discriminator="kind"),
]
HEAD_KINDS = ("dense", "gap", "linear_svc", "logistic", "ridge", "prototype", "knn")


class TrainOptions(Section):
    """The heads, and how their settings are chosen."""

    seed: Seed
    class_weight: Literal["none", "balanced"] | dict[str, Positive]
    refit: bool
    min_validation: Annotated[int, Field(ge=1)]
    folds_below: Annotated[int, Field(ge=0)]
    shots: Count | None
    repeats: Count
    streaming_above: Count
    learning_curve: Literal["none", "cheap", "all"]
    heads: Annotated[dict[str, HeadOptions], Field(min_length=1)]

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

    @model_validator(mode="after")
    def _head_names_are_file_names(self) -> Self:
        for name in self.heads:
            if name in RESERVED_NAMES or not name.replace("_", "").replace("-", "").isalnum():
                raise ValueError(
                    f"a head cannot be called {name!r}: it names files, so use letters, digits, "
                    f"'-' and '_', and none of {', '.join(sorted(RESERVED_NAMES))}"
                )
        return self


class NoveltyOptions(Section):
    """When an image is unlike anything in training."""

    neighbors: Count
    keep: Annotated[float, Field(gt=0, lt=1)]


class EvaluateOptions(Section):
    """How the test scores are told."""

    seed: Seed
    bootstrap: Annotated[int, Field(ge=0, le=100_000)]
    views: Annotated[int, Field(ge=0, le=100)]


class UnfreezeStep(Section):
    """One step of staged unfreezing."""

    unfreeze: str = Field(min_length=1)
    epochs: Count


class FinetuneOptions(Section):
    """Which part of the backbone learns, and how."""

    unfreeze: Literal["none", "last_block", "all", "scratch"] | Share | str
    head: str = Field(min_length=1)
    seed: Seed
    trunk: Literal["cached", "live"]
    max_cache: Positive
    batch_norm: Literal["inference", "train"]
    optimizer: Literal["adam", "adamw", "sgd", "rmsprop"]
    learning_rate: Positive
    layer_decay: Annotated[float, Field(gt=0, le=1)]
    warmup: Share
    schedule: Literal["constant", "cosine"]
    weight_decay: NotNegative
    label_smoothing: Share
    clip_norm: Positive | None
    batch_size: Count
    epochs: Count
    patience: Count
    precision: Literal["float32", "mixed"]
    stages: list[UnfreezeStep]


Projection = Literal["pca", "tsne", "umap"]


class ReportOptions(Section):
    """How much the page of `headstart report` holds."""

    seed: Seed
    pictures: Annotated[int, Field(ge=0, le=5000)]
    heat_maps: Annotated[int, Field(ge=0, le=500)]
    projections: Annotated[list[Projection], Field(min_length=1)]


class PretrainAugmentOptions(AugmentOptions):
    """The recipe of the views that pretraining sees, new ones in each epoch."""

    # Their number is that of the epochs, their seed the run's.
    views: Literal[0] = 0
    seed: Literal[0] = 0


class PretrainOptions(Section):
    """One pretraining run on a source data set."""

    source: str = Field(min_length=1)
    classes: list[str] | None = None
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

    @field_validator("classes", mode="before")
    @classmethod
    def _class_names_are_folder_names(cls, classes: Any) -> Any:
        """`classes: [0, 1]` means the folders "0" and "1"."""
        if not isinstance(classes, list):
            return classes
        return [str(name) if type(name) is int else name for name in classes]
