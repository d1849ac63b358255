"""Small pictures as text that a page can hold, kept under the state of their photos' files."""

import base64
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from headstart.common.cache import PICTURES
from headstart.common.cache_table import CacheTable, key_of
from headstart.common.code import digest_of_code
from headstart.common.files import digest_of
from headstart.common.vocabulary import Sizing
from headstart.dataset.file_states import states_of

if TYPE_CHECKING:
    from headstart.report.thumbnails import Make

SIDE = 112
"""Longer side of a thumbnail in pixels: 7 rem, the width of a card, on an ordinary screen."""

LARGE_SIDE = 256
"""Longer side of a picture that must be judged, in pixels."""

_LIBRARIES = ("numpy", "opencv-python-headless", "pillow", "simplejpeg")


def thumbnails(paths: Sequence[str], side: int = SIDE) -> list[str]:
    """Return the images' thumbnails, of this longer side, as `data:` URIs, in order.

    One that has gone or changed beyond reading since the pipeline ran gives an empty text: a page
    can do without.
    """

    def maker() -> "Make":
        from headstart.report.thumbnails import thumbnail

        return thumbnail(side)

    return _pictures(paths, ("thumbnail", side), maker)


def as_seen(paths: Sequence[str], sizing: Sizing, side: int) -> list[str]:
    """Return images as the backbone saw them, as `data:` URIs whose longer side is `side`."""

    def maker() -> "Make":
        from headstart.report import thumbnails

        return thumbnails.as_seen(sizing, side)

    return _pictures(paths, ("as seen", sizing, side), maker)


def _pictures(paths: Sequence[str], what: Any, maker: Callable[[], "Make"]) -> list[str]:
    """Take the pictures that are kept and make the others.

    Args:
        paths: Of the photos.
        what: What tells these pictures of a photo from others.
        maker: Gives what makes one of a file's bytes; asked only when one must be made.
    """
    now = time.time_ns()
    states = states_of(paths)
    keys = [key_of((what, state)) for state in states]
    with CacheTable(PICTURES, _digest()) as table:
        pictures = table.find(keys)
        missing = [number for number, key in enumerate(keys) if key not in pictures]
        if missing:
            # Only now: decoders are not needed where all pictures are kept.
            from headstart.report.thumbnails import each

            made = each([paths[number] for number in missing], maker())
            new = {keys[number]: data for number, data in zip(missing, made, strict=True)}
            pictures |= new
            settled = {
                key
                for key, state in zip(keys, states, strict=True)
                if state is not None and state.is_settled(now)
            }
            table.add({key: data for key, data in new.items() if data and key in settled})
    return [_uri(pictures[key]) for key in keys]


def _digest() -> str:
    code = ["images", "report/pictures.py", "report/thumbnails.py"]
    versions = {name: version(name) for name in _LIBRARIES}
    return digest_of({"code": digest_of_code(code), "versions": versions})


def _uri(picture: bytes) -> str:
    return "data:image/webp;base64," + base64.b64encode(picture).decode() if picture else ""
