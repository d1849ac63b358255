"""Any image a camera, a scanner or a phone writes becomes RGB, or says why not."""

import hashlib
import io
import os
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageOps

from headstart.common.vocabulary import Sizing
from headstart.images import decoding
from headstart.images.decoding import (
    UnreadableImage,
    UnusableImage,
    _orient,
    decode,
    inspect,
    read,
    read_checked,
)
from headstart.images.resizing import resize

Photo = Callable[..., np.ndarray]


def encode(image: Image.Image | np.ndarray, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(row: bytes, width: int, depth: int, color: int, *chunks: bytes) -> bytes:
    """A PNG of one row of packed samples."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, 1, depth, color, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\0" + row))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + pixels + chunk(b"IEND", b"")


def tiff(row: bytes, width: int, bits: int, photometric: int = 1) -> bytes:
    """A TIFF of one row of gray samples."""
    fields = [(256, width), (257, 1), (258, bits), (259, 1), (262, photometric), (273, 8)]
    fields += [(277, 1), (278, 1), (279, len(row))]
    row += bytes(len(row) % 2)
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in fields)
    return (
        b"II*\0" + struct.pack("<I", 8 + len(row)) + row
        + struct.pack("<H", len(fields)) + directory + bytes(4)
    )  # fmt: skip


@pytest.fixture(scope="module")
def picture(photo: Photo) -> np.ndarray:
    return photo(0, 60, 80)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "GIF", "WEBP", "JPEG2000"])
def test_lossless_formats_give_the_pixels_that_were_written(picture, kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    if kind == "GIF":
        picture = np.asarray(Image.fromarray(picture).quantize(64).convert("RGB"))
    decoded = decode(encode(picture, kind, **options))
    assert decoded.dtype == np.uint8
    assert decoded.flags.c_contiguous
    np.testing.assert_array_equal(decoded, picture)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"quality": 5}])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_jpeg_comes_out_as_pillow_decodes_it(picture, mode, options):
    data = encode(Image.fromarray(picture).convert(mode), "JPEG", **options)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(decode(data), expected)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(picture, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(picture, kind, exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    decoded = decode(data)
    np.testing.assert_array_equal(decoded, np.asarray(expected))
    assert decoded.shape[:2] == ((80, 60) if orientation >= 5 else (60, 80))
    inspection = inspect(data, 16)
    assert (inspection.height, inspection.width) == decoded.shape[:2]
    # The thumbnail is turned as well: shrunk, it looks like the decoded image shrunk.
    height, width = inspection.thumbnail.shape
    small = np.asarray(expected.convert("L").resize((width, height), Image.Resampling.BOX))
    assert np.abs(small.astype(int) - inspection.thumbnail).mean() < 6


def test_a_thumbnail_is_decoded_at_a_fraction_of_the_size(photo):
    data = encode(photo(1, 300, 400), "JPEG")
    full = decode(data)
    np.testing.assert_array_equal(decode(data, at_least=200), full)
    small = decode(data, at_least=100)
    assert small.shape == (150, 200, 3)
    assert np.abs(small.astype(int) - resize(full, Sizing((150, 200)))).mean() < 3
    with pytest.raises(UnreadableImage, match="damaged JPEG"):
        decode(data[:-50], at_least=100)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "MPO", "AVIF"])
def test_no_damage_of_an_exif_block_matters(photo, kind):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x829A] = 6, "A maker of cameras", (1, 100)
    data = encode(photo(0, 12, 16), kind, exif=exif)
    block = exif.tobytes().removeprefix(b"Exif\0\0")
    start = data.index(block)
    allowed = {_orient(_orient(decode(data), 8), k).tobytes() for k in range(1, 9)}
    rng = np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(block)
        for place in rng.integers(len(block), size=rng.integers(1, 5)):
            damaged[place] = rng.choice([0, 1, 127, 255, rng.integers(256)])
        file = data[:start] + damaged + data[start + len(block) :]
        if kind == "PNG":
            crc = zlib.crc32(b"eXIf" + damaged)
            end = start + len(block)
            file = file[:end] + struct.pack(">I", crc) + file[end + 4 :]
        pixels = decode(file)
        assert pixels.tobytes() in allowed
        assert inspect(file, 8)[:2] == pixels.shape[1::-1]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_damaged_exif_block_does_not_matter(picture):
    data = encode(picture, "JPEG")
    block = b"Exif\0\0MM\0*\xff\xff\xff\xff broken"
    data = data[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + data[2:]
    np.testing.assert_array_equal(decode(data), decode(encode(picture, "JPEG")))


def test_transparency_is_composited_on_white():
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[0, 0] = 255, 0, 0, 255
    pixels[0, 1] = 255, 0, 0, 0
    pixels[1, 0] = 0, 0, 0, 128
    expected = [[[255, 0, 0], [255, 255, 255]], [[127, 127, 127], [255, 255, 255]]]
    assert decode(encode(pixels, "PNG")).tolist() == expected


def test_a_palette_with_transparency_is_composited_on_white():
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 255, 10, 20, 30])
    image.putpixel((1, 0), 1)
    data = encode(image, "PNG", transparency=0)
    assert decode(data).tolist() == [[[255, 255, 255], [10, 20, 30]]]


def test_gray_with_alpha_is_composited_on_white():
    image = Image.fromarray(np.array([[[40, 255], [40, 0]]], np.uint8), "LA")
    assert decode(encode(image, "PNG")).tolist() == [[[40] * 3, [255] * 3]]


def test_16_bits_are_scaled_to_8():
    values = np.array([[0, 257, 32896, 65535]], np.uint16)
    for kind in ("PNG", "TIFF"):
        assert decode(encode(values, kind))[0, :, 0].tolist() == [0, 1, 128, 255]
    header = b"P5 4 1 65535\n"
    assert decode(header + values.astype(">u2").tobytes())[0, :, 0].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_12_bits_in_16_are_left_alone_but_remarked_on(kind):
    values = np.array([[0, 2000, 4095]], np.uint16)
    inspection = inspect(encode(values, kind), 1)
    assert inspection.remark.startswith("16 bits, but no value above 4,095 of 65,535, so nearly bl")
    assert decode(encode(values, kind))[0, :, 0].tolist() == [0, 8, 16]
    assert inspect(encode(values + np.uint16(1), kind), 1).remark == ""
    assert inspect(encode(values.astype(np.uint8), kind), 1).remark == ""


def test_12_bits_in_16_of_color_are_remarked_on_too():
    for color, samples in ((2, (4095, 7, 9)), (6, (4095, 7, 9, 65535))):
        dark = png(struct.pack(f">{len(samples)}H", *samples), 1, 16, color)
        assert "nearly black" in inspect(dark, 1).remark
        bright = png(struct.pack(f">{len(samples)}H", 4096, *samples[1:]), 1, 16, color)
        assert inspect(bright, 1).remark == ""


def test_a_range_that_the_file_states_is_used():
    assert decode(tiff(b"\xff\xf8\x00", 2, 12)).tolist() == [[[255] * 3, [128] * 3]]
    assert inspect(tiff(b"\xff\xf8\x00", 2, 12), 1).remark == ""
    header = b"P5 2 1 4095\n"
    assert decode(header + struct.pack(">HH", 4095, 2048))[0, :, 0].tolist() == [255, 128]
    # Zero is white here.
    assert decode(tiff(struct.pack("<HH", 0, 65535), 2, 16, 0))[0, :, 0].tolist() == [255, 0]
    assert decode(tiff(b"\0\xff", 2, 8, 0))[0, :, 0].tolist() == [255, 0]


def test_a_transparent_color_is_white_at_any_depth():
    def transparent(*values: int) -> bytes:
        return chunk(b"tRNS", struct.pack(f">{len(values)}H", *values))

    for depth, row in (
        (1, b"\x40"),
        (2, b"\x10"),
        (4, b"\x01"),
        (8, b"\0\x01"),
        (16, b"\0\0\0\x01"),
    ):
        first, second = decode(png(row, 2, depth, 0, transparent(0)))[0, :, 0]
        assert (first, second) == (255, (255 // (2**depth - 1)) if depth < 16 else 0)
        assert decode(png(row, 2, depth, 0, transparent(1)))[0, :, 0].tolist() == [0, 255]
    colors = struct.pack(">6H", 777, 777, 777, 5000, 6000, 60000)
    decoded = decode(png(colors, 2, 16, 2, transparent(777, 777, 777)))
    assert decoded.tolist() == [[[255] * 3, [19, 23, 234]]]
    gray_alpha = struct.pack(">4H", 25700, 65535, 5000, 0)
    assert decode(png(gray_alpha, 2, 16, 4)).tolist() == [[[100] * 3, [255] * 3]]


def test_other_modes_of_tiff_become_rgb():
    for mode, color, expected in (
        ("CMYK", (0, 255, 255, 0), [255, 0, 0]),
        ("RGBA", (9, 9, 9, 0), [255] * 3),
        ("LA", (40, 255), [40] * 3),
        ("1", 1, [255] * 3),
        ("I;16", 25700, [100] * 3),
    ):
        assert decode(encode(Image.new(mode, (2, 1), color), "TIFF")).tolist() == [[expected] * 2]


def test_cmyk_becomes_rgb():
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    decoded = decode(encode(image, "JPEG", quality=95))
    assert np.abs(decoded.astype(int) - [255, 0, 0]).max() <= 3


def test_one_bit_and_one_pixel():
    assert decode(encode(Image.new("1", (1, 1), 1), "PNG")).tolist() == [[[255, 255, 255]]]
    assert decode(encode(np.full((1, 1, 3), 7, np.uint8), "PNG")).tolist() == [[[7, 7, 7]]]
    assert inspect(encode(Image.new("L", (1, 1)), "JPEG"), 32)[:2] == (1, 1)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_an_animation_the_first_frame_is_taken(kind):
    frames = [Image.new("RGB", (8, 6), color) for color in ("red", "lime", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert Image.open(io.BytesIO(data)).n_frames == 3
    np.testing.assert_array_equal(decode(data), np.asarray(frames[0]))


def test_a_wrong_name_does_not_matter(tmp_path, picture):
    (tmp_path / "portrait.jpg").write_bytes(encode(picture, "PNG"))
    np.testing.assert_array_equal(decode(read(tmp_path / "portrait.jpg")), picture)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.98])
def test_a_truncated_file_is_refused(picture, kind, share):
    data = encode(picture, kind)
    for act in (decode, lambda data: inspect(data, 16)):
        with pytest.raises(UnreadableImage):
            act(data[: int(len(data) * share)])


def test_a_truncated_progressive_jpeg_is_refused(photo):
    data = encode(photo(3, 300, 400), "JPEG", progressive=True)
    for cut in (2, len(data) // 3, len(data) // 2):
        with pytest.raises(UnreadableImage, match="damaged JPEG"):
            decode(data[:-cut])
        with pytest.raises(UnreadableImage, match="damaged JPEG"):
            inspect(data[:-cut], 32)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"\0" * 1000, "no image: 1,000 zero bytes"),
        (b"hello, this is text", "no image of a known format"),
        (
            b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>",
            "SVG is not supported",
        ),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC/HEIF is not supported; convert it to JPEG"),
        (b"%PDF-1.7 ...", "no image of a known format"),
    ],
)
def test_what_is_no_image_says_why(data, reason):
    for act in (decode, lambda data: inspect(data, 16)):
        with pytest.raises(UnreadableImage, match=reason):
            act(data)


def _png_claiming(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def test_a_decompression_bomb_is_refused_before_decoding():
    with pytest.raises(
        UnreadableImage, match="50000 x 50000 = 2,500,000,000 pixels; at most 200,0"
    ):
        decode(_png_claiming(50_000, 50_000))
    # One within the limit gets as far as its missing data.
    with pytest.raises(UnreadableImage, match="damaged PNG"):
        inspect(_png_claiming(10_000, 20_000), 32)


def test_numbers_without_a_range_are_refused():
    floats = np.array([[0.1, 0.9]], np.float32)
    for data in (
        encode(Image.fromarray(floats), "TIFF"),
        encode(Image.new("I", (2, 1)), "TIFF"),
        b"Pf\n2 1\n-1.0\n" + floats.tobytes(),
    ):
        for act in (decode, lambda data: inspect(data, 1)):
            with pytest.raises(UnreadableImage, match="32 bits .* without a stated range"):
                act(data)


def test_a_png_whose_checksums_do_not_match_is_refused(picture):
    data = encode(picture, "PNG")
    middle = len(data) // 2
    # At the end of the pixels zlib has nothing left to compare.
    for start, end in ((middle, middle + 100), (len(data) - 40, len(data) - 12)):
        damaged = data[:start] + bytes(end - start) + data[end:]
        for act in (decode, lambda data: inspect(data, 16)):
            with pytest.raises(UnreadableImage, match="wrong checksum of chunk IDAT at byte 33"):
                act(damaged)
    # What comes after the first frame does not matter.
    np.testing.assert_array_equal(decode(data[:-12]), picture)


@pytest.mark.parametrize(
    ("compression", "reason"),
    [
        ("tiff_deflate", "ZIPDecode: "),
        ("group4", "Fax4Decode: "),
        ("jpeg", "JPEGLib: "),
    ],
)
def test_what_libtiff_cannot_decode_is_refused_without_a_word_of_its_own(
    picture, compression, reason, capfd
):
    mode = "1" if compression == "group4" else "RGB"
    data = encode(Image.fromarray(picture).convert(mode), "TIFF", compression=compression)
    assert decode(data).shape == picture.shape
    # The pixels stand at the beginning, the directory at the end.
    damaged = data[:12] + b"\xff\0\x55\xaa" * 50 + data[212:]
    for act in (decode, lambda data: inspect(data, 16)):
        with pytest.raises(UnreadableImage, match=f"damaged TIFF: {reason}"):
            act(damaged)
    assert capfd.readouterr() == ("", "")


def test_whatever_a_decoder_raises_refuses_the_image_in_one_line():
    image = Image.new("RGB", (3, 2))
    for error, reason in (
        (RecursionError(), "damaged image: RecursionError"),
        (struct.error("two\nlines"), "damaged image: two lines"),
        (MemoryError(), "not enough memory for 3 x 2 pixels"),
    ):
        with pytest.raises(UnreadableImage) as refused, decoding._refusing(image):
            raise error
        assert refused.value.reason == reason
        assert refused.value.lasting != isinstance(error, MemoryError)


def test_reading_says_what_is_wrong_with_the_file(tmp_path):
    with pytest.raises(UnreadableImage, match="no such file"):
        read(tmp_path / "missing.jpg")
    (tmp_path / "link.jpg").symlink_to("gone.jpg")
    with pytest.raises(UnreadableImage, match=r"broken link to gone\.jpg"):
        read(tmp_path / "link.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(UnreadableImage, match="not an ordinary file"):
        read(tmp_path / "pipe.jpg")
    (tmp_path / "raw.NEF").write_bytes(b"II*\0")
    with pytest.raises(UnreadableImage, match=r"camera raw \(\.NEF\) is not supported"):
        read(tmp_path / "raw.NEF")
    with (tmp_path / "huge.jpg").open("wb") as file:
        file.truncate(decoding.MAX_BYTES + 1)
    with pytest.raises(
        UnreadableImage, match="1,073,741,825 bytes; at most 1,073,741,824 are read"
    ):
        read(tmp_path / "huge.jpg")
    with pytest.raises(UnreadableImage, match="cannot be read"):
        read(tmp_path / ("x" * 300 + ".jpg"))


def test_a_file_without_permission_is_refused(tmp_path):
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(b"x")
    secret.chmod(0)
    privileged = os.geteuid() == 0
    if privileged:  # permissions do not bind root, so become somebody else
        os.seteuid(65534)
    try:
        with pytest.raises(UnreadableImage, match="no permission to read the file"):
            read(secret)
    finally:
        if privileged:
            os.seteuid(0)


def test_images_are_told_by_name_or_by_content(tmp_path, picture):
    for name in ("a.jpg", "b.HEIC", "c.svg", "d.dng"):
        assert decoding.is_image_like(tmp_path / name)
    for name in ("notes.txt", "no_ending"):
        (tmp_path / name).write_text("some words")
        assert not decoding.is_image_like(tmp_path / name)
    (tmp_path / "really_png").write_bytes(encode(picture, "PNG"))
    assert decoding.is_image_like(tmp_path / "really_png")


def test_a_listed_image_must_be_what_was_listed(tmp_path, picture):
    path = tmp_path / "a.png"
    path.write_bytes(encode(picture, "PNG"))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    np.testing.assert_array_equal(read_checked(path, sha256), picture)
    message = rf"a\.png: the file has changed: expected sha256 {'0' * 64}, received {sha256}; run"
    with pytest.raises(UnusableImage, match=message) as changed:
        read_checked(path, "0" * 64)
    assert changed.value.reason == "the file has changed"
    path.unlink()
    message = r"a\.png: the image could be read before, but not now: no such file; restore it"
    with pytest.raises(UnusableImage, match=message) as gone:
        read_checked(path, sha256)
    assert gone.value.reason == "no such file"
