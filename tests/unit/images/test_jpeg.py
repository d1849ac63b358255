"""A JPEG that has lost pixels is refused; one that is merely odd is not."""

import io
import struct
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from headstart.images.decoding import UnreadableImage, decode, inspect
from headstart.images.jpeg import scale_for

END = b"\xff\xd9"
KINDS = {
    "color": {},
    "gray": {"mode": "L"},
    "cmyk": {"mode": "CMYK"},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 3},
}


def encode(picture: np.ndarray, mode: str = "RGB", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).convert(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def by_pillow(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def with_segment(data: bytes, marker: int, body: bytes) -> bytes:
    return data[:2] + struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body + data[2:]


def scans_of(data: bytes) -> list[int]:
    """Where the scans start, and where the data end."""
    starts = [i for i in range(len(data) - 1) if data[i : i + 2] == b"\xff\xda"]
    return [*starts, len(data) - 2]


def in_three_scans(picture: np.ndarray) -> bytes:
    """A baseline file that sends one component after the other, out of three gray ones."""
    planes = [encode(picture[..., band], "L", quality=90) for band in range(3)]
    head, frame = planes[0][: scans_of(planes[0])[0]], planes[0].index(b"\xff\xc0")
    height, width = picture.shape[:2]
    body = struct.pack(">BHHB", 8, height, width, 3) + bytes([1, 17, 0, 2, 17, 0, 3, 17, 0])
    data = head[:frame] + b"\xff\xc0" + struct.pack(">H", 17) + body + head[frame + 13 :]
    for component, plane in enumerate(planes, 1):
        start = scans_of(plane)[0]
        data += b"\xff\xda\0\x08\x01" + bytes([component, 0, 0, 63, 0]) + plane[start + 10 : -2]
    return data + END


@pytest.fixture(scope="module")
def picture(photo: Callable[..., np.ndarray]) -> np.ndarray:
    return photo(0, 120, 160)


def assert_refused(data: bytes, reason: str = "damaged JPEG: ") -> None:
    for act in (decode, lambda data: decode(data, at_least=16), lambda data: inspect(data, 16)):
        with pytest.raises(UnreadableImage, match=reason):
            act(data)


@pytest.mark.parametrize("kind", KINDS)
def test_damage_that_libjpeg_fills_in_is_refused_without_a_word_of_its_own(picture, kind, capfd):
    data = encode(picture, **KINDS[kind])
    half = len(data) * 3 // 4
    for damaged in (
        data[:half] + END,
        data[:half] + bytes(len(data) - half),
        data[:half] + bytes(len(data) - half - 2) + END,
        data[:half] + bytes(400) + data[half + 400 :],
        data[:half] + data[half + 300 :],
        data[:-2] + b"a dozen bytes" + END,
        data[:-2],
    ):
        assert_refused(damaged)
    assert capfd.readouterr() == ("", "")


def test_a_missing_restart_is_refused(picture):
    data = encode(picture, restart_marker_blocks=3)
    assert_refused(data.replace(b"\xff\xd3", b"\xff\xd5", 1), r"found marker 0xd5 instead of RST3")


@pytest.mark.parametrize("options", [{"quality": 5}, {"subsampling": 0}, {"mode": "L"}])
def test_a_progressive_file_without_its_last_scans_is_refused(picture, options):
    data = encode(picture, progressive=True, **options)
    np.testing.assert_array_equal(decode(data), by_pillow(data))
    scans = scans_of(data)
    assert len(scans) >= 6
    for end in scans[1:-1]:
        # The tables of a scan stand before it.
        cut = data[: data.rindex(b"\xff\xc4", 0, end)] + END
        by_pillow(cut)  # decodes
        assert_refused(cut, r"progressive file whose last scans are missing \(\d of \d comp")


def test_a_file_without_the_scan_of_a_component_is_refused(picture):
    data = in_three_scans(picture)
    np.testing.assert_array_equal(decode(data), by_pillow(data))
    for end in scans_of(data)[1:-1]:
        assert_refused(data[:end] + END, "file of several scans whose last scans are missing")


def test_a_zeroed_quantization_table_is_refused(picture):
    data = encode(picture)
    table = data.index(b"\xff\xdb") + 25
    assert_refused(data[:table] + bytes(9) + data[table + 9 :], "quantization table holds zeros")


def test_what_loses_no_pixels_is_accepted(picture):
    data = encode(picture)
    expected = by_pillow(data)
    scan = scans_of(data)[0] + 2
    parameters = scan + struct.unpack_from(">H", data, scan)[0]
    no_selection = data[: parameters - 3] + bytes(3) + data[parameters:]
    icc = b"ICC_PROFILE\0" + bytes([1, 3]) + b"one of three parts"
    odd = {
        "spectral selection of Samsung's phones": no_selection,
        "Adobe's transform": with_segment(data, 0xEE, b"Adobe\0\x64\0\0\0\0\x07"),
        "JFIF 2.1": data.replace(b"JFIF\0\x01", b"JFIF\0\x02"),
        "bytes after the end": data + b"appended by a phone" + bytes(100),
        "another image after the end": data + data,
        "an incomplete color profile": with_segment(data, 0xE2, icc),
        "fill bytes": data[: scan - 2] + b"\xff\xff" + data[scan - 2 :],
    }
    for what, accepted in odd.items():
        np.testing.assert_array_equal(decode(accepted), expected, err_msg=what)
        assert inspect(accepted, 16)[:2] == (160, 120), what
    # What is harmless does not hide what is not: libjpeg tells its first warning only.
    assert_refused(no_selection[: len(data) * 3 // 4] + END, "premature end of data segment")


def test_of_several_photos_in_a_file_the_first_is_taken(picture):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(
        buffer, "MPO", save_all=True, append_images=[Image.new("RGB", (160, 120))]
    )
    data = buffer.getvalue()
    assert Image.open(io.BytesIO(data)).format == "MPO"
    np.testing.assert_array_equal(decode(data), by_pillow(data))
    assert_refused(data[: data.index(END)][:-2000] + END, "damaged MPO")


@pytest.mark.parametrize("options", [{}, {"mode": "L"}, {"progressive": True}, {"subsampling": 0}])
@pytest.mark.parametrize("side", [10, 25, 50, 100])
def test_thumbnails_are_those_of_pillow(picture, options, side):
    """They decide which photos count as near duplicates."""
    data = encode(picture[:113, :151], **options)
    drafted = Image.open(io.BytesIO(data))
    drafted.draft("L", (side, side))
    scale = scale_for((151, 113), side)
    assert drafted.size == (-(-151 // scale), -(-113 // scale))
    gray = drafted.convert("L")
    factor = min(gray.size) // side
    expected = np.asarray(gray.reduce(factor) if factor > 1 else gray)
    np.testing.assert_array_equal(inspect(data, side).thumbnail, expected)
