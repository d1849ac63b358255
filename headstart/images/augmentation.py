"""Deterministic augmented views of an image, the same on any machine and in any order.

Every pixel is computed in integers or in exactly representable numbers, so that two processors (or
a cached and a fresh run) cannot differ in a bit. OpenCV's `warpAffine` would (its float kernels
round differently with and without fused multiply-add); its fixed-point `remap` does not.
"""

import hashlib
import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import NormalDist

import cv2
import numpy as np
from numpy.typing import NDArray

from headstart.common.files import digest_of
from headstart.common.vocabulary import Sizing
from headstart.images.options import AugmentOptions
from headstart.images.resizing import resize

RECIPE_VERSION = 1
"""Incremented whenever this code changes a pixel of any view."""

# Each has a draw of its own even if it is off, so that no step changes another one's draw. New ones
# go at the end.
_DRAWS = (
    *("crop_area", "crop_aspect", "crop_y", "crop_x", "horizontal_flip", "vertical_flip"),
    *("rotation", "zoom", "shift_y", "shift_x", "shear"),
    *("brightness", "contrast", "saturation", "hue", "cutout_y", "cutout_x"),
)

# Source: width / height of random crops: Szegedy et al. 2015, "Going deeper with convolutions",
# section 6.
_LARGEST_ASPECT = 4 / 3

# Source: luminance coefficients, and the saturation and hue matrices made with them: W3C Filter
# Effects Module Level 1, feColorMatrix "saturate" and "hueRotate".
_LUMA = np.array([0.213, 0.715, 0.072])
_HUE_SINE = np.array([[-0.213, -0.715, 0.928], [0.143, 0.140, -0.283], [-0.787, 0.715, 0.072]])

# The erased square is the color that most preprocessing maps near 0. Source: DeVries and Taylor
# 2017, "Improved Regularization of Convolutional Neural Networks with Cutout", section 3.2.
_CUTOUT_COLOR = 127

_MATRIX_BITS = 16
_SUBPIXEL_BITS = cv2.INTER_BITS  # what remap's fixed-point maps hold


def view_token(k: int, recipe: AugmentOptions) -> str:
    """Name view `k` in the feature store's key.

    Args:
        k: 0 for the image itself, else 1, 2, ...
        recipe: What the views are made with.

    Returns:
        "0" for the image itself; else `k` and a digest of everything besides image and size that
        decides its pixels. That excludes the number of views: raising it keeps earlier views.
    """
    if k == 0:
        return "0"
    content = {"version": RECIPE_VERSION, **recipe.model_dump(exclude={"views"})}
    return f"{k}-{digest_of(content)}"


def views(
    image: NDArray[np.uint8],
    sha256: str,
    ks: Sequence[int],
    recipe: AugmentOptions,
    sizing: Sizing,
) -> list[NDArray[np.uint8]]:
    """Render views of one decoded image.

    View `k` depends on the image's content, `k`, the recipe and its seed, and on nothing else.
    Without random crops the image is resized once for all of them.

    Args:
        image: RGB in [0, 255], (H, W, 3) uint8; not written to.
        sha256: Hexadecimal sha256 of the image file's bytes.
        ks: Which views; 0 is the image itself, resized.
        recipe: Which steps are on, and their ranges.
        sizing: Size of the views, and how an image gets there; a random crop is resized as
            though it were the whole image.

    Returns:
        One (height, width, 3) uint8 array per entry of `ks`, in that order. Some may share
        memory with each other or with `image`: do not write to them.
    """
    whole = resize(image, sizing) if recipe.crop == 1 or 0 in ks else None
    rendered = []
    for k in ks:
        if k == 0 and whole is not None:
            rendered.append(whole)
            continue
        draws, noise_key = _draw(sha256, k, recipe.seed)
        if whole is None or recipe.crop < 1:
            source = resize(_crop(image, recipe.crop, draws), sizing)
        else:
            source = whole
        rendered.append(_render(source, draws, noise_key, recipe))
    return rendered


def _draw(sha256: str, k: int, seed: int) -> tuple[dict[str, float], int]:
    """Return one number in [0, 1) per name of `_DRAWS`, and the key of the noise's stream."""
    digest = hashlib.sha256(f"headstart view {sha256} {k} {seed}".encode()).digest()
    # numpy promises never to change the raw stream of a bit generator (NEP 19), but makes no such
    # promise for distributions. The key has 128 bits.
    raw = np.random.Philox(key=int.from_bytes(digest[:16], "little")).random_raw(len(_DRAWS))
    uniform = (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return dict(zip(_DRAWS, uniform.tolist(), strict=True)), int.from_bytes(digest[16:], "little")


def _between(draw: float, extent: float) -> float:
    return (2 * draw - 1) * extent


def _crop(
    image: NDArray[np.uint8], smallest_area: float, draws: dict[str, float]
) -> NDArray[np.uint8]:
    """Cut out a rectangle of random area, place and proportions (relative to the image's)."""
    if smallest_area == 1:
        return image
    area = smallest_area + draws["crop_area"] * (1 - smallest_area)
    stretch = math.sqrt(_LARGEST_ASPECT ** _between(draws["crop_aspect"], 1))
    # A side longer than the image's is cut to it, and the other lengthened to keep the area.
    share_y = min(1.0, max(math.sqrt(area) / stretch, area))
    share_x = area / share_y
    height, width = image.shape[:2]
    crop_height, crop_width = max(1, round(share_y * height)), max(1, round(share_x * width))
    top = int(draws["crop_y"] * (height - crop_height + 1))
    left = int(draws["crop_x"] * (width - crop_width + 1))
    return image[top : top + crop_height, left : left + crop_width]


def _render(
    image: NDArray[np.uint8], draws: dict[str, float], noise_key: int, recipe: AugmentOptions
) -> NDArray[np.uint8]:
    """Apply everything but the crop to an image of the final size."""
    image = _warp(image, draws, recipe)
    image = _recolor(image, draws, recipe)
    if recipe.cutout:
        image = _erase(image, draws, recipe.cutout)
    if recipe.noise:
        # A stream of its own, since its length depends on the image's size.
        raw = np.random.Philox(key=noise_key).random_raw(-(-image.size // 4))
        indices = raw.astype("<u8").view("<u2")[: image.size].reshape(image.shape)
        image = cv2.add(image, _noise_levels(recipe.noise)[indices], dtype=cv2.CV_8U)
    return image


def _warp(
    image: NDArray[np.uint8], draws: dict[str, float], recipe: AugmentOptions
) -> NDArray[np.uint8]:
    """Flip, rotate, shear, zoom and shift in one resampling; the border is reflected."""
    flip_x = draws["horizontal_flip"] < recipe.horizontal_flip
    flip_y = draws["vertical_flip"] < recipe.vertical_flip
    geometry = (recipe.rotation, recipe.zoom, recipe.shift, recipe.shear)
    if not (flip_x or flip_y or any(geometry)):
        return image
    height, width = image.shape[:2]
    angle = math.radians(_between(draws["rotation"], recipe.rotation))
    shear = math.tan(math.radians(_between(draws["shear"], recipe.shear)))
    # Zooming in and out by the same factor is equally likely.
    zoom = (1 + recipe.zoom) ** _between(draws["zoom"], 1)
    cosine, sine = math.cos(angle) * zoom, math.sin(angle) * zoom
    forward = np.array([[cosine, -sine], [sine, cosine]]) @ np.array([[1, shear], [0, 1]])
    forward = forward * [-1 if flip_x else 1, -1 if flip_y else 1]
    center = np.array([(width - 1) / 2, (height - 1) / 2])
    shift_x = _between(draws["shift_x"], recipe.shift) * width
    shift_y = _between(draws["shift_y"], recipe.shift) * height
    moved = center + np.array([shift_x, shift_y])
    backward = np.linalg.inv(forward)
    return _resample(image, backward, center - backward @ moved)


def _resample(
    image: NDArray[np.uint8], matrix: NDArray[np.float64], offset: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Take each pixel (x, y) from `matrix @ (x, y) + offset`, bilinearly.

    The matrix is rounded; from there on all numbers are whole. Sides up to 4096 and the ranges of
    `AugmentOptions` keep coordinates below 2**15, the limit of the maps of `remap`.
    """
    height, width = image.shape[:2]
    (xx, xy), (yx, yy) = np.rint(matrix * 2**_MATRIX_BITS).astype(np.int32)
    shift = _MATRIX_BITS - _SUBPIXEL_BITS
    x0, y0 = np.rint(offset * 2**_MATRIX_BITS).astype(np.int32) + np.int32(1 << (shift - 1))
    columns = np.arange(width, dtype=np.int32)
    rows = np.arange(height, dtype=np.int32)[:, np.newaxis]
    x = (xx * columns + (xy * rows + x0)) >> shift
    y = (yx * columns + (yy * rows + y0)) >> shift
    whole = np.empty((height, width, 2), np.int16)
    whole[..., 0] = x >> _SUBPIXEL_BITS
    whole[..., 1] = y >> _SUBPIXEL_BITS
    mask = (1 << _SUBPIXEL_BITS) - 1
    fraction = ((y & mask) << _SUBPIXEL_BITS | (x & mask)).astype(np.uint16)
    moved: NDArray[np.uint8] = cv2.remap(
        image, whole, fraction, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    return moved


def _recolor(
    image: NDArray[np.uint8], draws: dict[str, float], recipe: AugmentOptions
) -> NDArray[np.uint8]:
    """Change brightness, contrast (around the mean luminance), saturation and hue at once."""
    if not (recipe.brightness or recipe.contrast or recipe.saturation or recipe.hue):
        return image
    brightness = 1 + _between(draws["brightness"], recipe.brightness)
    contrast = 1 + _between(draws["contrast"], recipe.contrast)
    saturation = 1 + _between(draws["saturation"], recipe.saturation)
    hue = math.radians(_between(draws["hue"], recipe.hue))
    gray = np.tile(_LUMA, (3, 1))
    color = np.eye(3) - gray
    rotated = gray + math.cos(hue) * color + math.sin(hue) * _HUE_SINE
    matrix = brightness * contrast * rotated @ (gray + saturation * color)
    # Hue and saturation keep grays, so contrast's constant passes through them unchanged.
    offset = (1 - contrast) * brightness * float(_LUMA @ cv2.mean(image)[:3])
    # OpenCV computes in fixed point with 10 fractional bits, or in float32: with coefficients of 9
    # bits both are exact, and with a constant of an odd number of 2**-10 no value lies half way
    # between two levels, where they could round differently.
    rounded = np.empty((3, 4))
    rounded[:, :3] = np.rint(matrix * 2**9) / 2**9
    rounded[:, 3] = (2 * math.floor(offset * 2**9) + 1) / 2**10
    recolored: NDArray[np.uint8] = cv2.transform(image, rounded)
    return recolored


def _erase(image: NDArray[np.uint8], draws: dict[str, float], share: float) -> NDArray[np.uint8]:
    """Overwrite the part inside the image of a square that is centered anywhere in it."""
    height, width = image.shape[:2]
    side = round(share * min(height, width))
    top = int(draws["cutout_y"] * height) - side // 2
    left = int(draws["cutout_x"] * width) - side // 2
    image = image.copy()
    image[max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)] = _CUTOUT_COLOR
    return image


@lru_cache(maxsize=8)
def _noise_levels(deviation: float) -> NDArray[np.int16]:
    """Return a normal distribution's 2**16 evenly spaced quantiles, in whole levels.

    Indexed with random 16-bit numbers they give noise fifteen times faster than
    `numpy.random.Generator.normal`, and from a stream that no release of numpy may change.
    """
    normal = NormalDist(0, deviation)
    quantiles = [normal.inv_cdf((index + 0.5) / 2**16) for index in range(2**16)]
    return np.rint(quantiles).astype(np.int16)
