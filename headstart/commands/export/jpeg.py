"""`headstart.images.decoding.decode` for JPEG files as a TensorFlow graph, orientation included."""

from typing import Any

from headstart.common.tensorflow_runtime import tf

Tensor = Any  # a tf.Tensor; TensorFlow ships no type information

# Source: Exif 2.32, JEITA CP-3451E: section 4.5.4 (APP1), 4.6.2 (IFD), tag 0x0112 (Orientation).
_APP1, _START_OF_SCAN, _ORIENTATION = 0xE1, 0xDA, 0x0112
_EXIF = (0x45, 0x78, 0x69, 0x66, 0, 0)  # "Exif"


def decode_oriented(data: Tensor) -> Tensor:
    """Decode one JPEG file, grey or colour.

    Args:
        data: () string, the whole file.

    Returns:
        RGB in [0, 255], (height, width, 3) uint8, turned as its EXIF orientation says.
    """
    # Exact decoding: TensorFlow's default is a faster, coarser transform than Pillow's.
    pixels = tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")
    orientation = _orientation(data)
    pixels = tf.cond(orientation >= 5, lambda: tf.transpose(pixels, (1, 0, 2)), lambda: pixels)
    upside_down = tf.reduce_any(orientation == [3, 4, 7, 8])
    pixels = tf.cond(upside_down, lambda: tf.reverse(pixels, [0]), lambda: pixels)
    mirrored = tf.reduce_any(orientation == [2, 3, 6, 7])
    return tf.cond(mirrored, lambda: tf.reverse(pixels, [1]), lambda: pixels)


def _orientation(data: Tensor) -> Tensor:
    """Return the EXIF orientation, 1 to 8; 1 where none is told or the block is damaged."""
    file = tf.cast(tf.io.decode_raw(data, tf.uint8), tf.int32)
    length = tf.size(file)

    def byte(position: Tensor) -> Tensor:
        inside = (position >= 0) & (position < length)
        return tf.where(inside, tf.gather(file, tf.clip_by_value(position, 0, length - 1)), 0)

    def size_of(segment: Tensor) -> Tensor:
        return 256 * byte(segment + 2) + byte(segment + 3)

    def is_exif(segment: Tensor) -> Tensor:
        identifier = byte(segment + 4 + tf.range(len(_EXIF)))
        return (byte(segment + 1) == _APP1) & tf.reduce_all(identifier == _EXIF)

    def goes_on(segment: Tensor) -> Tensor:
        marker = byte(segment) == 0xFF
        return marker & (byte(segment + 1) != _START_OF_SCAN) & ~is_exif(segment)

    segment = tf.while_loop(
        goes_on, lambda segment: (segment + 2 + tf.maximum(size_of(segment), 2),), (tf.constant(2),)
    )[0]
    # Positions within the block count from here.
    start = segment + 4 + len(_EXIF)
    little = byte(start) == 0x49

    def two_bytes(position: Tensor) -> Tensor:
        first, second = byte(position), byte(position + 1)
        return tf.where(little, first + 256 * second, 256 * first + second)

    def four_bytes(position: Tensor) -> Tensor:
        first, second = two_bytes(position), two_bytes(position + 2)
        return tf.where(little, first + 65536 * second, 65536 * first + second)

    directory = start + four_bytes(start + 4)
    entries = directory + 2 + 12 * tf.range(two_bytes(directory))
    is_orientation = two_bytes(entries) == _ORIENTATION
    value = tf.reduce_max(tf.where(is_orientation, two_bytes(entries + 8), 0))
    told = is_exif(segment) & (value >= 1) & (value <= 8)
    return tf.where(told, value, 1)
