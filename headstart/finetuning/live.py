"""Images decoded, resized and augmented while the model trains on those before."""

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.dataset.manifest import Manifest
from headstart.features.file import FeatureFile
from headstart.images import augmentation, decoding
from headstart.images.options import AugmentOptions
from headstart.images.resizing import resize

_BATCHES_AHEAD = 2


class LiveImages:
    """The images of a feature file's rows; the views of training images are new in each epoch.

    Attributes:
        shape: (height, width, 3).
        dtype: uint8, RGB in [0, 255].
    """

    def __init__(self, file: FeatureFile, manifest: Manifest) -> None:
        self._sizing = file.header.identity.sizing
        self._image, self._view = file.image, file.view
        self._sha256 = file.sha256
        self._paths: list[str] = manifest.columns.path.tolist()
        self._recipe = (
            None if file.header.augment is None else AugmentOptions(**file.header.augment)
        )
        self.shape: tuple[int, ...] = (*self._sizing.image_size, 3)
        self.dtype: np.dtype[Any] = np.dtype(np.uint8)

    def read(self, rows: NDArray[np.int64], epoch: int, batch_size: int) -> Iterator[NDArray[Any]]:
        """Yield images; a row of view k shows view k + K epoch, where K is the number of views."""
        ahead: deque[list[Future[NDArray[np.uint8]]]] = deque()
        with decoding.reading_ahead() as read_soon, ThreadPoolExecutor(os.cpu_count()) as pool:
            try:
                for start in range(0, len(rows), batch_size):
                    batch = rows[start : start + batch_size]
                    read_soon(self._paths[image] for image in self._image[batch])
                    ahead.append([pool.submit(self._render, int(row), epoch) for row in batch])
                    if len(ahead) > _BATCHES_AHEAD:
                        yield np.stack([image.result() for image in ahead.popleft()])
                while ahead:
                    yield np.stack([image.result() for image in ahead.popleft()])
            finally:
                # An error, or a reader that stops early: the rest need not be decoded.
                pool.shutdown(wait=False, cancel_futures=True)

    def _render(self, row: int, epoch: int) -> NDArray[np.uint8]:
        sha256 = str(self._sha256[row])
        image = decoding.read_checked(self._paths[self._image[row]], sha256)
        view = int(self._view[row])
        if view == 0 or self._recipe is None:
            return resize(image, self._sizing)
        shown = view + epoch * self._recipe.views
        return augmentation.views(image, sha256, [shown], self._recipe, self._sizing)[0]
