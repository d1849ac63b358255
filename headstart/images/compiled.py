"""What resample.c does, as a function, where hatch_build.py could compile it."""

import ctypes
import hashlib
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FOLDER = "headstart/compiled"
"""Where libraries lie in a folder of `sys.path`. No stage depends on it: it follows the source."""

_SOURCE = Path(__file__).with_name("resample.c")

Resample = Callable[[NDArray[np.uint8], int, int, bool], NDArray[np.uint8]]


def library_name() -> str:
    """Return the name of the library of this very source; one of another is never taken."""
    return f"resample-{hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:16]}.so"


@cache
def resample() -> Resample | None:
    """Return the function; None where nothing was compiled, or for another processor.

    It takes an image, (H, W, 3) uint8, the new height and width, and whether to resize bicubically
    rather than bilinearly; it returns (height, width, 3) uint8. Threads may call it at a time.
    """
    name = library_name()
    for folder in sys.path:
        path = Path(folder, FOLDER, name).absolute()
        # It may be of another system, or on a disk that allows no execution.
        with suppress(OSError):
            if path.is_file():
                return _bound(ctypes.CDLL(str(path)))
    return None


def _bound(library: ctypes.CDLL) -> Resample | None:
    if not library.headstart_supported():
        return None
    function = library.headstart_resample
    size, number, pointer = ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p
    function.argtypes = [pointer, size, number, number, pointer, number, number, number]

    def call(image: NDArray[np.uint8], height: int, width: int, cubic: bool) -> NDArray[np.uint8]:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise ValueError(f"expected (H, W, 3) uint8, received {image.shape} {image.dtype}")
        if image.strides[1:] != (3, 1):
            image = np.array(image, order="C")
        resized = np.empty((height, width, 3), np.uint8)
        addresses = image.ctypes.data, resized.ctypes.data
        if function(
            addresses[0], image.strides[0], *image.shape[:2], addresses[1], height, width, cubic
        ):
            raise MemoryError
        return resized

    return call
