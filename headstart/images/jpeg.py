"""JPEG, strictly: a warning of libjpeg that pixels are lost counts as an error."""

import re
from collections.abc import Iterator

import numpy as np
import simplejpeg
from numpy.typing import NDArray

_LOST = ("Corrupt JPEG data", "Premature end of JPEG file", "Inconsistent progression sequence")
"""How the warnings begin that mean lost pixels. Source: libjpeg-turbo, `jerror.h`, JWRN_*."""

_BAD_PROFILE = "Corrupt JPEG data: bad ICC marker"

_MARKER = re.compile(rb"\xff+([\x01-\xcf\xd8-\xfe])")
_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xCA, 0xCB})
_SEQUENTIAL = frozenset({0xC0, 0xC1, 0xC9})
_PROGRESSIVE = frozenset({0xC2, 0xCA})
_TABLES, _SCAN, _END, _JFIF, _PROFILE, _ADOBE = 0xDB, 0xDA, 0xD9, 0xE0, 0xE2, 0xEE
_WITHOUT_BODY = frozenset({0x01, 0xD8})


def scale_for(size: tuple[int, int], side: int) -> int:
    """Return by how much, 1, 2, 4 or 8, a (width, height) may be divided to keep `side` pixels."""
    factor = min(size) // max(side, 1)
    return next((scale for scale in (8, 4, 2) if scale <= factor), 1)


def decode(
    data: bytes, colorspace: str, size: tuple[int, int], scale: int = 1
) -> NDArray[np.uint8] | None:
    """Decode with libjpeg-turbo, to the same bytes as Pillow.

    Args:
        data: The whole file.
        colorspace: "RGB" or "GRAY"; "CMYK" of a file of four components.
        size: (width, height) by the header.
        scale: 1, 2, 4 or 8: by what the sides are divided while decoding.

    Returns:
        (height, width, channels) uint8, sides rounded up; None for a file that this decoder does
        not know or a warning that does not matter and cannot be passed over: that it is damaged
        is not said then.

    Raises:
        ValueError: pixels are lost; the message says how.
    """
    # Of several warnings only the first is told: what provokes a harmless one is mended, so that
    # it hides no other.
    pixels = _strictly(data, colorspace, size, scale)
    if pixels is None and (mended := _mended(data)) != data:
        pixels = _strictly(mended, colorspace, size, scale)
    _check_segments(data)
    return pixels


def _strictly(
    data: bytes, colorspace: str, size: tuple[int, int], scale: int
) -> NDArray[np.uint8] | None:
    width, height = -(-size[0] // scale), -(-size[1] // scale)
    try:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data, colorspace, min_height=height, min_width=width
        )
    except ValueError as error:
        if str(error).startswith(_LOST) and str(error) != _BAD_PROFILE:
            raise
        return None
    return pixels if pixels.shape[:2] == (height, width) else None


def _check_segments(data: bytes) -> None:
    """Refuse what libjpeg decodes without a warning though it is not all there.

    Quantization steps of zero make flat gray. A file that is cut between two scans comes out
    coarser, or without colors.
    """
    progressive, n_components = False, 0
    # The lowest bit that arrived of each coefficient, by component. Source: ITU-T T.81, G.1.1.1.
    bits: dict[int, list[int | None]] = {}
    for marker, start, end in _segments(data):
        body = data[start:end]
        if marker == _TABLES:
            _check_tables(body)
        elif marker in _FRAMES and len(body) >= 6:
            progressive, n_components = marker in _PROGRESSIVE, body[5]
            bits = {component: [None] * 64 for component in body[6 : 6 + 3 * n_components : 3]}
        elif marker == _SCAN and body and len(body) >= 4 + 2 * body[0]:
            components = body[1 : 1 + 2 * body[0] : 2]
            first, last, shifts = body[1 + 2 * body[0] : 4 + 2 * body[0]]
            if not progressive:
                if len(components) == n_components:
                    return
                first, last, shifts = 0, 63, 0
            for component in components:
                if component in bits and first <= last < 64:
                    bits[component][first : last + 1] = [shifts & 15] * (last + 1 - first)
    missing = sum(any(bit != 0 for bit in received) for received in bits.values())
    if missing:
        kind = "progressive file" if progressive else "file of several scans"
        raise ValueError(
            f"{kind} whose last scans are missing ({missing} of {len(bits)} components incomplete)"
        )


def _check_tables(body: bytes) -> None:
    position = 0
    while position < len(body):
        width = 2 if body[position] >> 4 else 1
        table = body[position + 1 : position + 1 + 64 * width]
        # Zero is zero in either order of bytes.
        if 0 in (memoryview(table[: len(table) // 2 * 2]).cast("H") if width == 2 else table):
            raise ValueError("a quantization table holds zeros")
        position += 1 + 64 * width


def _mended(data: bytes) -> bytes:
    """Put right what libjpeg warns of though it loses nothing.

    These are the spectral selection that some phones leave empty in sequential files, unknown
    transform codes of Adobe's marker, JFIF versions to come, and incomplete color profiles.
    """
    mended = bytearray(data)
    sequential, n_components = False, 0
    for marker, start, end in _segments(data):
        if marker in _FRAMES and end - start >= 6:
            sequential, n_components = marker in _SEQUENTIAL, data[start + 5]
        elif marker == _SCAN and sequential and end - start >= 4:
            mended[end - 3 : end] = b"\x00\x3f\x00"
        elif marker == _ADOBE and data[start : start + 5] == b"Adobe" and end - start >= 12:
            if data[start + 11] > 2:
                # As libjpeg takes it: YCbCr, or YCCK.
                mended[start + 11] = 2 if n_components == 4 else 1
        elif marker == _JFIF and data[start : start + 5] == b"JFIF\0" and end - start >= 14:
            mended[start + 5] = 1
        elif marker == _PROFILE and data[start : start + 11] == b"ICC_PROFILE":
            mended[start] = 0  # no profile any more
    return bytes(mended)


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the marker of each segment up to the end marker, and where its body starts and ends."""
    position = 2
    while match := _MARKER.search(data, position):
        marker, position = match[1][0], match.end()
        if marker == _END:
            return
        if marker not in _WITHOUT_BODY:
            length = max(2, int.from_bytes(data[position : position + 2], "big"))
            yield marker, position + 2, min(position + length, len(data))
            position += length
