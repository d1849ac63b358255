"""What is kept of each photo to tell copies: the low frequencies of its small gray picture.

`headstart.dataset.duplicates.describe` makes a description while `prepare` checks the photos, which
keeps it; whoever asks later need not read them again.
"""

import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headstart.dataset.file_states import FileState, state_of, states_of
from headstart.dataset.inspections import Inspected, Inspections
from headstart.dataset.layout import COLUMNS, DESCRIPTION_LENGTH, FREQUENCIES, LENGTH, ROWS
from headstart.dataset.manifest import ManifestRow

_FILES_AT_ONCE = 1024


def cosine_series(descriptions: NDArray[np.float16]) -> NDArray[np.float32]:
    """Return pictures as sums of cosines.

    Args:
        descriptions: (n_images, 257) float16.

    Returns:
        (n_images, 16, 16) float32, c: the picture at (y, x) of the unit square is the sum over
        rows i and columns j of c[i, j] k(i, y) k(j, x) in gray levels, where k(0, x) is the square
        root of a half and k(i, x) = cos(pi i x) otherwise. Zeros where nothing is shown.
    """
    series = np.zeros((len(descriptions), FREQUENCIES, FREQUENCIES), np.float32)
    parts = descriptions.astype(np.float32)
    mean, deviation = parts[:, LENGTH], parts[:, LENGTH + 1]
    # The mean of a squared product of two of these functions is a quarter.
    series[:, ROWS, COLUMNS] = 2 * deviation[:, None] * parts[:, :LENGTH]
    series[:, 0, 0] = 2 * mean
    return series


class Pictures(NamedTuple):
    """What is known of the pictures of images.

    Attributes:
        descriptions: (n_images, 257) float16, zeros where a picture shows nothing or is unusable.
        sharpness: (n_images,) float32 of `headstart.dataset.duplicates.sharpness`.
        unusable: Positions of the images that have gone or changed since the manifest was written.
    """

    descriptions: NDArray[np.float16]
    sharpness: NDArray[np.float32]
    unusable: list[int]


def read_descriptions(rows: Sequence[ManifestRow], cache: Path | None = None) -> Pictures:
    """Return what the pictures of images are like: what `prepare` has kept, and the others anew.

    Args:
        rows: The images.
        cache: The cache folder, unless it is the user's own.
    """
    descriptions = np.zeros((len(rows), DESCRIPTION_LENGTH), np.float16)
    sharpness = np.zeros(len(rows), np.float32)
    unusable = []
    with Inspections(cache) as known:
        for start in range(0, len(rows), _FILES_AT_ONCE):
            part = rows[start : start + _FILES_AT_ONCE]
            for number, inspected in enumerate(_inspected(part, known), start):
                if inspected is None or inspected.sha256 != rows[number].sha256:
                    unusable.append(number)
                else:
                    descriptions[number] = inspected.description
                    sharpness[number] = inspected.sharpness
    return Pictures(descriptions, sharpness, unusable)


def _inspected(rows: Sequence[ManifestRow], known: Inspections) -> list[Inspected | None]:
    states = states_of([row.path for row in rows])
    found = known.find([state for state in states if state is not None])
    missing = [
        (row.path, state)
        for row, state in zip(rows, states, strict=True)
        if state is not None and state not in found
    ]
    if missing:
        # Only now: the decoders are not needed where all is kept.
        from headstart.dataset.inspecting import inspect_or_none

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            results = list(pool.map(inspect_or_none, [path for path, _ in missing]))
        new = [
            (path, state, result)
            for (path, state), result in zip(missing, results, strict=True)
            if result is not None
        ]
        known.add(settled(new))
        found |= {state: result for _, state, result in new}
    return [None if state is None else found.get(state) for state in states]


def settled(
    found: Iterable[tuple[str, FileState | None, Inspected]],
) -> dict[FileState, Inspected]:
    """Return what may be kept of inspected files: of those that nobody was writing.

    Args:
        found: Path, state before it was read, and what was found.
    """
    now = time.time_ns()
    return {
        state: inspected
        for path, state, inspected in found
        if state is not None
        and state.is_settled(now)
        # It may have been written while it was read.
        and state == state_of(path)
    }
