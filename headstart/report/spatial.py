"""Activations at the cut, before the pooling, for the few images that get a heat map."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from headstart.extraction.bottleneck import NoMap, recover
from headstart.extraction.extract import extract
from headstart.extraction.requests import requests_of
from headstart.extraction.store import FeatureStore
from headstart.report.features import SpatialMaps
from headstart.report.results import Results


def spatial_maps(results: Results, store: FeatureStore | None = None) -> SpatialMaps:
    """Return what gives the activations of images.

    Where the features are maps already, they are read. Else the backbone runs once more, for these
    images only, and what it gives is kept in the feature store: a second report runs none.

    Args:
        results: Of the run; the features' header says which extractor it was.
        store: Where features are kept; the user's by default.
    """

    def maps(images: Sequence[int]) -> npt.NDArray[np.float32] | None:
        file = results.features
        if file is None:
            return None
        identity = file.header.identity
        rows = file.rows()
        wanted = rows[np.searchsorted(file.image[rows], images)]
        if identity.pooling == "cls":
            return None
        if identity.pooling == "none":
            activations = file.features[wanted]
        else:
            bottleneck = recover(replace(identity, pooling="none"))
            requests = requests_of(file, results.manifest, wanted)
            try:
                activations = extract(bottleneck, requests, store=store).array()
            except NoMap:
                return None
        # A vector, or a map of one position, says nothing about where.
        return activations if activations.ndim == 4 and max(activations.shape[1:3]) > 1 else None

    return maps
