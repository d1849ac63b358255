"""Whatever happens to a file, prepare and predict agree on it, and at worst refuse it."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from headstart.images import decoding
from headstart.images.decoding import UnreadableImage, decode, inspect

Change = tuple[str, float, float, int]


def _files() -> dict[str, bytes]:
    rows, columns = np.mgrid[:20, :26]
    waves = np.stack([columns * 9, rows * 12, rows * columns % 256], -1).astype(np.uint8)
    color = Image.fromarray(waves)
    alpha = color.copy()
    alpha.putalpha(Image.fromarray(waves[..., 2]))
    deep = Image.fromarray(waves[..., 0].astype(np.uint16) * 250)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    more = {"save_all": True, "append_images": [alpha.convert("RGB").rotate(90)]}
    recipes = {
        "jpeg": (color, "JPEG", {"exif": exif}),
        "jpeg, progressive": (color, "JPEG", {"progressive": True}),
        "jpeg, restarts": (color.convert("L"), "JPEG", {"restart_marker_blocks": 2}),
        "jpeg, cmyk": (color.convert("CMYK"), "JPEG", {}),
        "mpo": (color, "MPO", more),
        "png": (color, "PNG", {"exif": exif}),
        "png, 16 bits": (deep, "PNG", {}),
        "png, palette": (color.quantize(9), "PNG", {"transparency": 1}),
        "apng": (color, "PNG", more),
        "webp": (alpha, "WEBP", {"exif": exif}),
        "webp, lossless": (color, "WEBP", {"lossless": True}),
        "gif": (color, "GIF", more),
        "bmp": (color.quantize(16), "BMP", {}),
        "tiff": (alpha, "TIFF", {"tiffinfo": {0x0112: 6}}),
        "tiff, lzw": (color, "TIFF", {"compression": "tiff_lzw"}),
        "tiff, jpeg": (color, "TIFF", {"compression": "jpeg"}),
        "tiff, group 4": (color.convert("1"), "TIFF", {"compression": "group4"}),
        "tiff, 16 bits": (deep, "TIFF", {}),
        "avif": (color, "AVIF", {}),
        "jpeg 2000": (color, "JPEG2000", {}),
        "ppm": (color, "PPM", {}),
    }
    files = {}
    for name, (image, kind, options) in recipes.items():
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        files[name] = buffer.getvalue()
    return files


FILES = _files()


def changed(data: bytes, change: Change) -> bytes:
    kind, place, other, size = change
    i, j = int(place * len(data)), int(other * len(data))
    if kind == "flip":
        return data[:i] + bytes([data[i] ^ 1 << size % 8]) + data[i + 1 :] if data else data
    if kind == "truncate":
        return data[:i]
    if kind == "zero":
        return data[:i] + bytes(len(data[i : i + size])) + data[i + size :]
    if kind == "insert":
        return data[:i] + data[j : j + size] + data[i:]
    first, second = sorted((i, j))
    size = min(size, second - first, len(data) - second)
    return (
        data[:first] + data[second : second + size] + data[first + size : second]
        + data[first : first + size] + data[second + size :]
    )  # fmt: skip


# Half of the changes fall on the first tenth, where the headers are.
places = st.floats(0, 0.999) | st.floats(0, 0.1)
changes = st.tuples(
    st.sampled_from(["flip", "truncate", "zero", "insert", "swap"]),
    places,
    places,
    st.integers(1, 64),
)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("name", FILES)
@settings(deadline=None, max_examples=60, derandomize=True, database=None)
@given(st.lists(changes, max_size=3))
def test_decode_and_inspect_agree_on_any_mutant(name, mutations):
    data = FILES[name]
    for change in mutations:
        data = changed(data, change)
    sizes = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "MAX_PIXELS", 10**6)  # a mutated header may claim any size
        for act in (lambda: decode(data).shape[1::-1], lambda: inspect(data, 8)[:2]):
            try:
                sizes.append(act())
            except UnreadableImage:
                sizes.append(None)
    assert sizes[0] == sizes[1]
    assert mutations or sizes[0]
