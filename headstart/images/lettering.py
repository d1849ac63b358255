"""Text on a picture, in OpenCV's own fonts: Korean and Latin letters, with no font installed."""

import unicodedata

import cv2
import numpy as np
from numpy.typing import NDArray

Color = tuple[int, int, int]

BOLD = 700
REGULAR = 0
"""The weight that a font itself has."""


def write(
    pixels: NDArray[np.uint8],
    text: str,
    at: tuple[int, int],
    color: Color,
    size: int,
    *,
    weight: int = REGULAR,
) -> None:
    """Write one line of text on a picture.

    Args:
        pixels: RGB in [0, 255], (H, W, 3) uint8; changed in place.
        text: As `legible` gives it.
        at: Where its base line begins, (x, y) in pixels.
        color: RGB in [0, 255].
        size: Height of the letters in pixels.
        weight: `REGULAR` or `BOLD`; letters other than Latin, Greek and Cyrillic are never bold.
    """
    cv2.putText(pixels, text, at, color, _font(weight), size, weight)


def width_of(text: str, size: int, *, weight: int = REGULAR) -> int:
    """Return how wide a line of text will be, in pixels."""
    left, _, width, _ = cv2.getTextSize((0, 0), text, (0, 0), _font(weight), size, weight)
    return int(left + width)


def legible(text: str) -> str:
    """Return a text, such as a file's name, in letters that a picture can show."""
    # macOS decomposes Hangul in file names; undecodable bytes arrive as lone surrogates.
    composed = unicodedata.normalize("NFC", text)
    return "".join(letter if letter.isprintable() else "?" for letter in composed)


def fitted(text: str, width: int, size: int, *, weight: int = REGULAR) -> str:
    """Leave out the middle of a text that is too wide: the end of a path says the most."""
    if width_of(text, size, weight=weight) <= width:
        return text
    for kept in range(len(text) - 1, 2, -1):
        shorter = f"{text[: kept // 3]} … {text[kept // 3 - kept :]}"
        if width_of(shorter, size, weight=weight) <= width:
            return shorter
    return text[-1:]


def clipped(text: str, width: int, size: int, *, weight: int = REGULAR) -> str:
    """Leave out the end of a text that is too wide: the start of a name says the most."""
    if width_of(text, size, weight=weight) <= width:
        return text
    for kept in range(len(text) - 1, 0, -1):
        shorter = f"{text[:kept].rstrip()}…"
        if width_of(shorter, size, weight=weight) <= width:
            return shorter
    return text[:1]


def _font(weight: int) -> cv2.FontFace:
    # "uni" has Hangul, Chinese characters and kana, in one weight; "sans" takes them from there.
    return cv2.FontFace("sans" if weight else "uni")
