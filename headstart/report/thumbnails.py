"""Small pictures as text that a page can hold."""

import base64
import io
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from headstart.common.vocabulary import Sizing
from headstart.images import decoding
from headstart.images.decoding import UnreadableImage
from headstart.images.resizing import resize

Pixels = npt.NDArray[np.uint8]

SIDE = 112
"""Longer side of a thumbnail in pixels: 7 rem, the width of a card, on an ordinary screen."""

_QUALITY = 62


def data_uri(pixels: Pixels, side: int = SIDE, quality: int = _QUALITY) -> str:
    """Return pixels, (h, w, 3) RGB in [0, 255], shrunk to `side` and written as WebP.

    Small images stay as they are.
    """
    image = Image.fromarray(pixels)
    image.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=3.0)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def thumbnails(paths: Sequence[str]) -> list[str]:
    """Read images and return their thumbnails, in order.

    Several are decoded at a time, and only as many are in memory. One that has gone or changed
    beyond reading since the pipeline ran gives an empty text: a page can do without.
    """
    return each(paths, lambda data: data_uri(decoding.decode(data, at_least=SIDE)))


def each(paths: Sequence[str], act: Callable[[bytes], str]) -> list[str]:
    """Return what `act` makes of each file's bytes; empty where it cannot be read."""

    def one(path: str) -> str:
        try:
            return act(decoding.read(Path(path)))
        except UnreadableImage:
            return ""

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(one, paths))


def as_seen(paths: Sequence[str], sizing: Sizing, side: int) -> list[str]:
    """Return images as the backbone saw them, as `data:` URIs whose longer side is `side`."""

    def act(data: bytes) -> str:
        return data_uri(resize(decoding.decode(data), sizing), side)

    return each(paths, act)
