"""All labelled images as what is learned from, and what must not be torn apart."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from headstart.common.vocabulary import SPLITS
from headstart.dataset.duplicates import components
from headstart.features.file import FeatureFile
from headstart.heads.data import STREAMING_ABOVE, TrainingData


def all_images(
    file: FeatureFile,
    pairs: Iterable[tuple[int, int]],
    seed: int,
    *,
    streaming_above: int = STREAMING_ABOVE,
) -> TrainingData:
    """Take the images of all splits, without views, to be cross-validated over.

    Args:
        file: The features.
        pairs: Images, by row of the manifest, that show one picture: they are one unit, as
            those of a group are.
        seed: Of the folds.
        streaming_above: See `TrainingData`.

    Raises:
        InputError: as `TrainingData.from_file`.
    """
    data = TrainingData.from_file(
        file, min_validation=1, folds_below=1, streaming_above=streaming_above, seed=seed
    )
    rows = file.rows(*SPLITS)
    return replace(data, train=rows, validation=rows[:0], unit=_units(file, pairs))


def _units(file: FeatureFile, pairs: Iterable[tuple[int, int]]) -> npt.NDArray[np.int64]:
    n_images = int(file.image.max()) + 1
    grouped = np.flatnonzero(file.group >= 0)
    # Each group is a node of its own, behind those of the images.
    links = np.stack([file.image[grouped], n_images + file.group[grouped]], axis=1)
    n_nodes = n_images + int(file.group.max(initial=0)) + 1
    return components(n_nodes, [*pairs, *map(tuple, links.tolist())])[file.image]
