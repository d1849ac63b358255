"""Images as people hold them in Python, made into requests for their features."""

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from joblib import cpu_count
from numpy.typing import NDArray
from PIL import Image

from headstart.common.errors import InputError
from headstart.common.urls import check_url, is_url
from headstart.extraction.requests import Request, request_for
from headstart.images import decoding
from headstart.images.decoding import UnreadableImage

ImageLike = str | os.PathLike[str] | NDArray[np.uint8] | Image.Image
"""A path or URL, RGB or gray pixels in [0, 255] as uint8, or an image of Pillow."""

_NAMED = 5


def as_list(images: Iterable[ImageLike] | NDArray[Any]) -> list[ImageLike]:
    """Return the images one by one.

    Args:
        images: Paths, arrays or Pillow images in any sequence, an array, column or table of one
            column of paths, or an array (n_images, height, width, 3) of pixels.

    Raises:
        TypeError: it is a single image or path; put it in a list.
        ValueError: it is empty, or an array or table of something else.
    """
    single = isinstance(images, str | os.PathLike | Image.Image)
    # Its rows would pass for gray images three pixels wide.
    single |= isinstance(images, np.ndarray) and images.ndim == 3 and images.shape[2] in (3, 4)
    if single:
        raise TypeError(
            f"expected a sequence of images, received one {type(images).__name__}; put it in a list"
        )
    if hasattr(images, "columns") and hasattr(images, "to_numpy"):
        if len(images.columns) != 1:
            raise ValueError(
                "expected one column of paths, received a table of the columns "
                f"{', '.join(map(str, images.columns))}"
            )
        images = images.to_numpy()
    if isinstance(images, np.ndarray) and images.dtype.kind in "OUT" and images.ndim == 2:
        if images.shape[1] != 1:
            raise ValueError(
                f"expected one column of paths, received an array of shape {images.shape}"
            )
        images = images[:, 0]
    if isinstance(images, np.ndarray) and images.dtype.kind not in "OUSTu":
        raise ValueError(
            "expected paths, Pillow images, or RGB pixels in [0, 255] as uint8, received an array "
            f"of {images.dtype} with shape {images.shape}; images of other types are converted "
            "with `.astype('uint8')` once they are in that range"
        )
    if isinstance(images, np.ndarray) and images.dtype == np.uint8 and images.ndim < 3:
        raise ValueError(
            "expected pixels of shape (n_images, height, width, 3), received an array of shape "
            f"{images.shape}"
        )
    listed = list(images)
    if not listed:
        raise ValueError("expected at least one image, received none (0 sample(s))")
    return listed


def requests_for(images: Sequence[ImageLike]) -> list[Request]:
    """Return a request per image, reading several files at a time.

    Raises:
        InputError: files cannot be read; the message names the first of them.
        ValueError: an array does not hold an image.
        TypeError: something is no image at all.
    """
    unreadable: list[str] = []
    loading = Lock()

    def one(position: int) -> Request | None:
        image = images[position]
        name = os.fspath(image) if isinstance(image, str | os.PathLike) else f"image {position}"
        try:
            if isinstance(image, str | os.PathLike):
                path = os.fspath(image)
                return request_for(check_url(path, "images") if is_url(path) else Path(path))
            # One image of Pillow may stand in the list more than once, and is no matter of threads.
            with loading if isinstance(image, Image.Image) else nullcontext():
                pixels = _pixels(image, position)
            return request_for(pixels, name)
        except UnreadableImage as error:
            unreadable.append(f"{name}: {error.reason}")
            return None

    with ThreadPoolExecutor(cpu_count()) as pool:
        requests = list(pool.map(one, range(len(images))))
    refuse(unreadable)
    return [request for request in requests if request is not None]


def refuse(unreadable: Sequence[str]) -> None:
    """Raise an InputError that names the first of the unreadable images, if there are any."""
    if unreadable:
        named = "".join(f"\n  {line}" for line in sorted(unreadable)[:_NAMED])
        more = f"\n  and {len(unreadable) - _NAMED} more" if len(unreadable) > _NAMED else ""
        raise InputError(
            f"{len(unreadable)} of the images cannot be read; mend or leave them out:{named}{more}"
        )


def _pixels(image: Any, position: int) -> NDArray[np.uint8]:
    """Return RGB pixels, (height, width, 3) uint8, of an image in memory."""
    if isinstance(image, Image.Image):
        return decoding.to_pixels(image)
    if not isinstance(image, np.ndarray):
        raise TypeError(
            f"image {position}: expected a path, an array or a Pillow image, received "
            f"{type(image).__name__}"
        )
    gray = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 1)
    if image.dtype != np.uint8 or not (gray or (image.ndim == 3 and image.shape[2] == 3)):
        raise ValueError(
            f"image {position}: expected RGB pixels in [0, 255], (height, width, 3) uint8, "
            f"received {image.dtype} of shape {image.shape}"
        )
    if 0 in image.shape:
        raise ValueError(f"image {position}: expected pixels, received shape {image.shape}")
    if gray:
        image = np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    return np.ascontiguousarray(image)
