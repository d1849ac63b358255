"""What Pillow passes over in damaged PNG files."""

import struct
import zlib

_SIGNATURE_BYTES = 8
_CHECKED = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT"})


def check(data: bytes) -> None:
    """Check the checksums of all chunks that the pixels of the first frame come from.

    Raises:
        ValueError: one does not match.
    """
    position, pixels_begun = _SIGNATURE_BYTES, False
    view = memoryview(data)
    while position + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, position)
        if pixels_begun and name != b"IDAT":
            return
        pixels_begun = name == b"IDAT"
        end = position + 8 + length
        if name in _CHECKED and end + 4 <= len(data):
            (expected,) = struct.unpack_from(">I", data, end)
            if zlib.crc32(view[position + 4 : end]) != expected:
                raise ValueError(f"wrong checksum of chunk {name.decode()} at byte {position:,}")
        position = end + 4
