"""Options of augmented views."""

from typing import Annotated

from pydantic import Field

from headstart.common.params import Probability, Section, Seed, Share


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
