"""How unlike anything in training an image is: the distance to its neighbors among the features.

A classifier on frozen features must name one of its classes, whatever it is shown. This says when
not to believe it.
"""

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from headstart.common.errors import InputError
from headstart.common.files import write_hdf5, write_json
from headstart.evaluation.options import NoveltyOptions
from headstart.features.file import FeatureFile
from headstart.features.matrix import block_rows
from headstart.features.neighbors import NeighborIndex, directions

FORMAT = 1

# A sample of this size stands for any number of training images: a hundredth of them sufficed on
# ImageNet. Source: Sun et al. 2022, "Out-of-Distribution Detection with Deep Nearest Neighbors",
# section 5.2. It keeps a prediction's cost and the file's size (25 MB for 1280 features) bounded.
MAX_BANK = 10_000

MAX_CALIBRATION = 5_000
"""Images that set the threshold, at most; its error is then below a tenth of a percent."""

MIN_CALIBRATION = 100
"""With fewer validation images, the training images help, each compared with the others."""


@dataclass(frozen=True, slots=True)
class Novelty:
    """Training images in feature space, and how far from them is unusual.

    Attributes:
        bank: (n, feature_dim) float32 unit vectors of training images.
        neighbors: The distance to this many nearest counts: 1 is the very nearest.
        threshold: Cosine distance above which an image is unlike training.
        kept: Share of the calibration images at or below the threshold.
        feature_digest: Which features these are.
    """

    bank: NDArray[np.float32]
    neighbors: int
    threshold: float
    kept: float
    feature_digest: str

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return how novel images are: 1 is the threshold, the higher the stranger.

        Args:
            features: (n_samples, *feature_shape) raw bottleneck features.

        Returns:
            (n_samples,), cosine distance to the k-th nearest neighbor over the threshold.
        """
        if not len(features):
            return np.empty(0)
        return _distances(self.bank, features, self.neighbors) / self.threshold

    def save(self, path: Path) -> None:
        """Write as HDF5, the same bytes for the same content."""
        with write_hdf5(path) as file:
            # Half precision moves a cosine by 1e-5 at most.
            file.create_dataset("bank", data=self.bank.astype(np.float16), track_times=False)
            for name in ("neighbors", "threshold", "kept", "feature_digest"):
                file.attrs[name] = getattr(self, name)
            file.attrs["format"] = FORMAT

    @classmethod
    def load(cls, path: Path) -> "Novelty":
        """Read what `save` wrote.

        Raises:
            InputError: the file is missing, no HDF5, or of another format.
        """
        remedy = "run `dvc repro` to write it"
        try:
            with h5py.File(path, "r") as file:
                if file.attrs.get("format") != FORMAT:
                    raise InputError(
                        f"{path}: expected format {FORMAT}, received "
                        f"{file.attrs.get('format', 'none')}: {remedy} anew"
                    )
                return cls(
                    bank=file["bank"][:].astype(np.float32),
                    neighbors=int(file.attrs["neighbors"]),
                    threshold=float(file.attrs["threshold"]),
                    kept=float(file.attrs["kept"]),
                    feature_digest=str(file.attrs["feature_digest"]),
                )
        except FileNotFoundError:
            raise InputError(f"{path}: no such file: {remedy}") from None
        except (OSError, KeyError) as error:
            raise InputError(f"{path}: not readable ({error}): {remedy} anew") from None


def fit(file: FeatureFile, *, neighbors: int, keep: float) -> Novelty:
    """Take a bank of training images and set the threshold on validation images.

    Args:
        file: The features.
        neighbors: Which neighbor's distance counts; fewer where there are fewer images.
        keep: Share of ordinary images that shall not be called novel, in (0, 1).

    Source: Sun et al. 2022, "Out-of-Distribution Detection with Deep Nearest Neighbors" (distance
        to the k-th nearest neighbor, on unit vectors, threshold from a share kept).
    """
    rows = spread(file.label, file.rows("train"), MAX_BANK)
    bank = _read(file, rows)
    neighbors = min(neighbors, max(1, len(bank) - 1))
    validation = evenly(file.rows("validation"), MAX_CALIBRATION)
    distances = _distances(bank, _read(file, validation), neighbors)
    if len(validation) < MIN_CALIBRATION and len(bank) > 1:
        own = evenly(np.arange(len(bank)), MAX_CALIBRATION)
        # The nearest neighbor of each is itself.
        distances = np.concatenate([distances, _distances(bank, bank[own], neighbors + 1)])
    # "higher" takes an image's own distance, so that the share kept is at least what was asked.
    threshold = float(np.quantile(distances, keep, method="higher")) if len(distances) else 0.0
    return Novelty(
        bank=bank,
        neighbors=neighbors,
        # Copies of one image lie at distance 0, and nothing can be divided by it.
        threshold=max(threshold, float(np.finfo(np.float32).eps)),
        kept=keep,
        feature_digest=file.header.identity.feature_digest,
    )


def spread(labels: NDArray[np.int64], rows: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """Choose at most `limit` of the rows, so that rare classes are kept whole.

    Args:
        labels: (n_rows,) class indices of all rows.
        rows: Those to choose from.
        limit: How many.

    Returns:
        Rows in file order, evenly spaced within each class.
    """
    if len(rows) <= limit:
        return rows
    chosen = []
    left = limit
    counts = np.bincount(labels[rows])
    # From the rarest class on, each gets its share of what the rarer ones left over.
    order = [label for label in np.argsort(counts, kind="stable") if counts[label]]
    for number, label in enumerate(order):
        own = evenly(rows[labels[rows] == label], left // (len(order) - number))
        chosen.append(own)
        left -= len(own)
    return np.sort(np.concatenate(chosen))


def evenly(rows: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """Return at most `limit` of the rows, evenly spaced."""
    if len(rows) <= limit:
        return rows
    return rows[np.linspace(0, len(rows) - 1, limit).round().astype(np.int64)]


def _read(file: FeatureFile, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    step = block_rows(file.header.feature_shape)
    blocks = [
        directions(np.asarray(file.features[rows[start : start + step]]))
        for start in range(0, len(rows), step)
    ]
    # As they are kept, so that a score does not depend on whether the bank was just made.
    whole = np.concatenate([np.empty((0, file.features.shape[-1]), np.float32), *blocks])
    return whole.astype(np.float16).astype(np.float32)


def _distances(
    bank: NDArray[np.float32], features: NDArray[np.float32], neighbor: int
) -> NDArray[np.float64]:
    """Return the cosine distance of each image to its nearest neighbor number `neighbor`."""
    cosines, _ = NeighborIndex.over(bank).search(features, neighbor)
    return 1.0 - cosines[:, -1].astype(np.float64)


def write_novelty(
    file: FeatureFile, options: NoveltyOptions, *, model: Path, metrics: Path
) -> None:
    """Fit and keep the novelty of images, and count how many ordinary ones it turns away.

    Args:
        file: The features.
        options: The section `novelty`.
        model: The HDF5 file to write.
        metrics: The JSON file to write.
    """
    novelty = fit(file, neighbors=options.neighbors, keep=options.keep)
    novelty.save(model)
    content: dict[str, object] = {
        "threshold": novelty.threshold,
        "neighbors": novelty.neighbors,
        "bank": len(novelty.bank),
    }
    for split in ("validation", "test"):
        rows = evenly(file.rows(split), MAX_CALIBRATION)
        if len(rows):
            kept = novelty.score(file.features[rows]) <= 1
            content[split] = {"images": len(rows), "kept": float(kept.mean())}
    write_json(metrics, content)
