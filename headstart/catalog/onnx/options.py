"""How the network of a file is fed: the section `extract.onnx`."""

from typing import Annotated, Literal

from pydantic import Field

from headstart.catalog.spec import Preprocessing
from headstart.common.params import Positive, Section
from headstart.common.vocabulary import Interpolation

Triple = Annotated[list[float], Field(min_length=3, max_length=3)]
Deviations = Annotated[list[Positive], Field(min_length=3, max_length=3)]


class OnnxOptions(Section):
    """What a file does not say of its network.

    The defaults are those of most image networks that come from PyTorch.
    Source: torchvision/transforms/_presets.py, `ImageClassification`; timm/data/constants.py,
    IMAGENET_DEFAULT_MEAN and IMAGENET_DEFAULT_STD.
    """

    input: Annotated[str, Field(min_length=1)] | None = None
    layout: Literal["nchw", "nhwc"] = "nchw"
    channels: Literal["rgb", "bgr"] = "rgb"
    scale: Positive = 255.0
    mean: Triple = Field(default=[0.485, 0.456, 0.406])
    std: Deviations = Field(default=[0.229, 0.224, 0.225])
    interpolation: Interpolation = "bilinear"
    prefix_tokens: Annotated[int, Field(ge=0)] = 0

    @property
    def preprocessing(self) -> Preprocessing:
        """The rule from RGB in [0, 255] to the network's input."""
        return Preprocessing(
            "as told", self.channels, self.scale, tuple(self.mean), tuple(self.std)
        )
