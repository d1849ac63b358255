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


def _hear(module: bytes | None, pattern: bytes, arguments: int, *, is_error: bool) -> None:
    lost = getattr(_said, "lost", None)
    source = (module or b"").decode(errors="replace")
    if lost is None or not ("Decode" in source or source.startswith(("JPEG", "TIFFFill"))):
        return
    text = ctypes.create_string_buffer(200)
    _libc.vsnprintf(text, len(text), pattern, ctypes.c_void_p(arguments))
    message = text.value.decode(errors="replace")
    # Of its warnings only those it passes on from libjpeg tell of lost pixels.
    if is_error or message.startswith(("Corrupt JPEG data", "Premature end of JPEG")):
        lost.append(f"{source}: {message}")


# Kept, since libtiff does not hold a reference.
_on_error = _Listener(lambda *said: _hear(*said, is_error=True))
_on_warning = _Listener(lambda *said: _hear(*said, is_error=False))

try:
    _libc = ctypes.CDLL(None)
    # By way of Pillow's own library, so that it is the libtiff that Pillow calls.
    _libtiff = ctypes.CDLL(_imaging.__file__)
    _libtiff.TIFFSetErrorHandler(_on_error)
    _libtiff.TIFFSetWarningHandler(_on_warning)
except (OSError, AttributeError):  # a Pillow without libtiff
    pass
