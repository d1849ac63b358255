"""Images decoded, resized and augmented while the model trains on those before."""

import hashlib
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.common.errors import InputError
from headstart.dataset.manifest import Manifest
from headstart.features.file import FeatureFile
from headstart.features.identity import FeatureIdentity
from headstart.images import augmentation, decoding
from headstart.images.options import AugmentOptions

_BATCHES_AHEAD = 2


class LiveImages:
    """The images of a feature file's rows; the views of training images are new in each epoch.

    Attributes:
        shape: (height, width, 3).
        dtype: uint8, RGB in [0, 255].
    """

    def __init__(self, file: FeatureFile, manifest: Manifest) -> None:
        self._identity: FeatureIdentity = file.header.identity
        self._image, self._view = file.image, file.view
        self._sha256 = file.sha256
        self._paths = [Path(row.path) for row in manifest.rows]
        self._recipe = (
            None if file.header.augment is None else AugmentOptions(**file.header.augment)
        )
        self.shape: tuple[int, ...] = (*self._identity.image_size, 3)
        self.dtype: np.dtype[Any] = np.dtype(np.uint8)

    def read(self, rows: NDArray[np.int64], epoch: int, batch_size: int) -> Iterator[NDArray[Any]]:
        """Yield images; a row of view k shows view k + K epoch, where K is the number of views."""
        ahead: deque[list[Future[NDArray[np.uint8]]]] = deque()
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            try:
                for start in range(0, len(rows), batch_size):
                    batch = rows[start : start + batch_size]
                    ahead.append([pool.submit(self._render, int(row), epoch) for row in batch])
                    if len(ahead) > _BATCHES_AHEAD:
                        yield np.stack([image.result() for image in ahead.popleft()])
                while ahead:
                    yield np.stack([image.result() for image in ahead.popleft()])
            finally:
                # An error, or a reader that stops early: the rest need not be decoded.
                pool.shutdown(wait=False, cancel_futures=True)

    def _render(self, row: int, epoch: int) -> NDArray[np.uint8]:
        path, sha256 = self._paths[self._image[row]], str(self._sha256[row])
        try:
            data = decoding.read(path)
        except decoding.UnreadableImage as error:
            raise InputError(
                f"{path}: {error.reason}; run `dvc repro` to list the images anew"
            ) from None
        if hashlib.sha256(data).hexdigest() != sha256:
            raise InputError(
                f"{path}: the file has changed since its features were extracted; run `dvc repro`"
            )
        view = int(self._view[row])
        identity = self._identity
        if view and self._recipe is not None:
            rendered = augmentation.views(
                decoding.decode(data),
                sha256,
                [view + epoch * self._recipe.views],
                self._recipe,
                identity.image_size,
                resize=identity.resize,
                interpolation=identity.interpolation,
            )
            return rendered[0]
        return decoding.resize(
            decoding.decode(data),
            identity.image_size,
            method=identity.resize,
            interpolation=identity.interpolation,
        )
