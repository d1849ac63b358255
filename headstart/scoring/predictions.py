"""Class probabilities of images, as one stage hands them to the next."""

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from headstart.common.errors import InputError
from headstart.common.files import write_hdf5


@dataclass(frozen=True, slots=True)
class Predictions:
    """Probabilities of some images, none of which the weights were fitted to.

    Attributes:
        image: (n_samples,) rows of the manifest.
        probabilities: (n_samples, n_classes) float64, calibrated.
    """

    image: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float64]

    def write(self, path: Path) -> None:
        """Write as HDF5, the same bytes for the same content."""
        with write_hdf5(path) as file:
            file.create_dataset("image", data=self.image, track_times=False)
            file.create_dataset("probabilities", data=self.probabilities, track_times=False)

    def of(self, images: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Return the probabilities of some of the images, (len(images), n_classes)."""
        order = np.argsort(self.image)
        return self.probabilities[order[np.searchsorted(self.image, images, sorter=order)]]

    @classmethod
    def read(cls, path: Path) -> "Predictions":
        """Read what `write` wrote.

        Raises:
            InputError: the file is missing, no HDF5, or holds something else.
        """
        try:
            with h5py.File(path, "r") as file:
                return cls(file["image"][:], file["probabilities"][:])
        except (OSError, KeyError) as error:
            raise InputError(
                f"{path}: expected predictions with datasets image and probabilities, "
                f"received {error}: run `dvc repro` to write them again"
            ) from None
