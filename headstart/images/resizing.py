"""Bringing RGB pixels to the size that a backbone takes."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headstart.common.vocabulary import Interpolation, Sizing
from headstart.images import compiled

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def resize(image: NDArray[np.uint8], sizing: Sizing) -> NDArray[np.uint8]:
    """Bring an image to a size, antialiased.

    Args:
        image: RGB in [0, 255], (H, W, 3) uint8, in any order in memory.
        sizing: To which size and how; Pillow's filter, its support widened when shrinking.

    Returns:
        (height, width, 3) uint8, C-contiguous.

    Source:
        What is cropped and padded, and black: Keras 3, `keras.utils.image_dataset_from_directory`
        (crop_to_aspect_ratio, pad_to_aspect_ratio).
    """
    height, width = sizing.image_size
    own_height, own_width = image.shape[:2]
    # In whole numbers, so that an exported model arrives at the same pixels.
    if sizing.resize == "crop":
        kept_height = max(1, min(own_height, own_width * height // width))
        kept_width = max(1, min(own_width, own_height * width // height))
        top, left = (own_height - kept_height) // 2, (own_width - kept_width) // 2
        kept = image[top : top + kept_height, left : left + kept_width]
        return _stretch(kept, height, width, sizing.interpolation)
    if sizing.resize == "pad":
        inner_height = max(1, min(height, (2 * own_height * width + own_width) // (2 * own_width)))
        inner_width = max(1, min(width, (2 * own_width * height + own_height) // (2 * own_height)))
        top, left = (height - inner_height) // 2, (width - inner_width) // 2
        padded = np.zeros((height, width, 3), np.uint8)
        padded[top : top + inner_height, left : left + inner_width] = _stretch(
            image, inner_height, inner_width, sizing.interpolation
        )
        return padded
    return _stretch(image, height, width, sizing.interpolation)


def _stretch(
    pixels: NDArray[np.uint8], height: int, width: int, interpolation: Interpolation
) -> NDArray[np.uint8]:
    """Resize across, then down; pixels are rounded in between."""
    if pixels.shape[:2] == (height, width):
        return np.ascontiguousarray(pixels)
    if resample := compiled.resample():
        return resample(pixels, height, width, interpolation == "bicubic")
    return _by_pillow(pixels, height, width, interpolation)


def _by_pillow(
    pixels: NDArray[np.uint8], height: int, width: int, interpolation: Interpolation
) -> NDArray[np.uint8]:
    """Do the same with Pillow, to the same pixels, in more than four times the time.

    Pillow would go both ways in one call, but in an order that depends on its version and on the
    image's shape (from 13 on, tall images downwards first), and the order shows in the pixels.
    """
    image = Image.fromarray(pixels)
    for size in ((width, image.height), (width, height)):
        if image.size != size:
            image = image.resize(size, _FILTERS[interpolation])
    return np.array(image)
