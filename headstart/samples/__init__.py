"""A data set that a dependency ships in; out comes a folder of PNG files per class."""

import argparse
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headstart.common.errors import exit_with

SAMPLES = Path("data/samples")


def _faces() -> tuple[NDArray[np.uint8], list[str]]:
    """scikit-image's lfw_subset: 100 faces, then 100 patches of the same photos, (25, 25)."""
    from skimage.data import lfw_subset

    pixels = np.rint(lfw_subset() * 255).astype(np.uint8)
    return pixels, ["face"] * 100 + ["other"] * 100


def _digits() -> tuple[NDArray[np.uint8], list[str]]:
    """scikit-learn's digits: 1,797 handwritten ones, (8, 8), 17 grey levels."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    return pixels, [str(digit) for digit in digits.target]


# Each library is imported by its own data set alone; scikit-learn takes more than a second.
_DATA_SETS: dict[str, Callable[[], tuple[NDArray[np.uint8], list[str]]]] = {
    "faces": _faces,
    "digits": _digits,
}


def run(name: str, folder: Path) -> None:
    """Write a data set as images.

    Args:
        name: "faces" or "digits".
        folder: Gets one folder per class; what it held before is replaced.
    """
    pixels, labels = _DATA_SETS[name]()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{name}-") as temporary:
        finished = Path(temporary) / name
        for index, (image, label) in enumerate(zip(pixels, labels, strict=True)):
            (finished / label).mkdir(parents=True, exist_ok=True)
            # Splits follow the content of the files, so they are stored uncompressed: how well a
            # compressor does changes with its version, and the pictures did not.
            Image.fromarray(image).save(finished / label / f"{index:04}.png", compress_level=0)
        if folder.exists():
            shutil.rmtree(folder)
        finished.rename(folder)


def main(arguments: Sequence[str] = ()) -> None:
    """Write the data set named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(_DATA_SETS))
    name = parser.parse_args(arguments).name
    run(name, SAMPLES / name)


if __name__ == "__main__":
    exit_with(main)
