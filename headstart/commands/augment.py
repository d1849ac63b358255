"""`headstart augment`: draw an image's augmented views on a contact sheet."""

import argparse
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from headstart.commands import arguments
from headstart.common.errors import InputError
from headstart.common.files import atomic_write
from headstart.common.progress import notify
from headstart.common.text import counted
from headstart.common.vocabulary import Sizing
from headstart.configuration.params import load_params
from headstart.dataset.walking import Unlistable, files_below
from headstart.extraction.bottleneck import network_of
from headstart.images import decoding
from headstart.images.contact_sheet import SheetImage, contact_sheet

_DEFAULT_VIEWS = 8
_FROM_A_FOLDER = 6
"""Number of images that are shown of a folder."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "paths",
        metavar="PATH",
        nargs="+",
        type=arguments.path,
        help=f"an image, or a folder, of which the first {_FROM_A_FOLDER} images are shown; there, "
        "files that cannot be read are passed over",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("views.png"),
        help="picture to write; its ending chooses the format (default: %(default)s)",
    )
    parser.add_argument(
        "--views",
        type=arguments.whole_number(1, 100),
        help="views of each image, 1 to 100 (default: extract.augment.views of params.yaml, or "
        f"{_DEFAULT_VIEWS} when that is 0)",
    )
    parser.add_argument(
        "--image-size",
        type=_image_size,
        metavar="PIXELS",
        help="side of the views, or HEIGHTxWIDTH (default: extract.image_size of params.yaml)",
    )
    parser.epilog = "The recipe is extract.augment of params.yaml; `dvc repro` uses the same views."


def run(args: argparse.Namespace) -> int:
    """Write the sheet.

    Raises:
        InputError: an image cannot be read, a folder holds none that can, or the output's ending
            names no format of pictures.
    """
    extract = load_params().extract
    network = network_of(extract)
    spec, image_size = network.spec, network.image_size
    if args.image_size:
        image_size = spec.image_size(args.image_size)
    n_views = args.views or extract.augment.views or _DEFAULT_VIEWS
    if args.output.suffix.lower() not in decoding.SUFFIXES:
        raise InputError(
            f"{args.output}: expected a file name that ends in .png, .jpg or .webp; give one "
            "with --output"
        )
    shown = 0

    def images() -> Iterator[SheetImage]:
        nonlocal shown
        for path in map(Path, args.paths):
            for image in _images_of(path):
                shown += 1
                yield image

    sheet = contact_sheet(
        images(),
        extract.augment,
        n_views,
        Sizing(image_size, extract.resize, spec.interpolation),
    )
    with atomic_write(args.output) as temporary:
        sheet.save(temporary)
    print(
        f"{args.output}: {counted(n_views, 'view')} of {counted(shown, 'image')} "
        f"at {image_size[0]} x {image_size[1]} pixels"
    )
    return 0


def _images_of(path: Path) -> Iterator[SheetImage]:
    """Yield an image, or the first ones of a folder that can be read; tell of the others."""
    if not path.is_dir():
        yield _sheet_image(path)
        return
    left, found = _FROM_A_FOLDER, False
    for below in files_below(path):
        if isinstance(below, Unlistable):
            notify(f"warning: {below.path}: {below.reason}; passed over")
            continue
        if not decoding.is_image_like(Path(below)):
            continue
        if not left:
            return
        found = True
        try:
            yield _sheet_image(Path(below))
            left -= 1
        except InputError as error:
            notify(f"warning: {error}; passed over")
    if left == _FROM_A_FOLDER:
        raise InputError(
            f"{path}: no {'readable ' if found else ''}image in this folder; give an image or a "
            "folder with some"
        )


def _sheet_image(path: Path) -> SheetImage:
    try:
        data = decoding.read(path)
        pixels = decoding.decode(data)
    except decoding.UnreadableImage as error:
        raise InputError(f"{path}: {error.reason}") from None
    label = "/".join(path.parts[-2:])
    return SheetImage(label, pixels, hashlib.sha256(data).hexdigest())


def _image_size(text: str) -> int | tuple[int, int]:
    match = re.fullmatch(r"(\d{1,4})(?:x(\d{1,4}))?", text)
    sides = [int(side) for side in match.groups() if side] if match else []
    if not sides or not all(1 <= side <= 4096 for side in sides):
        raise argparse.ArgumentTypeError(
            f"expected pixels from 1 to 4096, such as 224 or 192x256, received {text}"
        )
    return sides[0] if len(sides) == 1 else (sides[0], sides[1])
