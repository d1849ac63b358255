"""What libtiff says while Pillow calls it; it would print it, without the file's name."""

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import _imaging

_Listener = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
_said = threading.local()


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
    lost = getattr(_said, "lost", None)
    source = (module or b"").decode(errors="replace")
    # Others speak of tags that do not matter for the pixels.
    if lost is not None and ("Decode" in source or source.startswith(("JPEG", "TIFFFill"))):
        text = ctypes.create_string_buffer(200)
        _libc.vsnprintf(text, len(text), pattern, ctypes.c_void_p(arguments))
        lost.append(f"{source}: {text.value.decode(errors='replace')}")


_listener = _Listener(_hear)  # kept here, since libtiff holds no reference

try:
    _libc = ctypes.CDLL(None)
    # By way of Pillow's own library, so that it is the libtiff that Pillow calls. It turns off
    # libtiff's warnings itself.
    ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(_listener)
except (OSError, AttributeError):  # a Pillow without libtiff
    pass
