"""The words that params.yaml, the features and the models share, as types."""

from dataclasses import dataclass
from typing import Literal, get_args

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

DROPPED: Literal["dropped"] = "dropped"
"""In place of a split: a test image that prepare.corrections drops.

No stage learns from it, chooses by it, counts or shows it; it stays so that scores on the test
images as the source gives them can be told beside the others.
"""

ChosenPooling = Literal["avg", "max", "none", "cls", "cls+avg", "last4"]
Pooling = Literal[ChosenPooling, "raw"]
"""What becomes of a map, or of a transformer's tokens; see `headstart.catalog.readout`.

Users choose all but "raw", the activation as it is, which fine-tuning starts from.
"""
Resize = Literal["stretch", "crop", "pad"]
Interpolation = Literal["bilinear", "bicubic"]
Precision = Literal["float32", "bfloat16", "float16"]
StoreDtype = Literal["float32", "float16"]
EngineName = Literal["tensorflow", "tensorflow-gpu", "openvino"]
Where = Literal["local", "ray"]
"""What runs a pass: this machine, or the nodes of a Ray cluster."""


@dataclass(frozen=True, slots=True)
class Sizing:
    """How an image of any size becomes what the backbone sees.

    Attributes:
        image_size: (height, width) in pixels.
        resize: What happens to an image of other proportions. "stretch" takes the whole image and
            changes its proportions; "crop" keeps them and takes the largest centered part; "pad"
            keeps them and the whole image, with black on two sides.
        interpolation: Antialiased filter.
    """

    image_size: tuple[int, int]
    resize: Resize = "stretch"
    interpolation: Interpolation = "bilinear"


NUMERICS = 2
"""Raised whenever this code changes a feature beyond the stated tolerance (1e-5 relative).

2: transparent PNG of 2, 4 and 16 bits, TIFF of 12 bits and with white as 0.
"""
