"""Data sets that ship inside other packages, written as folders of images."""

import importlib.util
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headstart.common.files import atomic_folder

SampleName = Literal["faces", "digits"]
SAMPLE_NAMES: tuple[SampleName, ...] = get_args(SampleName)


def write_sample(name: SampleName, folder: Path) -> None:
    """Write a data set as PNG files.

    Args:
        name: Of the data set.
        folder: Gets one folder per class; what it held before is replaced.
    """
    pixels, labels = _read(name)
    with atomic_folder(folder, flush=False) as new:
        for index, (image, label) in enumerate(zip(pixels, labels, strict=True)):
            (new / label).mkdir(exist_ok=True)
            # Splits follow the content of the files, so they are stored uncompressed: how well a
            # compressor does changes with its version, and the pictures did not.
            Image.fromarray(image).save(new / label / f"{index:04}.png", compress_level=0)


def _read(name: SampleName) -> tuple[NDArray[np.uint8], list[str]]:
    """Return gray images (n_images, height, width) in [0, 255], and their labels."""
    match name:
        case "faces":
            from skimage.data import lfw_subset

            # 100 faces, then 100 patches of the same photos, (25, 25).
            pixels = np.rint(lfw_subset() * 255).astype(np.uint8)
            return pixels, ["face"] * 100 + ["other"] * 100
        case "digits":
            # 1,797 handwritten ones, (8, 8), 17 gray levels, and the digit. As `load_digits` reads
            # them, whose import would take longer than all else.
            table = np.loadtxt(_file_of("sklearn", "datasets/data/digits.csv.gz"), delimiter=",")
            pixels = np.rint(table[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
            return pixels, [str(int(digit)) for digit in table[:, -1]]


def _file_of(package: str, name: str) -> Path:
    """Return a file within an installed package, without importing it."""
    spec = importlib.util.find_spec(package)
    (folder,) = (spec.submodule_search_locations if spec else None) or [package]
    return Path(folder) / name
