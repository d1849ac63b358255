"""The source data set: images decoded once into a file, read from there in each epoch."""

import hashlib
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.common.errors import InputError
from headstart.common.progress import notify, progress
from headstart.common.vocabulary import Interpolation
from headstart.dataset.sources import SourceFile, list_files
from headstart.dataset.splits import Sample, assign
from headstart.images import decoding
from headstart.images.decoding import UnreadableImage
from headstart.pretraining.options import PretrainOptions


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
    sha256: Sequence[str]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    unreadable: int


@contextmanager
def open_source(
    key: str,
    options: PretrainOptions,
    image_size: tuple[int, int],
    interpolation: Interpolation,
    scratch: Path,
) -> Iterator[SourceImages]:
    """Decode a source's images; what is written for that is gone when the block ends.

    Images that the source itself gives for testing are left out. Equal images share a split.

    Args:
        key: Where in params.yaml the options stand, for errors.
        options: Source, classes, objective, validation share and seed.
        image_size: (height, width) in pixels.
        interpolation: Antialiased filter for getting there.
        scratch: Folder on a disk with room for all images uncompressed.

    Raises:
        InputError: the source cannot be used, no image of it can be read, or it lacks a class.
    """
    files = _listed(key, options)
    scratch.mkdir(parents=True, exist_ok=True)
    # A file without a name: whatever ends the run, nothing is left behind.
    with tempfile.TemporaryFile(dir=scratch) as storage:
        shape = (len(files), *image_size, 3)
        pixels: NDArray[np.uint8] = np.memmap(storage, np.uint8, "w+", shape=shape)
        digests = _decode_all(files, pixels, interpolation)
        kept = [row for row, digest in enumerate(digests) if digest]
        if not kept:
            raise InputError(
                f"{key}.source: none of the {len(files)} files of {options.source} is an image "
                f"that can be read"
            )
        if unreadable := len(files) - len(kept):
            notify(f"warning: {unreadable} of {len(files)} files of {options.source} left out")
        yield _assigned(key, options, [files[row] for row in kept], kept, digests, pixels)


def _listed(key: str, options: PretrainOptions) -> list[SourceFile]:
    if options.objective == "reconstruct":
        return _all_images(key, Path(options.source).expanduser())
    try:
        listing = list_files(options.source)
    except InputError as error:
        # The list is made for the section prepare, and says so.
        raise InputError(str(error).replace("prepare.source", f"{key}.source", 1)) from None
    files = [
        file
        for file in listing.files
        if file.label and file.split != "test" and decoding.is_image_like(Path(file.path))
    ]
    found = sorted({file.label for file in files})
    wanted = found if options.classes is None else options.classes
    if missing := sorted(set(wanted) - set(found)):
        raise InputError(
            f"{key}.classes: {', '.join(missing)} not among the classes of {options.source} "
            f"({', '.join(found)})"
        )
    if len(set(wanted)) < 2:
        raise InputError(
            f"{key}: objective classify needs two classes or more, received "
            f"{', '.join(wanted) or 'none'}; give more, or use objective: reconstruct"
        )
    return [file for file in files if file.label in wanted]


def _all_images(key: str, folder: Path) -> list[SourceFile]:
    """List all images below a folder: reconstruction needs no labels, hence no class folders."""
    if not folder.is_dir():
        raise InputError(f"{key}.source: expected a folder of images, received {folder}")
    paths = []
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths += [Path(root) / name for name in names if not name.startswith(".")]
    found = [
        SourceFile(path.as_posix(), "") for path in sorted(paths) if decoding.is_image_like(path)
    ]
    if not found:
        raise InputError(f"{key}.source: no image below {folder}")
    return found


def _decode_all(
    files: Sequence[SourceFile], pixels: NDArray[np.uint8], interpolation: Interpolation
) -> list[str]:
    """Fill `pixels`; return each file's sha256, empty where it cannot be read."""
    size = pixels.shape[1:3]

    def decode(row: int) -> str:
        try:
            data = decoding.read(Path(files[row].path))
            image = decoding.decode(data)
        except UnreadableImage:
            return ""
        pixels[row] = decoding.resize(image, (size[0], size[1]), interpolation=interpolation)
        return hashlib.sha256(data).hexdigest()

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        rows = range(len(files))
        return list(progress(pool.map(decode, rows), total=len(files), desc="Reading the source"))


def _assigned(
    key: str,
    options: PretrainOptions,
    files: Sequence[SourceFile],
    kept: Sequence[int],
    digests: Sequence[str],
    pixels: NDArray[np.uint8],
) -> SourceImages:
    bundles: dict[str, int] = {}
    samples = [
        Sample(digests[row], file.label, bundles.setdefault(digests[row], len(bundles)), file.split)
        for row, file in zip(kept, files, strict=True)
    ]
    splits = np.array(assign(samples, validation=options.validation, test=0.0, seed=options.seed))
    class_names = tuple(sorted({file.label for file in files} - {""}))
    trained = Counter(
        file.label for file, split in zip(files, splits, strict=True) if split == "train"
    )
    if class_names and len(trained) < 2:
        raise InputError(f"{key}.source: fewer than two classes of {options.source} can be read")
    labels = np.zeros(len(pixels), np.int64)
    if class_names:
        labels[np.asarray(kept)] = [class_names.index(file.label) for file in files]
    rows = np.asarray(kept, np.int64)
    return SourceImages(
        pixels=pixels,
        sha256=digests,
        labels=labels,
        class_names=class_names,
        train=rows[splits == "train"],
        validation=rows[splits == "validation"],
        unreadable=len(pixels) - len(kept),
    )
