"""How unlike anything in training an image is: its distance to the nearest class, and the limit.

A classifier on frozen features must name one of its classes, whatever it is shown. This says when
not to believe it, and how often it says so of an ordinary image.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.common.files import write_json
from headstart.common.progress import notify
from headstart.common.seal import create_sealed_h5, open_sealed_h5, require_finite
from headstart.evaluation.gaussians import ClassGaussians, Fit
from headstart.evaluation.options import NoveltyOptions
from headstart.features.file import FeatureFile

KIND = "novelty 3"
_REMEDY = "run `dvc repro novelty` to write it anew"
_ARRAYS = ("center", "means", "usual")

MAX_CALIBRATION = 5_000
"""Units that set the threshold, at most; its error is then below a tenth of a percent."""

MAX_PER_UNIT = 32
"""Images of one unit that count, at most; what more of them would add is little."""


@dataclass(frozen=True, slots=True)
class Novelty:
    """The classes in feature space, and how far from them is unusual.

    Attributes:
        gaussians: The classes.
        threshold: Squared distance above which an image is unlike training.
        keep: Share of ordinary images that was to be at or below the threshold.
        kept: The share that is, at least, on the average over such training sets; less than
            `keep` where there are too few units to tell.
        units: How many set the threshold: images, of which a group or copies count once.
        feature_digest: Which features these are.
    """

    gaussians: ClassGaussians
    threshold: float
    keep: float
    kept: float
    units: int
    feature_digest: str

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return how novel images are: 1 is the threshold, the higher the stranger.

        Args:
            features: (n_samples, *feature_shape) raw bottleneck features.

        Returns:
            (n_samples,), squared distance to the nearest class over the threshold.
        """
        return self.gaussians.distances(features) / self.threshold

    def shortfall(self) -> str:
        """Return what to tell where more ordinary images are turned away than was asked for."""
        if self.kept >= self.keep - 1e-9:
            return ""
        return (
            f"with {self.units:,} training images (copies or a group count as one), "
            f"{1 - self.kept:.2%} of ordinary images are above novelty 1; the "
            f"{1 - self.keep:.2%} of novelty.keep takes "
            f"{math.ceil(1 / (1 - self.keep) - 1e-9) - 1:,}"
        )

    def save(self, path: Path) -> None:
        """Write as HDF5, the same bytes for the same content.

        Raises:
            InputError: a number is not finite, so that nothing would ever be novel.
        """
        remedy = "the features are too large to compute with; check extract.weights"
        arrays = {name: getattr(self.gaussians, name) for name in _ARRAYS}
        for name, values in {**arrays, "threshold": self.threshold}.items():
            require_finite(f"{path}: {name}", values, remedy)
        with create_sealed_h5(path, KIND) as file:
            for name, values in arrays.items():
                file.create_dataset(name, data=values, track_times=False)
            for name in ("threshold", "keep", "kept", "units", "feature_digest"):
                file.attrs[name] = getattr(self, name)

    @classmethod
    def load(cls, path: Path) -> "Novelty":
        """Read what `save` wrote.

        Raises:
            InputError: the file is missing, of another format, damaged, or open for writing in
                another program.
        """
        with open_sealed_h5(path, KIND, _REMEDY) as file:
            return cls(
                gaussians=ClassGaussians(*(file[name][:] for name in _ARRAYS)),
                threshold=float(file.attrs["threshold"]),
                keep=float(file.attrs["keep"]),
                kept=float(file.attrs["kept"]),
                units=int(file.attrs["units"]),
                feature_digest=str(file.attrs["feature_digest"]),
            )


def fit(file: FeatureFile, *, keep: float) -> Novelty:
    """Fit the classes to training and validation images, and set the threshold on the same.

    Each of them is judged by the classes without it and without what belongs to it, as a new image
    will be by the classes with all of them. So every image tells what is usual, and one in a
    hundred can be turned away from 99 on.

    Args:
        file: The features.
        keep: Share of ordinary images that shall not be called novel, in (0, 1).

    Source: Barber et al. 2021, "Predictive inference with the jackknife+" (leaving out);
        Bates et al. 2023, "Testing for outliers with conformal p-values" (the threshold).
    """
    rows = file.rows("train", "validation")
    rows, unit = _units(rows, file.group[rows])
    fitted = Fit(file.features, rows, file.label[rows], unit)
    scores = fitted.left_out(evenly(np.arange(unit.max() + 1), MAX_CALIBRATION))
    scores = scores[np.isfinite(scores)]
    threshold, kept = conformal_threshold(scores, keep)
    return Novelty(
        gaussians=fitted.gaussians,
        # Copies of one image lie at distance 0, and nothing can be divided by it.
        threshold=max(threshold, float(np.finfo(np.float32).eps)),
        keep=keep,
        kept=kept,
        units=len(scores),
        feature_digest=file.header.identity.feature_digest,
    )


def conformal_threshold(scores: NDArray[np.float64], keep: float) -> tuple[float, float]:
    """Return the score that at least a share of new ordinary images does not exceed.

    Args:
        scores: (n,) of ordinary images that the score was not fitted to. The most that n can tell
            is n / (n + 1).
        keep: The share asked for, in (0, 1).

    Returns:
        One of the scores, and the share: of n scores and a new one, each is as likely as the
        others to be among the highest.

    Source: Vovk et al. 2005, "Algorithmic Learning in a Random World", section 2.2.
    """
    n = len(scores)
    if not n:
        return 0.0, 0.0
    # What rounding takes from a whole number must not cost one more.
    above = min(n, max(1, math.floor((1 - keep) * (n + 1) + 1e-9)))
    return float(np.sort(scores)[n - above]), 1 - above / (n + 1)


def _units(
    rows: NDArray[np.int64], groups: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows, at most `MAX_PER_UNIT` of each group, and the number of each one's unit.

    Args:
        rows: (n_rows,) in file order.
        groups: (n_rows,) the group of each; -1 stands alone.
    """
    alone = -1 - np.arange(len(groups))
    _, unit, sizes = np.unique(
        np.where(groups < 0, alone, groups), return_inverse=True, return_counts=True
    )
    left = np.ones(len(rows), bool)
    for large in np.flatnonzero(sizes > MAX_PER_UNIT):
        members = np.flatnonzero(unit == large)
        left[members] = np.isin(members, evenly(members, MAX_PER_UNIT))
    return rows[left], unit[left]


def evenly(rows: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """Return at most `limit` of the rows, evenly spaced."""
    if len(rows) <= limit:
        return rows
    return rows[np.linspace(0, len(rows) - 1, limit).round().astype(np.int64)]


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
    novelty = fit(file, keep=options.keep)
    novelty.save(model)
    if shortfall := novelty.shortfall():
        notify(f"warning: {shortfall}.")
    content: dict[str, object] = {
        "threshold": novelty.threshold,
        "calibration": {"units": novelty.units, "kept": novelty.kept},
    }
    rows = evenly(file.rows("test"), MAX_CALIBRATION)
    if len(rows):
        kept = novelty.score(file.features[rows]) <= 1
        content["test"] = {"images": len(rows), "kept": float(kept.mean())}
    write_json(metrics, content)
