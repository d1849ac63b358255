"""The nearest images of each image, its own unit left out."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from headstart.features.approximate import index_for
from headstart.features.matrix import block_rows

Rows = npt.NDArray[np.int64]

_AT_FIRST = 16
"""Neighbors that are asked for besides those wanted, in case some belong to the image itself."""


class Strangers(NamedTuple):
    """The nearest images of other units.

    Attributes:
        similarity: (n_images, count) cosines of the centered features, nearest first; -1 where
            there are fewer.
        position: (n_images, count) which image; -1 where there are fewer.
    """

    similarity: npt.NDArray[np.float32]
    position: Rows


def nearest_strangers(
    features: npt.NDArray[np.float32], rows: Rows, unit: Rows, count: int
) -> Strangers:
    """Find the nearest images of other units for each image, block by block.

    Args:
        features: (n_rows, *feature_shape), usually a map of the feature file.
        rows: (n_images,) rows of the images.
        unit: (n_images,) images of one number belong together.
        count: How many.
    """
    index = index_for(features, rows, len(rows))
    found = Strangers(
        np.full((len(rows), count), -1, np.float32), np.full((len(rows), count), -1, np.int64)
    )
    waiting, asked = np.arange(len(rows)), count + _AT_FIRST
    while len(waiting):
        step = max(1, block_rows(features.shape[1:]) * count // asked)
        lacking = []
        for start in range(0, len(waiting), step):
            images = waiting[start : start + step]
            cosines, near = index.search(np.asarray(features[rows[images]]), asked)
            # -1 where a search that is not exact found no more.
            other = (unit[near] != unit[images, None]) & (near >= 0)
            # Nearest first as before, but those of the own unit last.
            order = np.argsort(~other, axis=1, kind="stable")[:, :count]
            usable = np.take_along_axis(other, order, 1)
            width = order.shape[1]
            found.similarity[images, :width] = np.where(
                usable, np.take_along_axis(cosines, order, 1), -1
            )
            found.position[images, :width] = np.where(
                usable, np.take_along_axis(near, order, 1), -1
            )
            lacking.append(images[usable.sum(axis=1) < count])
        # Only images whose unit is large ask again, for more.
        waiting = np.concatenate(lacking) if asked < len(rows) else waiting[:0]
        asked *= 4
    return found
