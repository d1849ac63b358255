"""Options of the features: the section `extract`."""

from typing import Annotated, Literal

from pydantic import Field

from headstart.catalog.onnx.options import OnnxOptions
from headstart.common.params import Section, Seed, Side
from headstart.common.vocabulary import ChosenPooling, Precision, Resize
from headstart.images.options import AugmentOptions


class ExtractOptions(Section):
    """The backbone, where it is cut, and how it is run."""

    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    backbone: str = Field(min_length=1)
    weights: str = Field(min_length=1)
    seed: Seed
    image_size: Literal["auto"] | Side | Annotated[list[Side], Field(min_length=2, max_length=2)]
    resize: Resize
    layer: str = Field(min_length=1)
    pooling: ChosenPooling
    engine: Literal["auto", "tensorflow", "openvino"]
    precision: Precision
    augment: AugmentOptions
    onnx: OnnxOptions | None = None
