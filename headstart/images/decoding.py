"""Reading images: from a file's bytes to RGB pixels of a wanted size."""

import io
import os
import stat
import struct
import warnings
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from headstart.common.errors import InputError
from headstart.common.vocabulary import Interpolation, Resize

MAX_PIXELS = 200_000_000
"""Largest image that is decoded (width x height): phones stop at 200 megapixels."""

MAX_BYTES = 2**30
"""Largest file that is read."""

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")
"""Pillow formats that are read; leaving out those that start other programs, such as EPS.

MPO, which cameras write, is opened as JPEG; Pillow knows no reader of that name. TGA has no mark
by which to tell it from any other file.
"""

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib"}
    | {".tif", ".tiff", ".avif", ".jp2", ".j2k", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm"}
)
"""Lower-case file name endings of `FORMATS`."""

_CAMERA_RAW = frozenset(
    {".arw", ".cr2", ".cr3", ".dng", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".srw"}
)
_IMAGE_LIKE = SUFFIXES | _CAMERA_RAW | {".heic", ".heif", ".hif", ".svg", ".svgz", ".psd", ".tga"}

# The size is checked against MAX_PIXELS as soon as the header is read, before any pixel; Pillow's
# own limit would warn on standard error at a number of its own.
Image.MAX_IMAGE_PIXELS = None
# What Pillow can read all the same (damaged EXIF, odd palettes) would be warned of without a name.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"})


class UnreadableImage(InputError):  # noqa: N818 - it is a thing in the data, not a fault in code
    """An image file that gives no pixels.

    Attributes:
        reason: One line, without the file's name, for the quarantine list.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Inspection(NamedTuple):
    """What a full, strict reading of an image's data found.

    Attributes:
        width: Width in pixels, orientation applied.
        height: Height in pixels, orientation applied.
        thumbnail: The image in grey, (h, w) uint8 in [0, 255], orientation applied; each side
            at least that asked for, or the image's own.
    """

    width: int
    height: int
    thumbnail: NDArray[np.uint8]


def is_image_like(path: Path) -> bool:
    """Tell whether a file is an image by its name, or, under another name, by its first bytes."""
    if path.suffix.lower() in _IMAGE_LIKE:
        return True
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return False
        with Image.open(path, formats=FORMATS):
            return True
    # As in `_open`: what else is there may look like anything.
    except Exception:
        return False


def read(path: Path) -> bytes:
    """Read a file that is said to be an image.

    Args:
        path: The file.

    Returns:
        Its bytes.

    Raises:
        UnreadableImage: it is missing, a broken link, no ordinary file, larger than `MAX_BYTES`,
            may not be read, or is a camera's raw file.
    """
    # Most are TIFF inside, and would be taken for the small preview that they begin with.
    if path.suffix.lower() in _CAMERA_RAW:
        raise UnreadableImage(f"camera raw ({path.suffix}) is not supported; convert it to JPEG")
    try:
        # A named pipe among the photos would block an ordinary open() for ever.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise UnreadableImage("not an ordinary file")
            if status.st_size > MAX_BYTES:
                raise UnreadableImage(f"{status.st_size:,} bytes; at most {MAX_BYTES:,} are read")
            return file.read()
    except FileNotFoundError:
        if path.is_symlink():
            raise UnreadableImage(f"broken link to {path.readlink()}") from None
        raise UnreadableImage("no such file") from None
    except PermissionError:
        raise UnreadableImage("no permission to read the file") from None
    except (OSError, ValueError) as error:  # a name too long, a zero byte in it, a failing disk
        raise UnreadableImage(f"cannot be read: {error}") from None


def decode(data: bytes, *, at_least: int | None = None) -> NDArray[np.uint8]:
    """Decode an image file's bytes.

    EXIF orientation is applied, transparency composited on white, 16 bits scaled to 8, CMYK and
    grey turned into RGB; of an animation the first frame is taken. Colour profiles are ignored.

    Args:
        data: The whole file.
        at_least: For a thumbnail: a JPEG may come at a half, a quarter or an eighth of its size
            as long as both sides keep so many pixels, which is several times faster.

    Returns:
        RGB in [0, 255], (height, width, 3) uint8, C-contiguous.

    Raises:
        UnreadableImage: the data are no complete image of a known format, or hold more than
            `MAX_PIXELS`.
    """
    image = _open(data)
    size = image.size
    if at_least is not None:
        image.draft(None, (at_least, at_least))
    if image.size == size and _opencv_gives_the_same(image, data):
        pixels = cv2.imdecode(
            np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
        )
        if pixels is not None and pixels.shape[:2] == (image.height, image.width):
            return _orient(pixels, _orientation(image))
    return np.array(_to_rgb(_load(image)))


def inspect(data: bytes, side: int) -> Inspection:
    """Check that an image can be decoded to its last row, and shrink it on the way.

    A JPEG is decoded at a fraction of its size (its whole data are read all the same), which
    takes a fifth of the time.

    Args:
        data: The whole file.
        side: Smallest height and width of the thumbnail, in pixels.

    Returns:
        Size and thumbnail.

    Raises:
        UnreadableImage: as `decode`.
    """
    image = _open(data)
    if image.format in ("JPEG", "MPO") and image.mode in ("L", "RGB"):
        height, width = image.height, image.width
        orientation = _orientation(image)
        image.draft("L", (side, side))
        grey = _orient(_shrunk(_load(image), side), orientation)
        if orientation >= 5:
            height, width = width, height
        return Inspection(width, height, grey)
    # In colour first, so that transparency and depth are treated as `decode` does.
    image = _to_rgb(_load(image))
    return Inspection(image.width, image.height, _shrunk(image, side))


def resize(
    image: NDArray[np.uint8],
    image_size: tuple[int, int],
    *,
    method: Resize = "stretch",
    interpolation: Interpolation = "bilinear",
) -> NDArray[np.uint8]:
    """Bring an image to a size, antialiased.

    Args:
        image: RGB in [0, 255], (H, W, 3) uint8.
        image_size: Wanted (height, width) in pixels.
        method: "stretch" takes the whole image and changes its proportions; "crop" keeps them
            and takes the largest centred part; "pad" keeps them and the whole image, with black
            on two sides.
        interpolation: Pillow's filter, its support widened when shrinking.

    Returns:
        (height, width, 3) uint8.

    Source:
        What is cropped and padded, and black: Keras 3, `keras.utils.image_dataset_from_directory`
        (crop_to_aspect_ratio, pad_to_aspect_ratio).
    """
    height, width = image_size
    own_height, own_width = image.shape[:2]
    if (own_height, own_width) == (height, width):
        return image
    # Whole pixels, computed in whole numbers: an exported model must come to the same ones.
    if method == "crop":
        kept_height = max(1, min(own_height, own_width * height // width))
        kept_width = max(1, min(own_width, own_height * width // height))
        top, left = (own_height - kept_height) // 2, (own_width - kept_width) // 2
        kept = image[top : top + kept_height, left : left + kept_width]
        return _stretch(np.ascontiguousarray(kept), height, width, interpolation)
    if method == "pad":
        inner_height = max(1, min(height, (2 * own_height * width + own_width) // (2 * own_width)))
        inner_width = max(1, min(width, (2 * own_width * height + own_height) // (2 * own_height)))
        top, left = (height - inner_height) // 2, (width - inner_width) // 2
        padded = np.zeros((height, width, 3), np.uint8)
        padded[top : top + inner_height, left : left + inner_width] = _stretch(
            image, inner_height, inner_width, interpolation
        )
        return padded
    return _stretch(image, height, width, interpolation)


def _stretch(
    pixels: NDArray[np.uint8], height: int, width: int, interpolation: Interpolation
) -> NDArray[np.uint8]:
    """Resize across, then down; pixels are rounded in between.

    Pillow would do both in one call, but in an order that depends on its version and on the
    image's shape (from 13 on, tall images downwards first), and the order shows in the pixels.
    """
    image = Image.fromarray(pixels)
    for size in ((width, image.height), (width, height)):
        if image.size != size:
            image = image.resize(size, _FILTERS[interpolation])
    return np.array(image)


def _open(data: bytes) -> Image.Image:
    """Read the header, refusing what is known to fail and what would fill the memory."""
    if not data:
        raise UnreadableImage("empty file (0 bytes)")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    # Pillow's plugins raise whatever their parsing of damaged data runs into.
    except Exception as error:
        raise UnreadableImage(_why_unidentified(data, error)) from None
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise UnreadableImage(
            f"{width} x {height} = {width * height:,} pixels; at most {MAX_PIXELS:,} are decoded"
        )
    return image


def _load(image: Image.Image) -> Image.Image:
    """Decode, strictly: a file that ends early raises."""
    kind = image.format
    try:
        image.load()
    # As in `_open`: damaged data raise OSError, SyntaxError, ValueError, struct.error, EOFError...
    except Exception as error:
        raise UnreadableImage(f"damaged {kind}: {error}") from None
    return image


def _why_unidentified(data: bytes, error: Exception) -> str:
    start = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS:
        return "HEIC/HEIF is not supported; convert it to JPEG or PNG"
    if start.startswith(b"<svg") or (start.startswith(b"<") and b"<svg" in start):
        return "SVG is not supported; convert it to PNG"
    if not any(data):
        return f"no image: {len(data):,} zero bytes"
    if isinstance(error, UnidentifiedImageError):
        return f"no image of a known format ({', '.join(FORMATS)})"
    return f"damaged image: {error}"


def _shrunk(image: Image.Image, side: int) -> NDArray[np.uint8]:
    image = image.convert("L")
    factor = min(image.width // side, image.height // side)
    return np.array(image.reduce(factor) if factor > 1 else image)


def _opencv_gives_the_same(image: Image.Image, data: bytes) -> bool:
    """Tell whether OpenCV's faster decoding gives Pillow's bytes for this file.

    Both call libjpeg-turbo with the same settings, on one or three components. OpenCV fills up
    what is missing without a word, hence the end marker; other files are left to Pillow.
    """
    return image.format == "JPEG" and image.mode in ("L", "RGB") and data.endswith(b"\xff\xd9")


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 where none is told."""
    if image.format == "JPEG" and "exif" not in image.info:
        return 1
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    # A damaged EXIF block says nothing about the pixels.
    except (SyntaxError, ValueError, KeyError, IndexError, TypeError, OSError, struct.error):
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _orient(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undo an EXIF orientation of (h, w) or (h, w, 3). Source: Exif 2.32, tag 0x0112."""
    if orientation == 1:
        return pixels
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _to_rgb(image: Image.Image) -> Image.Image:
    """Orient a loaded image and bring it to 8-bit RGB."""
    if _orientation(image) != 1:
        image = ImageOps.exif_transpose(image)
    try:
        if image.mode in ("I", "F") or image.mode.startswith("I;"):
            image = _to_8_bits(image)
        if image.has_transparency_data:
            image = image.convert("RGBA")
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image)
        return image.convert("RGB")
    except ValueError as error:
        raise UnreadableImage(f"pixels of mode {image.mode}: {error}") from None


def _to_8_bits(image: Image.Image) -> Image.Image:
    # Of 32-bit modes only PPM states its range: Pillow scales it to 16 bits.
    if not image.mode.startswith("I;16") and image.format != "PPM":
        raise UnreadableImage(
            f"pixels of 32 bits (mode {image.mode}) without a stated range; "
            "convert it to 8 or 16 bits"
        )
    values = np.asarray(image).astype(np.uint32)
    return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
