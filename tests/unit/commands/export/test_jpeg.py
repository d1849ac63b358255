import io

import numpy as np
import pytest
from PIL import ExifTags, Image

from headstart.commands.export.jpeg import decode_oriented
from headstart.common.tensorflow_runtime import tf
from headstart.images.decoding import decode

DECODE = tf.function(decode_oriented, input_signature=[tf.TensorSpec((), tf.string)])


def jpeg(pixels, **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90, **options)
    return buffer.getvalue()


def exif(orientation, order="II"):
    """An Exif block with two entries before the orientation, in either byte order."""
    endian = {"II": "little", "MM": "big"}[order]

    def number(value, size):
        return value.to_bytes(size, endian)

    entries = [(0x0100, 640), (0x0101, 480), (0x0112, orientation)]
    directory = number(len(entries), 2)
    for tag, value in entries:
        directory += number(tag, 2) + number(3, 2) + number(1, 4) + number(value, 2) + b"\0\0"
    return b"Exif\0\0" + order.encode() + number(42, 2) + number(8, 4) + directory + b"\0" * 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["II", "MM"])
def test_turns_as_the_pipeline_does(photo, orientation, order):
    data = jpeg(photo(1, 30, 44), exif=exif(orientation, order))
    with Image.open(io.BytesIO(data)) as image:
        assert image.getexif()[ExifTags.Base.Orientation] == orientation
    np.testing.assert_array_equal(DECODE(data), decode(data))


def test_decodes_as_the_pipeline_does(photo):
    colour, grey = photo(2, 61, 83), photo(3, 40, 40)[..., 0]
    for data in (jpeg(colour), jpeg(colour, subsampling=0), jpeg(colour, progressive=True)):
        np.testing.assert_array_equal(DECODE(data), decode(data))
    np.testing.assert_array_equal(DECODE(jpeg(grey)), decode(jpeg(grey)))


@pytest.mark.parametrize("orientation", [0, 9, 700])
def test_an_orientation_that_does_not_exist_turns_nothing(photo, orientation):
    data = jpeg(photo(1, 30, 44), exif=exif(orientation))
    np.testing.assert_array_equal(DECODE(data), decode(jpeg(photo(1, 30, 44))))


def test_a_cut_off_exif_block_turns_nothing(photo):
    data = jpeg(photo(1, 30, 44), exif=exif(6)[:20])
    np.testing.assert_array_equal(DECODE(data), decode(jpeg(photo(1, 30, 44))))
