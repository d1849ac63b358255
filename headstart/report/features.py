"""The features as the page shows them: map, neighbors, heat maps."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from headstart.dataset.manifest import Manifest
from headstart.features.file import FeatureFile
from headstart.features.neighbors import NeighborIndex
from headstart.heads.base import Head
from headstart.report.content import HeatMap, HeatPart, MapPart, NearestPictures
from headstart.report.evidence import brightness, class_evidence
from headstart.report.options import Projection
from headstart.report.picking import Album, drawn_evenly, surest_mistakes, unsure_hits
from headstart.report.pictures import as_seen
from headstart.report.projection import kept_projections
from headstart.report.results import called
from headstart.scoring.predictions import Predictions

SpatialMaps = Callable[[Sequence[int]], npt.NDArray[np.float32] | None]
"""Images to activations at the cut, (n, h, w, c); None where the features know no positions."""

NEIGHBORS = 6
STREAMING_ABOVE = 2**30
"""Bytes of training features above which they are searched in the file."""

MOST_QUERIES = 200
"""Test images whose neighbors are shown."""

_SEEN_SIDE = 168
_FEWEST_POINTS = 3


class NearestImages(NamedTuple):
    """The training images nearest to a test image.

    Attributes:
        image: The test image.
        nearest: Training images, nearest first.
        cosines: Theirs.
    """

    image: int
    nearest: tuple[int, ...]
    cosines: tuple[float, ...]


def _row_of_image(file: FeatureFile) -> dict[int, int]:
    """Return the row of each image itself; images without features have none."""
    rows = file.rows()
    return dict(zip(file.image[rows].tolist(), rows.tolist(), strict=True))


def neighbor_parts(
    file: FeatureFile, manifest: Manifest, album: Album
) -> tuple[NearestImages, ...]:
    """Find the nearest training images of the first test images in the album."""
    row_of, train = _row_of_image(file), file.rows("train")
    queries = [
        image for image in album.images if manifest.rows[image].split == "test" and image in row_of
    ][:MOST_QUERIES]
    if not queries or not len(train):
        return ()
    wanted = np.array([row_of[image] for image in queries])
    index = NeighborIndex.of(file.features, train, STREAMING_ABOVE, center=False)
    cosines, positions = index.search(file.features[wanted], NEIGHBORS)
    return tuple(
        NearestImages(
            query,
            tuple(int(image) for image in file.image[train[position]]),
            tuple(round(float(value), 3) for value in cosine),
        )
        for query, position, cosine in zip(queries, positions, cosines, strict=True)
    )


def numbered(found: Sequence[NearestImages], album: Album) -> tuple[NearestPictures, ...]:
    """Name neighbors by the numbers of their pictures; those without one are left out."""
    parts = []
    for one in found:
        query = album.number(one.image)
        kept = [
            (number, cosine)
            for image, cosine in zip(one.nearest, one.cosines, strict=True)
            if (number := album.number(image)) is not None
        ]
        if query is not None and kept:
            pictures, similarities = zip(*kept, strict=True)
            parts.append(
                NearestPictures(picture=query, nearest=pictures, similarities=similarities)
            )
    return tuple(parts)


def map_part(
    file: FeatureFile, album: Album, methods: Sequence[Projection], seed: int
) -> MapPart | None:
    """Project the features of the album's images; None when there are too few of them."""
    row_of = _row_of_image(file)
    # In the order of the rows, which does not change with the heads.
    shown = sorted(image for image in album.images if image in row_of)
    if len(shown) < _FEWEST_POINTS:
        return None
    rows = np.array([row_of[image] for image in shown])
    points, explained = kept_projections(file, rows, tuple(methods), seed)
    return MapPart(
        pictures=album.numbers(shown),
        total=len(row_of),
        projections={method: tuple((x, y) for x, y in found) for method, found in points.items()},
        explained=explained,
    )


def images_to_explain(predictions: Predictions, manifest: Manifest, count: int) -> list[int]:
    """Choose test images for heat maps: confident mistakes, about half, and hits of all classes."""
    mistakes = surest_mistakes(predictions, manifest.labels)
    hits = drawn_evenly(manifest, unsure_hits(predictions, manifest.labels))
    first = mistakes[: max(count // 2, count - len(hits))]
    return first + hits[: count - len(first)]


def heat_part(
    name: str,
    head: Head,
    predictions: Predictions,
    manifest: Manifest,
    album: Album,
    activations: Mapping[int, npt.NDArray[np.float32]],
    file: FeatureFile,
) -> HeatPart:
    """Tell where the head saw the class it decided on and, on mistakes, the true one.

    Args:
        name: The head's.
        head: Fitted.
        predictions: Its own, of the test images.
        manifest: All images.
        album: Those with a picture.
        activations: By image, all of them in the album: what the cut gave, (h, w, c).
        file: The features that the head was made for.
    """
    identity, row_of = file.header.identity, _row_of_image(file)
    decided = dict(zip(predictions.image.tolist(), called(predictions).tolist(), strict=True))
    numbers = album.numbers(activations)
    maps = []
    for number, (image, activation) in zip(numbers, activations.items(), strict=True):
        feature = np.asarray(file.features[row_of[image]])
        for label in dict.fromkeys([decided[image], int(manifest.labels[image])]):
            evidence = class_evidence(activation, feature, identity.pooling, head.logits, label)
            maps.append(HeatMap(picture=number, label=label, grid=brightness(evidence)))
    paths = [manifest.rows[image].path for image in activations]
    seen = as_seen(paths, identity.sizing, _SEEN_SIDE)
    return HeatPart(
        head=name,
        views=dict(zip(numbers, seen, strict=True)),
        maps=tuple(maps),
        with_class_token=identity.pooling in ("cls+avg", "last4"),
    )
