"""The features that a pipeline has written, as arrays and as a table."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headstart.common import places
from headstart.common.urls import within
from headstart.dataset.manifest import read_manifest
from headstart.features.file import FeatureFile
from headstart.features.identity import FeatureIdentity

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """The rows of a feature file: one per image and augmented view.

    Attributes:
        X: (n_rows, *feature_shape) float32; mapped from the file, not loaded.
        y: (n_rows,) class indices.
        class_names: A class index is a position in it.
        split: (n_rows,) "train", "validation" or "test"; "dropped" for test images that
            prepare.corrections drops.
        view: (n_rows,) 0 for the image itself, k for its k-th augmented copy.
        group: (n_rows,) images of one group share a number; -1 stands alone.
        sha256: (n_rows,) hexadecimal digests of the image files.
        path: (n_rows,) of the image files; None where the project's data/manifest.csv is missing or
            was written since for other images.
        feature_names: One per feature, as `BottleneckFeatures.get_feature_names_out` gives them.
    """

    X: NDArray[np.float32]
    y: NDArray[np.int64]
    class_names: tuple[str, ...]
    split: NDArray[np.str_]
    view: NDArray[np.int32]
    group: NDArray[np.int64]
    sha256: NDArray[np.str_]
    path: NDArray[np.object_] | None
    feature_names: NDArray[np.object_]

    def select(self, split: str, *, views: bool = False) -> "FeatureTable":
        """Return the rows of one split.

        Args:
            split: "train", "validation" or "test".
            views: Whether augmented copies come along, or the images themselves only.
        """
        chosen = self.split == split
        if not views:
            chosen &= self.view == 0
        return replace(
            self,
            X=self.X[chosen],
            y=self.y[chosen],
            split=self.split[chosen],
            view=self.view[chosen],
            group=self.group[chosen],
            sha256=self.sha256[chosen],
            path=None if self.path is None else self.path[chosen],
        )

    def to_frame(self) -> "pd.DataFrame":
        """Return a table of pandas.

        Its columns are path (if known), label, split, view, group and sha256, then one per
        feature, called by `feature_names`.
        """
        import pandas as pd

        about: dict[str, Any] = {} if self.path is None else {"path": self.path}
        about |= {
            "label": np.array(self.class_names, dtype=object)[self.y],
            "split": self.split.astype(object),
            "view": self.view,
            "group": self.group,
            "sha256": self.sha256.astype(object),
        }
        features = pd.DataFrame(
            np.asarray(self.X).reshape(len(self.X), -1), columns=self.feature_names
        )
        return pd.concat([pd.DataFrame(about), features], axis=1)


def read_features(path: str | os.PathLike[str] = places.FEATURES) -> FeatureTable:
    """Read the feature file of a project.

    Args:
        path: The HDF5 file, or the project's folder.

    Raises:
        InputError: the file is missing, damaged or of another format.

    Examples:
        >>> import headstart
        >>> from sklearn.linear_model import LogisticRegression
        >>> table = headstart.read_features("features/bottleneck.h5")
        >>> train, test = table.select("train"), table.select("test")
        >>> model = LogisticRegression(max_iter=1000).fit(train.X, train.y)
        >>> model.score(test.X, test.y) > 0.9
        True
    """
    location = Path(path)
    if location.is_dir():
        location = location / places.FEATURES
    file = FeatureFile.open(location)
    return FeatureTable(
        X=file.features,
        y=file.label,
        class_names=file.header.class_names,
        split=file.split,
        view=file.view,
        group=file.group,
        sha256=file.sha256,
        path=_paths(file),
        feature_names=feature_names(file.header.identity, file.header.feature_dim),
    )


def feature_names(identity: FeatureIdentity, count: int) -> NDArray[np.object_]:
    """Return a name per feature: backbone, layer and number."""
    stem = f"{identity.backbone.lower()}_{identity.layer}"
    return np.array([f"{stem}_{number}" for number in range(count)], dtype=object)


def _paths(file: FeatureFile) -> NDArray[np.object_] | None:
    project = file.path.absolute().parents[1]
    if not (project / places.MANIFEST).is_file():
        return None
    rows = read_manifest(project / places.MANIFEST).rows
    if file.image.max() >= len(rows):
        return None
    found = [rows[image] for image in file.image.tolist()]
    # A manifest that was written since is of other images.
    if any(row.sha256 != digest for row, digest in zip(found, file.sha256, strict=True)):
        return None
    # Relative to the project's folder, which need not be the present one.
    here = project == Path.cwd()
    return np.array(
        [row.path if here else within(project, row.path) for row in found], dtype=object
    )
