"""The class that a photo is known to have, to hold a prediction against."""

import unicodedata
from collections.abc import Collection
from pathlib import Path

import numpy as np

from headstart.common import places
from headstart.common.errors import InputError
from headstart.common.urls import absolute
from headstart.common.vocabulary import Split
from headstart.dataset.manifest import Manifest


class KnownLabels:
    """Labels of photos: those of the project's images, or else the name of a photo's folder.

    Args:
        class_names: Of the model; another label says nothing of what it predicts.
        manifest: The project's images, if there are any.
    """

    def __init__(self, class_names: Collection[str], manifest: Manifest | None) -> None:
        self._class_names = frozenset(class_names)
        self._of: dict[str, str] = {}
        if manifest is not None:
            names, code = manifest.columns.label
            for path, number in zip(manifest.columns.path, code.tolist(), strict=True):
                self._of[absolute(path)] = names[number]

    def of(self, path: str) -> str | None:
        """Return the label of a photo; None where it is not known."""
        complete = absolute(path)
        label = self._of.get(complete)
        if label is None:
            # As `prepare` reads it.
            label = unicodedata.normalize("NFC", Path(complete).parent.name)
        return label if label in self._class_names else None


def paths_of_split(manifest: Manifest, split: Split) -> list[str]:
    """Return the paths of a split's images, in the order of the table.

    Raises:
        InputError: there is none.
    """
    paths: list[str] = manifest.columns.path[np.flatnonzero(manifest.split == split)].tolist()
    if not paths:
        raise InputError(
            f"{places.MANIFEST}: expected images of the {split} split, received none; see "
            "prepare.split of params.yaml"
        )
    return paths
