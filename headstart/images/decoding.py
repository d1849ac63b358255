"""Reading images: from a file to RGB pixels of its own size."""

import hashlib
import io
import logging
import os
import stat
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from headstart.common import read_ahead, remote, tar_index
from headstart.common.errors import InputError
from headstart.common.read_ahead import remote_bytes
from headstart.common.urls import is_url, split_member, suffix_of
from headstart.images import jpeg, png, tiff
from headstart.images.budget import Budget

MAX_PIXELS = 200_000_000
"""Largest image that is decoded (width x height): phones stop at 200 megapixels. As many pixels are
decoded at a time, over all threads: what comes on top waits.
"""

MAX_BYTES = 2**30
"""Largest file that is read."""

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")
"""Pillow formats that are read; those that start other programs, such as EPS, are left out.

MPO, which cameras write, is opened as JPEG; Pillow has no reader of that name. TGA has no signature
that tells it from any other file.
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
# It would print what it logs, such as "More samples per pixel than can be decoded".
logging.getLogger("PIL").addHandler(logging.NullHandler())
# Pillow warns, without naming the file, of flaws that it can handle (damaged EXIF, odd palettes).
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

# Enough for a header; a JPEG's begins with whatever the camera has to say.
_HEAD_BYTES = 2**16

_under_way = Budget(MAX_PIXELS)

_TOP_OF_12_BITS = 4095
_DARK = (
    "16 bits, but no value above 4,095 of 65,535, so nearly black; if the file holds 12 bits or "
    "fewer, scale it to 16"
)
_PHOTOMETRIC = 262
"""The tag of TIFF that is 0 where the value 0 is white."""

_HEIF_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"})


class UnreadableImage(InputError):
    """An image file that cannot be decoded.

    Attributes:
        reason: One line, without the file's name, for the quarantine list.
        lasting: Whether the same bytes would fail again; False where the machine failed.
    """

    def __init__(self, reason: str, *, lasting: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.lasting = lasting


class UnusableImage(InputError):
    """A listed image whose file is gone, damaged or changed.

    Attributes:
        reason: One line, without the file's name.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Inspection(NamedTuple):
    """What a full, strict reading of an image's data found.

    Attributes:
        width: Width in pixels, orientation applied.
        height: Height in pixels, orientation applied.
        thumbnail: The image in gray, (h, w) uint8 in [0, 255], orientation applied; each side
            at least as long as requested, or as long as the image's own.
        remark: What is odd about it; empty for nothing.
    """

    width: int
    height: int
    thumbnail: NDArray[np.uint8]
    remark: str = ""


def is_image_like(path: str | Path) -> bool:
    """Return whether the name or the first bytes of a file, or URL, are those of an image.

    A link that leads nowhere may have led to one.
    """
    if suffix_of(path) in _IMAGE_LIKE:
        return True
    if is_url(path):
        return _begins_like_image(str(path))
    path = Path(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return False
        with Image.open(path, formats=FORMATS):
            return True
    # As in `_open`.
    except Exception:
        return path.is_symlink() and not path.exists()


def _begins_like_image(url: str) -> bool:
    try:
        start = remote.read(url, 0, _HEAD_BYTES)
        with Image.open(io.BytesIO(start), formats=FORMATS):
            return True
    # As in `_open`; the server may refuse anything, too.
    except Exception:
        return False


def read(path: str | Path) -> bytes:
    """Read a file that is supposed to be an image.

    Args:
        path: The file, or its URL, which only a string can hold; of a member of a tar that of the
            tar, a slash, and the member's name.

    Returns:
        Its bytes.

    Raises:
        UnreadableImage: it is missing, a broken link, not an ordinary file, larger than
            `MAX_BYTES`, without permission to read, or a camera's raw file; or a web server does
            not answer.
        InputError: a URL needs a package or credentials that are missing, or its store does not
            answer.
    """
    # Most are TIFF inside, and would be taken for the small preview that they begin with.
    if suffix_of(path) in _CAMERA_RAW:
        suffix = PurePosixPath(path).suffix
        raise UnreadableImage(f"camera raw ({suffix}) is not supported; convert it to JPEG")
    if is_url(path):
        return remote_bytes(str(path), _read_remote)
    path = Path(path)
    try:
        return _read_local(path)
    except NotADirectoryError as error:
        member = split_member(path)
        if member is None:
            raise UnreadableImage(f"cannot be read: {error}", lasting=False) from None
        return _read_member(*member)


def _read_local(path: Path) -> bytes:
    try:
        # A named pipe among the photos would block an ordinary open() forever.
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
    except NotADirectoryError:
        raise
    # A name too long, a zero byte in it, a failing disk, no memory.
    except (OSError, ValueError, MemoryError) as error:
        said = str(error) or type(error).__name__
        raise UnreadableImage(f"cannot be read: {said}", lasting=False) from None


def _read_member(tar: str, name: str) -> bytes:
    try:
        member = tar_index.index_of(tar).members.get(name)
        if member is None:
            raise UnreadableImage("no such file")
        if member.size > MAX_BYTES:
            raise UnreadableImage(f"{member.size:,} bytes; at most {MAX_BYTES:,} are read")
        return tar_index.read_member(tar, member)
    except OSError as error:
        raise UnreadableImage(f"cannot be read: {error}", lasting=False) from None


def _read_remote(url: str) -> bytes:
    member = split_member(url)
    try:
        return remote.read(url) if member is None else _read_member(*member)
    except remote.Missing:
        raise UnreadableImage("no such file") from None
    except remote.Forbidden:
        raise UnreadableImage("no permission to read the file") from None
    except remote.RemoteError as error:
        # A store that does not answer would leave out all that is in it, one by one; of web servers
        # a table may name many.
        if not (error.lasting or url.startswith("http")):
            raise
        raise UnreadableImage(error.reason, lasting=error.lasting) from None


@contextmanager
def reading_ahead() -> Iterator[Callable[[Iterable[str]], None]]:
    """Give what takes the paths that `read` will be asked for soon, in order.

    Remote ones are fetched meanwhile, several at a time; others are passed over.
    """
    with read_ahead.reading_ahead(_read_remote) as want:
        # `read` refuses these by their names, and would never fetch what was read ahead.
        yield lambda paths: want(path for path in paths if suffix_of(path) not in _CAMERA_RAW)


def decode(data: bytes, *, at_least: int | None = None) -> NDArray[np.uint8]:
    """Decode an image file's bytes.

    EXIF orientation is applied, transparency composited on white, 16 bits scaled to 8, CMYK and
    gray converted to RGB; the first frame stands for an animation. Color profiles are ignored.

    Args:
        data: The whole file.
        at_least: For thumbnails: a JPEG may be decoded at a half, a quarter or an eighth of its
            size, which is several times faster, as long as both sides keep this many pixels.

    Returns:
        RGB in [0, 255], (height, width, 3) uint8, C-contiguous.

    Raises:
        UnreadableImage: the data are not a complete image of a known format, or have more than
            `MAX_PIXELS`.
    """
    image = _open(data)
    is_jpeg = image.format in ("JPEG", "MPO")
    scale = 1 if at_least is None or not is_jpeg else jpeg.scale_for(image.size, at_least)
    with _under_way.hold(image.width * image.height), _refusing(image):
        if is_jpeg and (pixels := _decode_jpeg(image, data, "RGB", scale)) is not None:
            return _orient(pixels, _orientation(image))
        return _decode_rest(image, data)[0]


def to_pixels(image: Image.Image) -> NDArray[np.uint8]:
    """Return the pixels of an image that Pillow holds, by the rules of `decode`.

    Returns:
        RGB in [0, 255], (height, width, 3) uint8.

    Raises:
        UnreadableImage: it cannot be loaded, or its pixels have no stated range.
    """
    with _under_way.hold(image.width * image.height), _refusing(image):
        return _decode_rest(image, b"")[0]


def read_checked(path: str | Path, sha256: str) -> NDArray[np.uint8]:
    """Read and decode an image file whose content is known.

    Args:
        path: The file, or its URL.
        sha256: Hexadecimal digest that its bytes must have.

    Returns:
        RGB in [0, 255], (height, width, 3) uint8.

    Raises:
        UnusableImage: it can no longer be read, or its content has changed.
    """
    try:
        data = read(path)
        received = hashlib.sha256(data).hexdigest()
        if received != sha256:
            raise UnusableImage(
                "the file has changed",
                f"{path}: the file has changed: expected sha256 {sha256}, received {received}; run "
                "`dvc repro prepare` to include it as it is now",
            )
        return decode(data)
    except UnreadableImage as error:
        raise UnusableImage(
            error.reason,
            f"{path}: the image could be read before, but not now: {error.reason}; restore it, or "
            "run `dvc repro prepare` to leave it out",
        ) from None


def inspect(data: bytes, side: int) -> Inspection:
    """Check that an image can be decoded to its last row, and shrink it on the way.

    A JPEG is decoded at a fraction of its size, which takes a fifth of the time; all of its data
    are read nevertheless.

    Args:
        data: The whole file.
        side: Smallest height and width of the thumbnail, in pixels.

    Returns:
        Size and thumbnail.

    Raises:
        UnreadableImage: as `decode`.
    """
    image = _open(data)
    width, height = image.size
    with _refusing(image):
        if image.format in ("JPEG", "MPO"):
            scale = jpeg.scale_for(image.size, side)
            # Only a progressive file is held in memory as a whole.
            share = width * height // (1 if "progressive" in image.info else scale**2)
            with _under_way.hold(share):
                gray = _decode_jpeg(image, data, "GRAY", scale)
            if gray is not None:
                thumbnail = _shrunk(Image.fromarray(gray[..., 0]), side)
                if (orientation := _orientation(image)) >= 5:
                    width, height = height, width
                return Inspection(width, height, _orient(thumbnail, orientation))
        with _under_way.hold(width * height):
            # In color first, so that transparency and depth are handled as in `decode`.
            pixels, remark = _decode_rest(image, data)
            thumbnail = _shrunk(Image.fromarray(pixels), side)
    height, width = pixels.shape[:2]
    return Inspection(width, height, thumbnail, remark)


def _open(data: bytes) -> Image.Image:
    """Read the header; refuse what is known to fail and what would fill the memory."""
    if not data:
        raise UnreadableImage("empty file (0 bytes)")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    # Pillow's plugins may raise anything when they parse damaged data.
    except Exception as error:
        # A damaged EXIF block makes libavif refuse an AVIF; items of unknown types it passes over.
        if data[4:8] == b"ftyp" and b"Exif" in data:
            return _open(data.replace(b"Exif", b"skip"))
        lasting = not isinstance(error, MemoryError)
        raise UnreadableImage(_why_unidentified(data, error), lasting=lasting) from None
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise UnreadableImage(
            f"{width} x {height} = {width * height:,} pixels; at most {MAX_PIXELS:,} are decoded"
        )
    return image


@contextmanager
def _refusing(image: Image.Image) -> Iterator[None]:
    """Turn whatever a decoder raises into `UnreadableImage`."""
    try:
        yield
    except UnreadableImage:
        raise
    except MemoryError:
        raise UnreadableImage(
            f"not enough memory for {image.width} x {image.height} pixels", lasting=False
        ) from None
    # As in `_open`: OSError, SyntaxError, ValueError, struct.error, EOFError...
    except Exception as error:
        kind = image.format or "image"
        said = " ".join(str(error).split()) or type(error).__name__
        raise UnreadableImage(f"damaged {kind}: {said}") from None


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
    return "damaged image: " + (" ".join(str(error).split()) or type(error).__name__)


def _shrunk(image: Image.Image, side: int) -> NDArray[np.uint8]:
    image = image.convert("L")
    factor = min(image.width // side, image.height // side)
    return np.array(image.reduce(factor) if factor > 1 else image)


def _decode_jpeg(
    image: Image.Image, data: bytes, colorspace: str, scale: int
) -> NDArray[np.uint8] | None:
    """Decode to (h, w, 3) or (h, w, 1), as the file lies; None if that takes Pillow."""
    if image.mode not in ("L", "RGB"):
        # Pillow's colors are kept; the smallest size is enough to hear of lost pixels.
        jpeg.decode(data, "CMYK", image.size, 8)
        return None
    return jpeg.decode(data, colorspace, image.size, scale)


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 if there is none."""
    if image.format == "JPEG" and "exif" not in image.info:
        return 1
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    # A damaged EXIF block, whatever is raised for it, does not mean damaged pixels.
    except Exception:
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


def _decode_rest(image: Image.Image, data: bytes) -> tuple[NDArray[np.uint8], str]:
    """Decode with Pillow, strictly, to (h, w, 3), oriented; return a remark as well."""
    if image.format == "PNG":
        png.check(data)
    raw_mode = _raw_mode(image)  # gone once it is loaded
    with tiff.listening() as lost:
        try:
            image.load()
        # Where libtiff has said what is lost, that tells more than whatever Pillow raises for it.
        except Exception:
            if not lost:
                raise
        if lost:
            raise ValueError(lost[0])
    orientation = _orientation(image)
    image, remark = _to_8_bits(image, raw_mode)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    if image.mode != "RGB":  # it would be copied
        image = image.convert("RGB")
    return _orient(np.array(image), orientation), remark


def _raw_mode(image: Image.Image) -> str:
    """Return how the file holds a pixel, such as "RGB;16B"; "" where it is not told."""
    tile = getattr(image, "tile", None)
    arguments = tile[0].args if tile else None
    if isinstance(arguments, tuple) and arguments:
        arguments = arguments[0]
    return arguments if isinstance(arguments, str) else ""


def _to_8_bits(image: Image.Image, raw_mode: str) -> tuple[Image.Image, str]:
    """Scale more bits to 8; return a remark on files that use little of their 16 bits."""
    transparent = image.info.get("transparency")
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        # Among 32-bit images only PPM has a known range: Pillow scales it to 16 bits.
        if not image.mode.startswith("I;16") and (image.mode, image.format) != ("I", "PPM"):
            raise UnreadableImage(
                f"pixels of 32 bits (mode {image.mode}) without a stated range; "
                "convert it to 8 or 16 bits"
            )
        values = np.asarray(image)
        top = _TOP_OF_12_BITS if raw_mode.startswith("I;12") else 65535
        table = ((np.arange(top + 1) * 255 + top // 2) // top).astype(np.uint8)
        largest = int(values.max())
        if getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0:  # of which Pillow minds 8 bits only
            table, largest = table[::-1].copy(), top - int(values.min())
        if isinstance(transparent, int) and transparent <= top:
            table[transparent] = 255
        dark = top > _TOP_OF_12_BITS and largest <= _TOP_OF_12_BITS
        return Image.fromarray(table[values]), _DARK if dark else ""
    if ";16" in raw_mode and image.mode in ("RGB", "RGBA"):
        # Pillow has kept the upper 8 of 16 bits.
        if isinstance(transparent, tuple):
            image = image.copy()
            image.info["transparency"] = tuple(value >> 8 for value in transparent)
        largest = int(np.asarray(image)[..., :3].max())
        return image, _DARK if largest <= _TOP_OF_12_BITS >> 8 else ""
    if raw_mode in ("L;2", "L;4") and isinstance(transparent, int):
        # Pillow has scaled the pixels, but not the value that is transparent.
        image = image.copy()
        image.info["transparency"] = transparent * (85 if raw_mode == "L;2" else 17)
    return image, ""
