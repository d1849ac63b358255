"""What libtiff says while Pillow calls it; it would print it, without the file's name."""

import ctypes
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from PIL import _imaging

_Listener = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
_said = threading.local()
# Of C's printf.
_CONVERSION = re.compile(r"%[-+ #0-9.*]*[hlLqjzt]*[a-zA-Z]")


@contextmanager
def listening() -> Iterator[list[str]]:
    """Collect what libtiff says in this thread about pixels that it could not decode."""
    lost: list[str] = []
    _said.lost = lost
    try:
        yield lost
    finally:
        del _said.lost


def _hear(module: bytes | None, pattern: bytes, arguments: int) -> None:
    # How to read the arguments differs from platform to platform, so they are left out.
    del arguments
    lost = getattr(_said, "lost", None)
    source = (module or b"").decode(errors="replace")
    # Others speak of tags that do not matter for the pixels.
    if lost is not None and ("Decode" in source or source.startswith(("JPEG", "TIFFFill"))):
        lost.append(f"{source}: {_CONVERSION.sub('...', pattern.decode(errors='replace'))}")


_listener = _Listener(_hear)  # kept here, since libtiff holds no reference

with suppress(OSError, AttributeError):  # a Pillow without libtiff
    # By way of Pillow's own library, so that it is the libtiff that Pillow calls. It turns off
    # libtiff's warnings itself.
    ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(_listener)
