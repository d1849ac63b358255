"""Predictions as a picture: photos in a grid, each with its class below it, right or wrong."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headstart.common.errors import InputError
from headstart.common.files import atomic_write
from headstart.common.text import printable
from headstart.images import decoding, lettering
from headstart.images.decoding import UnreadableImage
from headstart.images.lettering import BOLD, Color, clipped, fitted, legible, write

MOST = 24
"""Photos in a picture: they fill a page, and each can be made out."""

ENDINGS = (".png", ".jpg", ".jpeg", ".webp")

_CELL = 220  # side of the square that holds a photo, in pixels
_FRAME = 5  # around what is not right
_COLUMNS = 6
_FEWEST_COLUMNS = 2  # so that the title has room
_GAP = 20
_MARGIN = 32
_HEADING = 70
_SIGN = 18
_ABOVE_TEXT, _BELOW_TEXT = 8, 4
_PREDICTION, _SMALL, _TITLE = 17, 14, 24
_LINE = 20  # from one line of a caption to the next
_BACK = (241, 243, 245)
_WHITE = (255, 255, 255)
_INK, _GRAY = (33, 37, 41), (108, 117, 125)
# Told apart by those who see no red or green, too; and each has its own sign.
_RIGHT, _WRONG, _OPEN = (0, 121, 107), (200, 55, 20), (140, 110, 0)
# Strokes of the signs, as shares of their side.
_TICK = (((0.27, 0.53), (0.43, 0.69), (0.73, 0.34)),)
_CROSS = (((0.32, 0.32), (0.68, 0.68)), ((0.32, 0.68), (0.68, 0.32)))
_SHIFT = 4  # they are drawn at a sixteenth of a pixel
_QUALITY = 90
_ENLARGED = 2


@dataclass(frozen=True, slots=True)
class Shown:
    """One photo to show.

    Attributes:
        path: The file.
        prediction: The likeliest class.
        probability: Its probability.
        label: The class that the photo is known to have; None where it is not known.
        abstained: Whether it is so unlike training that its class is not to be believed.
    """

    path: str
    prediction: str
    probability: float
    label: str | None
    abstained: bool

    @property
    def right(self) -> bool | None:
        """Whether the class is the label; None where there is no label, or no class."""
        return None if self.label is None or self.abstained else self.prediction == self.label


def draw_grid(photos: Sequence[Shown], title: str, subtitle: str) -> Image.Image:
    """Draw photos with what is predicted of them.

    Args:
        photos: In the order of reading; at least one.
        title: One line above them.
        subtitle: A line below the title, in small letters.

    Returns:
        An RGB picture.

    Raises:
        InputError: a photo cannot be read any more.
    """
    n_rows = math.ceil(len(photos) / _COLUMNS)
    columns = max(_FEWEST_COLUMNS, math.ceil(len(photos) / n_rows))
    remarks = any(one.label is not None or one.abstained for one in photos)
    cell = _CELL + _ABOVE_TEXT + (3 if remarks else 2) * _LINE + _BELOW_TEXT
    width = 2 * _MARGIN + columns * (_CELL + _GAP) - _GAP
    height = _MARGIN + _HEADING + n_rows * (cell + _GAP) - _GAP + _MARGIN
    picture = np.full((height, width, 3), 255, np.uint8)
    room, line = width - 2 * _MARGIN, _MARGIN + _TITLE
    name = fitted(legible(title), room, _TITLE, weight=BOLD)
    write(picture, name, (_MARGIN, line), _INK, _TITLE, weight=BOLD)
    name = fitted(legible(subtitle), room, _SMALL)
    write(picture, name, (_MARGIN, line + _LINE + 4), _GRAY, _SMALL)
    for number, photo in enumerate(photos):
        row, column = divmod(number, columns)
        left, upper = _MARGIN + column * (_CELL + _GAP), _MARGIN + _HEADING + row * (cell + _GAP)
        _draw(picture[upper : upper + cell, left : left + _CELL], photo)
    return Image.fromarray(picture)


def save(picture: Image.Image, path: Path) -> None:
    """Write a picture, complete or not at all, in the format that the name's ending says.

    Raises:
        WriteError: the system refuses to write it.
    """
    with atomic_write(path) as temporary:
        picture.save(temporary, quality=_QUALITY)


def _draw(cell: NDArray[np.uint8], photo: Shown) -> None:
    """Draw a photo and its caption into a part of the picture."""
    square = cell[:_CELL]
    square[:] = _BACK
    framed = photo.right is False or photo.abstained
    pixels = _fit(_read(photo.path), _CELL - 2 * _FRAME * framed)
    height, width = pixels.shape[:2]
    upper, left = (_CELL - height) // 2, (_CELL - width) // 2
    square[upper : upper + height, left : left + width] = pixels
    color, start, line = _INK, 0, _CELL + _ABOVE_TEXT + _PREDICTION
    if photo.right is not None or photo.abstained:
        color = _OPEN if photo.right is None else _RIGHT if photo.right else _WRONG
        start = _SIGN + 7
        _draw_sign(cell, photo.right, (0, line - _SIGN + 2), color)
    if framed:
        square[:_FRAME] = square[-_FRAME:] = square[:, :_FRAME] = square[:, -_FRAME:] = color
    share = f" {photo.probability:.1%}"
    room = _CELL - start - lettering.width_of(share, _PREDICTION, weight=BOLD)
    name = clipped(legible(photo.prediction), room, _PREDICTION, weight=BOLD)
    write(cell, name + share, (start, line), color, _PREDICTION, weight=BOLD)
    remarks = ["unlike training"] * photo.abstained
    remarks += [] if photo.label is None else [f"label: {photo.label}"]
    for shorten, text, ink in (
        (clipped, ", ".join(remarks), _INK),
        (fitted, Path(photo.path).name, _GRAY),
    ):
        if text:
            line += _LINE
            write(cell, shorten(legible(text), _CELL, _SMALL), (0, line), ink, _SMALL)


def _read(path: str) -> NDArray[np.uint8]:
    try:
        return decoding.decode(decoding.read(path), at_least=_CELL)
    except UnreadableImage as error:
        raise InputError(f"{printable(path)}: {error.reason}") from None


def _fit(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Return a picture whose longer side is `side`, with the proportions it has."""
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    # The pixels of a very small picture are shown as they are.
    method = Image.Resampling.NEAREST if scale > _ENLARGED else Image.Resampling.LANCZOS
    return np.array(Image.fromarray(pixels).resize(size, method))


def _draw_sign(
    cell: NDArray[np.uint8], right: bool | None, at: tuple[int, int], color: Color
) -> None:
    """Draw a disc with a tick, a cross or a question mark; no font is sure to have the first two.

    Args:
        cell: What to draw on.
        right: Which one: True for the tick, False for the cross.
        at: Its upper left corner, (x, y).
        color: Of the disc.
    """
    scale = 2**_SHIFT
    x, y = at
    center = ((2 * x + _SIGN) * scale // 2, (2 * y + _SIGN) * scale // 2)
    cv2.circle(cell, center, _SIGN * scale // 2, color, -1, cv2.LINE_AA, _SHIFT)
    if right is None:
        middle = x + (_SIGN - lettering.width_of("?", _SMALL, weight=BOLD)) // 2
        write(cell, "?", (middle, y + _SIGN - 4), _WHITE, _SMALL, weight=BOLD)
        return
    for stroke in _TICK if right else _CROSS:
        points = [
            (round((x + a * _SIGN) * scale), round((y + b * _SIGN) * scale)) for a, b in stroke
        ]
        cv2.polylines(cell, [np.array(points, np.int32)], False, _WHITE, 2, cv2.LINE_AA, _SHIFT)
