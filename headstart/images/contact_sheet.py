"""A picture of images and their augmented views, for judging a recipe by eye."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headstart.common.text import counted
from headstart.common.vocabulary import Sizing
from headstart.images import lettering
from headstart.images.augmentation import views
from headstart.images.options import AugmentOptions
from headstart.images.resizing import resize

_TILE = 160  # longer side of a picture on the sheet, in pixels
_COLUMNS = 9  # the image itself and eight views fill a line
_COLUMNS_WITHOUT_VIEWS = 6
_MARGIN = 20
_GAP = 8
_GAP_BETWEEN = 14  # above the next image's label
_LINE = 22  # height of a line of text
_TEXT = 14  # size of the text
_INK, _GRAY = (30, 30, 30), (110, 110, 110)


@dataclass(frozen=True, slots=True)
class SheetImage:
    """One image to show.

    Attributes:
        label: What to write above it, such as its class and file name.
        pixels: RGB in [0, 255], (H, W, 3) uint8.
        sha256: Hexadecimal sha256 of the image file's bytes; decides its views.
    """

    label: str
    pixels: NDArray[np.uint8]
    sha256: str


def contact_sheet(
    images: Iterable[SheetImage],
    recipe: AugmentOptions,
    n_views: int,
    sizing: Sizing,
) -> Image.Image:
    """Draw each image, as the backbone sees it, and its first views beside it.

    Without views the images themselves stand side by side.

    Args:
        images: Taken one by one; only their small pictures are kept.
        recipe: What the views are made with; its number of views is ignored.
        n_views: Views of each image, at least 0.
        sizing: At which size the views are made, and how. The sheet shows them with a longer side
            of 160 pixels.

    Returns:
        An RGB picture, at most 1544 pixels wide.
    """
    height, width = sizing.image_size
    scale = _TILE / max(height, width)
    tile = (max(1, round(height * scale)), max(1, round(width * scale)))
    columns = min(1 + n_views, _COLUMNS) if n_views else _COLUMNS_WITHOUT_VIEWS
    # Room for the words even when the pictures are few.
    inner = max(columns * (tile[1] + _GAP) - _GAP, 4 * _TILE)
    if n_views:
        title = f"{counted(n_views, 'view')} at {height} × {width} pixels"
        notes = _describe(recipe)
    else:
        title = f"What the backbone sees: {height} × {width} pixels, resize {sizing.resize}"
        notes = ["no augmented views"]
    strips = [_text(title, inner, _INK), *_wrapped(notes, inner)]
    if n_views:
        for image in images:
            pictures = views(image.pixels, image.sha256, range(1 + n_views), recipe, sizing)
            strips.append(_blank(_GAP_BETWEEN, inner))
            strips.append(_text(_label(image, inner), inner, _INK))
            captions = ["image", *(f"view {number}" for number in range(1, 1 + n_views))]
            shown = [_shown(picture, tile) for picture in pictures]
            strips.extend(_lines_of_tiles(shown, captions, columns, inner))
    else:
        small = [
            (_shown(resize(image.pixels, sizing), tile), _label(image, tile[1])) for image in images
        ]
        strips.append(_blank(_GAP_BETWEEN, inner))
        strips.extend(
            _lines_of_tiles(
                [one for one, _ in small], [label for _, label in small], columns, inner
            )
        )
    sheet = np.concatenate(strips)
    return Image.fromarray(
        np.pad(sheet, ((_MARGIN, _MARGIN), (_MARGIN, _MARGIN), (0, 0)), constant_values=255)
    )


def _label(image: SheetImage, width: int) -> str:
    return lettering.fitted(lettering.legible(image.label), width, _TEXT)


def _describe(recipe: AugmentOptions) -> list[str]:
    off = {name: field.default for name, field in type(recipe).model_fields.items()}
    steps = recipe.model_dump(exclude={"views", "seed"})
    active = [f"{name} {value:g}" for name, value in steps.items() if value != off[name]]
    return [*active, f"seed {recipe.seed}"] if active else ["every step is off"]


def _shown(picture: NDArray[np.uint8], tile: tuple[int, int]) -> NDArray[np.uint8]:
    # Small pictures are enlarged without smoothing, to show the pixels that the backbone sees.
    grown = picture.shape[0] < tile[0]
    method = Image.Resampling.NEAREST if grown else Image.Resampling.LANCZOS
    return np.array(Image.fromarray(picture).resize((tile[1], tile[0]), method))


def _lines_of_tiles(
    pictures: list[NDArray[np.uint8]], captions: list[str], columns: int, width: int
) -> Iterator[NDArray[np.uint8]]:
    for start in range(0, len(pictures), columns):
        line = pictures[start : start + columns]
        height, tile_width = line[0].shape[:2]
        row, below = _blank(height, width), _blank(_LINE, width)
        for column, picture in enumerate(line):
            left = column * (tile_width + _GAP)
            row[:, left : left + tile_width] = picture
            _write(below, captions[start + column], left, _GRAY)
        yield row
        yield below


def _blank(height: int, width: int) -> NDArray[np.uint8]:
    return np.full((height, width, 3), 255, np.uint8)


def _text(text: str, width: int, color: tuple[int, int, int]) -> NDArray[np.uint8]:
    strip = _blank(_LINE, width)
    _write(strip, text, 0, color)
    return strip


def _write(strip: NDArray[np.uint8], text: str, left: int, color: tuple[int, int, int]) -> None:
    lettering.write(strip, text, (left, _LINE - 7), color, _TEXT)


def _wrapped(words: list[str], width: int) -> list[NDArray[np.uint8]]:
    lines = [words[0]]
    for word in words[1:]:
        longer = f"{lines[-1]}, {word}"
        if lettering.width_of(longer, _TEXT) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return [_text(line, width, _GRAY) for line in lines]
