"""Finding the same picture twice: equal bytes, or equal to the eye.

To the eye: an image is described by the low frequencies of its cosine transform, as the known
perceptual hash does, but the numbers are kept rather than rounded to bits. Two descriptions are
unit vectors whose dot product is the correlation of the two blurred pictures, so recompressing,
resizing and brightening change little; and a mirrored picture has the same numbers with other
signs, so one description serves both. Brightness and contrast are kept beside the vector: bare
edges and gradients correlate perfectly, whatever they show.

Source:
    The idea of pHash: C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash
    Functions" (2010), section 3.2.1.
"""

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from headstart.dataset.layout import COLUMNS, DESCRIPTION_LENGTH, GRID, LENGTH, ROWS
from headstart.dataset.leak_table import Leak
from headstart.dataset.manifest import ManifestRow

Kind = Literal["exact", "near", "mirrored"]

THUMBNAIL_SIDE = 64
"""What `describe` wants at least, in pixels: twice its grid, or copies of another size differ."""

SIMILARITY = 0.98
"""Correlation from which on two pictures are taken for one.

Measured on 600 photographs of cats and dogs: the most similar two reach 0.80, while copies
recompressed at quality 10, shrunk to 64 pixels, stretched to a square, enlarged or brightened stay
above 0.985. The most of a difference in brightness and contrast comes from brightening by 15 %.
"""

BRIGHTNESS = 32.0
"""Largest difference of the means of two pictures taken for one, in gray levels of 255."""

CONTRAST = 1.35
"""Largest ratio of their standard deviations."""

MAX_NEIGHBORS = 16
"""Of a picture with more near duplicates than this, only that many of the nearest are listed."""

_MEAN, _DEVIATION = LENGTH, LENGTH + 1
# Below this deviation, in gray levels, a picture shows nothing: what is left is noise.
_LEAST_CONTRAST = 2.0
# Along each side, of those that sharpness is measured in.
_TILES = 4
# Dimensions of the search tree: more of them prune better, and cost more to walk.
_TREE_LENGTH = 16
_CHUNK = 2048

# Reading a cosine from the other end changes the sign of the odd frequencies.
_MIRROR = np.where(COLUMNS % 2 == 1, -1, 1).astype(np.float32)


class Pair(NamedTuple):
    """Two images that show one picture.

    Attributes:
        first: Position of the one.
        second: Position of the other, greater.
        kind: "exact", "near" or "mirrored".
        similarity: Correlation of the two, 1 for equal bytes.
    """

    first: int
    second: int
    kind: Kind
    similarity: float


def describe(thumbnail: NDArray[np.uint8]) -> NDArray[np.float16]:
    """Describe a picture so that near duplicates can be found.

    Args:
        thumbnail: In gray, (h, w) uint8, each side at least `THUMBNAIL_SIDE` or the image's own.

    Returns:
        (257,) float16: a unit vector of 255, brightness and contrast; zeros when the picture
        shows nothing.
    """
    height, width = thumbnail.shape
    shrinking = height >= GRID and width >= GRID
    grid = cv2.resize(
        thumbnail, (GRID, GRID), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
    ).astype(np.float32)
    description = np.zeros(DESCRIPTION_LENGTH, np.float16)
    deviation = float(grid.std())
    if deviation >= _LEAST_CONTRAST:
        frequencies = cv2.dct(grid)[ROWS, COLUMNS]
        description[:LENGTH] = frequencies / np.linalg.norm(frequencies)
        description[_MEAN], description[_DEVIATION] = grid.mean(), deviation
    return description


def sharpness(thumbnail: NDArray[np.uint8]) -> float:
    """Return how sharp a picture is where it is sharpest: a photo's background may be blurred.

    At one scale, so that photos of all sizes compare; what is smaller is judged as it is.

    Args:
        thumbnail: As for `describe`.

    Returns:
        Root mean square of the Laplacian in the sharpest of 16 tiles, over the standard deviation
        of the whole: about 1 in ordinary photos, a third of that in blurred ones, 0 where there is
        no contrast.

    Source: the Laplacian's energy of Pech-Pacheco et al., Diatom autofocusing in brightfield
        microscopy, ICPR 2000.
    """
    scale = THUMBNAIL_SIDE / min(thumbnail.shape)
    if scale < 1:
        thumbnail = cv2.resize(thumbnail, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    deviation = float(cv2.meanStdDev(thumbnail)[1][0, 0])
    if deviation < _LEAST_CONTRAST:
        return 0.0
    edges = cv2.Laplacian(thumbnail, cv2.CV_16S).astype(np.float32)
    rows, columns = (min(_TILES, side) for side in edges.shape)
    height, width = edges.shape[0] // rows, edges.shape[1] // columns
    tiles = edges[: rows * height, : columns * width].reshape(rows, height, columns, width)
    energy = np.square(tiles, out=tiles).mean(axis=(1, 3))
    return float(np.float32(np.sqrt(energy.max()) / deviation))


def find(sha256: Sequence[str], descriptions: NDArray[np.float16]) -> list[Pair]:
    """Pair copies with the first of their content, and the first ones with those that look alike.

    Args:
        sha256: Digest of each image's file.
        descriptions: Of `describe`, (n_images, 257) float16.

    Returns:
        Exact pairs, then the others.
    """
    exact = exact_duplicates(sha256)
    originals = np.setdiff1d(np.arange(len(sha256)), [pair.second for pair in exact])
    near = near_duplicates(descriptions[originals]) if len(originals) else []
    positions = originals.tolist()
    return [
        *exact,
        *(
            pair._replace(first=positions[pair.first], second=positions[pair.second])
            for pair in near
        ),
    ]


def exact_duplicates(sha256: Sequence[str]) -> list[Pair]:
    """Pair each image with the first one of the same content.

    Args:
        sha256: Digest of each image's file.

    Returns:
        One pair per further copy.
    """
    first: dict[str, int] = {}
    pairs = []
    for position, digest in enumerate(sha256):
        original = first.setdefault(digest, position)
        if original != position:
            pairs.append(Pair(original, position, "exact", 1.0))
    return pairs


def near_duplicates(
    descriptions: NDArray[np.float16], similarity: float = SIMILARITY
) -> list[Pair]:
    """Find the pictures that look alike, also mirrored.

    A k-d tree over the lowest frequencies proposes the pairs, and none is missed: what is near in
    all dimensions is near in some. The whole descriptions decide.

    Args:
        descriptions: Of `describe`, (n_images, 257) float16, best without exact duplicates.
        similarity: Least correlation, in (0, 1).

    Returns:
        Pairs sorted by position, each once, with its better kind.
    """
    described = np.flatnonzero(descriptions.any(axis=1))
    if len(described) < 2:
        return []
    low = descriptions[described, :_TREE_LENGTH].astype(np.float32)
    tree = KDTree(low)
    # For unit vectors: |a - b|^2 = 2 - 2 a.b. A little more allows for the rounding to float16.
    radius = float(np.sqrt(2 * (1 - similarity))) + 1e-3
    found = _equal_descriptions(descriptions, described)
    kinds: tuple[tuple[Kind, NDArray[np.float32]], ...] = (
        ("near", np.ones_like(_MIRROR)),
        ("mirrored", _MIRROR),
    )
    for kind, signs in kinds:
        # In the tree's own order neighbors follow each other, which halves the time.
        for start in range(0, len(described), _CHUNK):
            asked = tree.indices[start : start + _CHUNK]
            _, neighbors = tree.query(
                low[asked] * signs[:_TREE_LENGTH],
                k=min(MAX_NEIGHBORS + 1, len(described)),
                distance_upper_bound=radius,
                workers=os.cpu_count() or 1,
            )
            rows, columns = np.nonzero(neighbors < len(described))
            one, other = described[asked[rows]], described[neighbors[rows, columns]]
            one, other = one[one != other], other[one != other]
            correlation = _correlations(descriptions[one], descriptions[other], signs)
            for position in np.flatnonzero(correlation >= similarity):
                value = min(float(correlation[position]), 1.0)
                first, second = sorted((int(one[position]), int(other[position])))
                known = found.get((first, second))
                if known is None or (known.kind != kind and known.similarity < value):
                    found[first, second] = Pair(first, second, kind, value)
    return sorted(found.values())


def _equal_descriptions(
    descriptions: NDArray[np.float16], described: NDArray[np.int64]
) -> dict[tuple[int, int], Pair]:
    """Pair each description with the first that equals it.

    The search would find some of them; but of more than `MAX_NEIGHBORS` at no distance at all it
    might pick the same few for each, and leave one set in parts.
    """
    first: dict[bytes, int] = {}
    found = {}
    for position in described.tolist():
        original = first.setdefault(descriptions[position].tobytes(), position)
        if original != position:
            found[original, position] = Pair(original, position, "near", 1.0)
    return found


def _correlations(
    one: NDArray[np.float16], other: NDArray[np.float16], signs: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Correlate row by row; 0 where brightness or contrast is another."""
    vectors = one[:, :LENGTH].astype(np.float32) * signs, other[:, :LENGTH].astype(np.float32)
    correlation: NDArray[np.float32] = np.einsum("ij,ij->i", *vectors)
    means, deviations = (
        np.stack([side[:, column] for side in (one, other)]).astype(np.float32)
        for column in (_MEAN, _DEVIATION)
    )
    alike = (np.ptp(means, axis=0) <= BRIGHTNESS) & (
        deviations.max(axis=0) <= CONTRAST * deviations.min(axis=0)
    )
    return np.where(alike, correlation, np.float32(0))


def components(n_images: int, pairs: Iterable[tuple[int, int]]) -> NDArray[np.int64]:
    """Number the sets of images that are linked by pairs, directly or over others.

    Args:
        n_images: How many images there are.
        pairs: Positions of two images each.

    Returns:
        Number of each image's set, (n_images,); counted from 0 in order of appearance.
    """
    links = np.array(list(pairs), np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(links), bool), (links[:, 0], links[:, 1])), (n_images, n_images))
    numbers: NDArray[np.int64] = connected_components(graph, directed=False)[1].astype(np.int64)
    return numbers


def leaks(rows: Sequence[ManifestRow], pairs: Iterable[Pair]) -> list[Leak]:
    """List the images that lie in two splits with one picture.

    Args:
        rows: The images that `pairs` counts.
        pairs: Of `find`; what they say of the first of equal files holds for its copies too.

    Returns:
        Sorted by the two paths.
    """
    copies: defaultdict[str, list[ManifestRow]] = defaultdict(list)
    for row in rows:
        copies[row.sha256].append(row)
    found = [
        Leak.between(one, other, "exact", 1.0)
        for equal in copies.values()
        for one, other in combinations(equal, 2)
        if one.split != other.split
    ]
    found += [
        Leak.between(one, other, pair.kind, pair.similarity)
        for pair in pairs
        if pair.kind != "exact"
        for one in copies[rows[pair.first].sha256]
        for other in copies[rows[pair.second].sha256]
        if one.split != other.split
    ]
    return sorted(found)
