"""Finding test images that training has seen in another guise.

The hashes of `headstart.dataset.duplicates` find copies of the same whole picture. Crops, and what
hashes leave out, are found by laying small pictures over each other
(`headstart.evaluation.copies`); features also find some that were turned or lit differently. How
similar two different pictures are depends on the data, so the limits are measured, not fixed.

What stays undetected: pictures that show nothing (black, white), or so little that different ones
agree as well as copies do (letters of one font, 8 x 8 pixels that were recompressed or halved);
copies cropped to less than two thirds of a side; copies turned or lit differently, where their
features do not tell; another photo of the same thing.
"""

import csv
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from headstart.common.errors import InputError
from headstart.common.progress import notify
from headstart.common.text import printable
from headstart.dataset.descriptions import read_descriptions
from headstart.dataset.leak_table import Leak
from headstart.dataset.manifest import Manifest
from headstart.evaluation.copies import find_copies
from headstart.features.approximate import index_for
from headstart.features.file import FeatureFile
from headstart.features.matrix import block_rows

SPREADS = 6.0
"""How far below the usual distance to a stranger a copy must lie, in robust standard deviations of
the distance's logarithm.

Measured with EfficientNetLite0 on 600 photographs of cats and dogs and on 1,797 digits in four
splits each: no two different pictures came nearer than 5.7, while 95 % of 150 photographs that were
mirrored, halved, cropped to 90 %, turned by 5 degrees, brightened or recompressed at quality 30 lay
beyond 7.
"""

NEXT = 0.5
"""Largest share of the distance to the second nearest image, 1 - cosine, at which a copy lies.

On faces, textures and small photographs, images without a copy that pass the limit of `SPREADS`
lie at 0.51 and more, where a corner of the data is crowded; photographs turned by 5 degrees at
0.07 to 0.41.
"""

_FEWEST = 20
# The median absolute deviation of a normal distribution is this share of its standard deviation.
_NORMAL_MAD = 0.6745


def find_feature_leaks(file: FeatureFile, manifest: Manifest) -> list[Leak]:
    """Pair test images with the training or validation image that is suspiciously near.

    The usual distance is that to the second nearest image, which is a stranger even where every
    test image has a copy. A copy must also be much nearer than the image's own second nearest.

    Args:
        file: The features; maps are averaged.
        manifest: Their images.

    Returns:
        At most one pair per test image, sorted by path; none where there are too few images to
        know what is usual.
    """
    tested, known = file.rows("test"), file.rows("train", "validation")
    if len(tested) < _FEWEST or len(known) < _FEWEST:
        return []
    index = index_for(file.features, known, len(tested))
    step = block_rows(file.features.shape[1:])
    found = [
        index.search(np.asarray(file.features[tested[start : start + step]]), 2)
        for start in range(0, len(tested), step)
    ]
    cosines = np.concatenate([cosine for cosine, _ in found]).astype(np.float64)
    positions = np.concatenate([position for _, position in found])
    nearest = known[positions[:, 0]]
    limit = cosine_limit(cosines[:, 1])
    distances = 1 - cosines
    # A search that compares a part may find no second one.
    alone = (distances[:, 0] <= NEXT * distances[:, 1]) & (positions[:, 1] >= 0)
    leaking = np.flatnonzero(alone & (cosines[:, 0] > limit))
    return sorted(
        Leak.between(
            manifest.rows[file.image[tested[i]]],
            manifest.rows[file.image[nearest[i]]],
            "features",
            cosines[i, 0],
        )
        for i in leaking
    )


def find_picture_leaks(file: FeatureFile, manifest: Manifest) -> list[Leak]:
    """Pair test images with a training or validation image that shows the same picture.

    Images that have gone or changed since the manifest was written cannot be compared, which is
    told.

    Args:
        file: The features, for the splits and groups of the images.
        manifest: Their images.

    Returns:
        At most one pair per test image, sorted by path.
    """
    tested, known = file.rows("test"), file.rows("train", "validation")
    if not len(tested):
        return []
    images = file.image[np.concatenate([tested, known])]
    rows = [manifest.rows[image] for image in images]
    descriptions, _, unusable = read_descriptions(rows)
    if unusable:
        notify(
            f"warning: {len(unusable)} of {len(images)} images have gone or changed since they "
            f"were prepared, such as {printable(rows[unusable[0]].path)}: they are not looked at "
            "for leaks"
        )
    found = find_copies(descriptions[: len(tested)], descriptions[len(tested) :], file.group[known])
    return sorted(
        Leak.between(
            manifest.rows[file.image[tested[one.asked]]],
            manifest.rows[file.image[known[one.known]]],
            one.kind,
            one.similarity,
        )
        for one in found
    )


def cosine_limit(strangers: npt.NDArray[np.float64]) -> float:
    """Return the cosine above which two images are taken for one picture.

    Args:
        strangers: (n_images,) cosines of images with ones that are not their copy.
    """
    logarithms = np.log(np.maximum(1 - strangers, 1e-9))
    median = float(np.median(logarithms))
    spread = float(np.median(np.abs(logarithms - median))) / _NORMAL_MAD
    return float(1 - np.exp(median - SPREADS * spread))


def read_leaks(path: Path) -> list[Leak]:
    """Read the table that `headstart.dataset.leak_table.write_leaks` wrote.

    Raises:
        InputError: it is missing or has other columns.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *lines = csv.reader(file)
            if tuple(header) != Leak._fields:
                raise ValueError(",".join(header))
            return [Leak(*line) for line in lines]
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"{path}: expected the columns {','.join(Leak._fields)}, received {error}: "
            "run `dvc repro prepare` again"
        ) from None


def leaked_paths(leaks: Iterable[Leak]) -> set[str]:
    """Return the paths of the test images that have a copy in another split."""
    leaks = list(leaks)
    return {leak.path for leak in leaks if leak.split == "test"} | {
        leak.other_path for leak in leaks if leak.other_split == "test"
    }


def leaked_images(leaks: Iterable[Leak], manifest: Manifest) -> npt.NDArray[np.int64]:
    """Return the rows of the manifest that are test images with a copy in another split."""
    leaked = leaked_paths(leaks)
    paths = manifest.columns.path.tolist()
    return np.array([i for i, path in enumerate(paths) if path in leaked], dtype=np.int64)
