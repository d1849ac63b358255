"""Options of the features: the section `extract`."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from headstart.catalog.onnx.options import OnnxOptions
from headstart.common.params import ClassName, Section, Seed, Side
from headstart.common.vocabulary import (
    ChosenPooling,
    Precision,
    Resize,
    StoreDtype,
    Where,
)
from headstart.images.options import AugmentOptions

DEFAULT_TEMPLATES = ["a photo of a {}."]

Words = Annotated[str, Field(min_length=1)]
Sentences = Annotated[list[Words], Field(min_length=1)]


Templates = Sentences | dict[ClassName, Sentences]


def _check_places(templates: Templates) -> Templates:
    # Of one class alone a template may be a whole sentence.
    for template in templates if isinstance(templates, list) else ():
        if "{}" not in template:
            raise ValueError(
                f"expected {{}} in each where the class's name goes, which {template!r} lacks; "
                "sentences of one class stand as {class name: [sentences]}"
            )
    return templates


class TextOptions(Section):
    """What a backbone paired with text is told of the classes."""

    templates: Annotated[Templates, AfterValidator(_check_places)] = Field(
        default_factory=lambda: list(DEFAULT_TEMPLATES)
    )
    names: dict[ClassName, Words | Sentences] = Field(default_factory=dict)


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
    store_dtype: StoreDtype = "float32"
    augment: AugmentOptions
    onnx: OnnxOptions | None = None
    text: TextOptions = Field(default_factory=TextOptions)
    on: Where = "local"
