"""The source's pixels: images decoded once into a file, read from there in each epoch."""

import hashlib
import math
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.common.errors import InputError
from headstart.common.files import reserve
from headstart.common.progress import notify, progress
from headstart.common.system_errors import writing
from headstart.common.vocabulary import Sizing
from headstart.dataset.duplicates import components
from headstart.dataset.splits import Sample, assign
from headstart.images import decoding
from headstart.images.decoding import UnreadableImage
from headstart.images.resizing import resize
from headstart.pretraining.listing import SourceListing
from headstart.pretraining.options import SOURCE_KEY, PretrainRun


@dataclass(frozen=True, slots=True)
class SourceImages:
    """All readable images of a source, in order of their paths.

    Attributes:
        pixels: (n_images, height, width, 3) uint8, RGB in [0, 255], mapped from a file.
        sha256: Of each image's file.
        labels: (n_images,) index into `class_names`; all 0 where labels do not matter.
        class_names: Sorted; empty where labels do not matter.
        train: Rows to train on.
        validation: Rows to validate on; may be empty.
        unreadable: Number of images left out.
    """

    pixels: NDArray[np.uint8]
    sha256: tuple[str, ...]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    unreadable: int


@contextmanager
def open_source(
    listing: SourceListing, run: PretrainRun, sizing: Sizing, scratch: Path
) -> Iterator[SourceImages]:
    """Decode a source's images; what is written for that is gone when the block ends.

    A given split is kept. Otherwise a share is held out for validation, so that equal images and
    those of a group stay together.

    Args:
        listing: The images.
        run: Its validation share and seed count.
        sizing: How an image becomes what the network sees.
        scratch: Folder on a disk with room for all images uncompressed.

    Raises:
        InputError: no image can be read, a class has none, or a file has changed since it was
            listed.
    """
    # A file without a name: whatever ends the run, nothing is left behind.
    with writing(scratch), tempfile.TemporaryFile(dir=scratch) as storage:
        shape = (len(listing.files), *sizing.image_size, 3)
        reserve(storage.fileno(), math.prod(shape))
        pixels: NDArray[np.uint8] = np.memmap(storage, np.uint8, "w+", shape=shape)
        rows = _decode_all(listing, pixels, sizing)
        if not len(rows):
            raise InputError(
                f"{SOURCE_KEY}: none of the {len(pixels)} files of {listing.source} is an image "
                f"that can be read"
            )
        if unreadable := len(pixels) - len(rows):
            notify(f"warning: {unreadable} of {len(pixels)} files of {listing.source} left out")
        yield _assigned(listing, run, rows, pixels)


def _decode_all(
    listing: SourceListing, pixels: NDArray[np.uint8], sizing: Sizing
) -> NDArray[np.int64]:
    """Fill `pixels`; return the rows of the images that can be read."""
    read = decoding.read_checked if listing.prepared else _read_if_readable

    def decode(row: int) -> bool:
        image = read(listing.files[row].path, listing.sha256[row])
        if image is not None:
            pixels[row] = resize(image, sizing)
        return image is not None

    with decoding.reading_ahead() as read_soon, ThreadPoolExecutor(os.cpu_count()) as pool:
        read_soon(file.path for file in listing.files)
        decoded = pool.map(decode, range(len(pixels)))
        return np.flatnonzero(list(progress(decoded, total=len(pixels), desc="Decoding")))


def _read_if_readable(path: str, sha256: str) -> NDArray[np.uint8] | None:
    try:
        data = decoding.read(path)
        image = decoding.decode(data)
    except UnreadableImage:
        return None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise InputError(f"{path}: the file has changed while the stage was running; run it again")
    return image


def _assigned(
    listing: SourceListing,
    run: PretrainRun,
    rows: NDArray[np.int64],
    pixels: NDArray[np.uint8],
) -> SourceImages:
    files = [listing.files[row] for row in rows]
    digests = [listing.sha256[row] for row in rows]
    first: dict[tuple[str, str], int] = {}
    linked = [
        (first.setdefault(mark, position), position)
        for position, (file, digest) in enumerate(zip(files, digests, strict=True))
        for mark in (("content", digest), ("group", file.group))
        if mark[1]
    ]
    bundles = components(len(files), linked).tolist()
    samples = [
        Sample(digest, file.label, bundle, file.split)
        for file, digest, bundle in zip(files, digests, bundles, strict=True)
    ]
    splits = np.array(assign(samples, validation=run.validation, test=0.0, seed=run.seed))
    class_names = tuple(sorted({file.label for file in files} - {""}))
    trained = Counter(
        file.label for file, split in zip(files, splits, strict=True) if split == "train"
    )
    if class_names and len(trained) < 2:
        raise InputError(f"{SOURCE_KEY}: fewer than two classes of {listing.source} can be read")
    labels = np.zeros(len(pixels), np.int64)
    if class_names:
        labels[rows] = [class_names.index(file.label) for file in files]
    return SourceImages(
        pixels=pixels,
        sha256=listing.sha256,
        labels=labels,
        class_names=class_names,
        train=rows[splits == "train"],
        validation=rows[splits == "validation"],
        unreadable=len(pixels) - len(rows),
    )
