"""Class probabilities of images, as one stage hands them to the next."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from headstart.common.errors import InputError
from headstart.common.seal import create_sealed_h5, open_sealed_h5, require_finite

KIND = "predictions 3"
_TYPE = np.dtype("<f4")


@dataclass(frozen=True, slots=True)
class Predictions:
    """Probabilities of some images, none of which the weights were fitted to.

    Of a million images and a thousand classes they are larger than what else a stage needs, so
    they are float32, and mapped where they come from a file.

    Attributes:
        image: (n_samples,) rows of the manifest.
        probabilities: (n_samples, n_classes) calibrated; as read, float32.
    """

    image: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.floating[Any]]

    def write(self, path: Path, origin: str = "") -> None:
        """Write as HDF5, the same bytes for the same content.

        Args:
            path: The file.
            origin: What tells them from other predictions: which images, and the digest of the
                weights.

        Raises:
            InputError: a probability is not finite.
        """
        remedy = "the weights or the features are too large to compute with; train with others"
        require_finite(f"{path}: probabilities", self.probabilities, remedy)
        with create_sealed_h5(path, KIND) as file:
            file.attrs["origin"] = origin
            file.create_dataset("image", data=self.image, track_times=False)
            file.create_dataset(
                "probabilities", data=self.probabilities, dtype=_TYPE, track_times=False
            )

    def of(self, images: npt.NDArray[np.int64]) -> npt.NDArray[np.floating[Any]]:
        """Return the probabilities of some of the images, (len(images), n_classes)."""
        if np.array_equal(images, self.image):
            return self.probabilities
        order = np.argsort(self.image)
        return self.probabilities[order[np.searchsorted(self.image, images, sorter=order)]]

    def part(self, images: npt.NDArray[np.int64]) -> "Predictions":
        """Return those of some of the images, in their order."""
        return Predictions(images, self.of(images))

    def together(self, other: "Predictions") -> "Predictions":
        """Return these and those of other images, these first."""
        if not len(other.image):
            return self
        return Predictions(
            np.concatenate([self.image, other.image]),
            np.concatenate([self.probabilities, other.probabilities]),
        )

    @classmethod
    def read(cls, path: Path, stage: str = "", origin: str | None = None) -> "Predictions":
        """Read what `write` wrote.

        Args:
            path: The file.
            stage: The stage that writes it, named where it cannot be used.
            origin: As it was written with, if that is known.

        Raises:
            InputError: the file is missing, holds something else or predictions of another origin,
                is damaged, or is open for writing in another program.
        """
        remedy = f"run `{f'dvc repro {stage}'.strip()}` to write it anew"
        with open_sealed_h5(path, KIND, remedy) as file:
            if origin not in (None, file.attrs["origin"]):
                raise InputError(
                    f"{path}: holds what another model said, or of other images: {remedy}"
                )
            image, dataset = file["image"][:], file["probabilities"]
            if not dataset.size:
                return cls(image, dataset[:])
            offset, shape = dataset.id.get_offset(), dataset.shape
        return cls(image, np.memmap(path, _TYPE, mode="r", offset=offset, shape=shape))
