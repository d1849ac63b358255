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

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, get_args, overload

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

from headstart.common.vocabulary import DROPPED, SPLITS
from headstart.dataset.candidates import ALL_COMPARED, Bounds, with_common_keys
from headstart.dataset.layout import COLUMNS, DESCRIPTION_LENGTH, GRID, LENGTH, ROWS
from headstart.dataset.leak_table import Leak
from headstart.dataset.manifest import ManifestRow

Kind = Literal["exact", "near", "mirrored"]
KINDS: tuple[Kind, ...] = get_args(Kind)

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
"""Of a picture with more near duplicates than this, only that many are listed, and what links them
into one set."""

_MEAN, _DEVIATION = LENGTH, LENGTH + 1
# Below this deviation, in gray levels, a picture shows nothing: what is left is noise.
_LEAST_CONTRAST = 2.0
# Along each side, of those that sharpness is measured in.
_TILES = 4
# Of these in each picture's list further ones of the same set are not looked for.
_CROWD = 2 * MAX_NEIGHBORS
_PENDING = 2**20
_PART = 2**16
_CHUNK = 2**14

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


class Pairs(Sequence[Pair]):
    """Many pairs, kept by columns.

    Attributes:
        first: Position of the one of each pair, (n_pairs,) int64.
        second: Position of the other, greater.
        kind: Position in `KINDS`, (n_pairs,) int8.
        similarity: Of the two, (n_pairs,) float32.
    """

    def __init__(
        self,
        first: NDArray[np.int64],
        second: NDArray[np.int64],
        kind: NDArray[np.int8],
        similarity: NDArray[np.float32],
    ) -> None:
        self.first, self.second, self.kind, self.similarity = first, second, kind, similarity

    def __len__(self) -> int:
        return len(self.first)

    @overload
    def __getitem__(self, index: int) -> Pair: ...

    @overload
    def __getitem__(self, index: slice) -> "Pairs": ...

    def __getitem__(self, index: int | slice) -> "Pair | Pairs":
        if isinstance(index, slice):
            return self.where(index)
        return Pair(
            int(self.first[index]),
            int(self.second[index]),
            KINDS[self.kind[index]],
            float(self.similarity[index]),
        )

    def __iter__(self) -> Iterator[Pair]:
        columns = (self.first, self.second, self.kind, self.similarity)
        for first, second, kind, similarity in zip(*(c.tolist() for c in columns), strict=True):
            yield Pair(first, second, KINDS[kind], similarity)

    def where(self, chosen: slice | NDArray[np.bool_] | NDArray[np.int64]) -> "Pairs":
        """Return some of the pairs."""
        return Pairs(
            self.first[chosen], self.second[chosen], self.kind[chosen], self.similarity[chosen]
        )

    @property
    def exact(self) -> NDArray[np.bool_]:
        """Which are of equal bytes, (n_pairs,)."""
        exact: NDArray[np.bool_] = self.kind == KINDS.index("exact")
        return exact

    @property
    def links(self) -> NDArray[np.int64]:
        """The positions, as `components` takes them, (n_pairs, 2)."""
        return np.stack([self.first, self.second], axis=1)


def find(sha256: Sequence[str], descriptions: NDArray[np.float16]) -> Pairs:
    """Pair copies with the first of their content, and the first ones with those that look alike.

    Args:
        sha256: Digest of each image's file.
        descriptions: Of `describe`, (n_images, 257) float16.

    Returns:
        Exact pairs, then the others.
    """
    exact = exact_duplicates(sha256)
    original = np.ones(len(sha256), bool)
    original[exact.second] = False
    near = _near_duplicates(descriptions, original, SIMILARITY)
    return Pairs(
        np.concatenate([exact.first, near.first]),
        np.concatenate([exact.second, near.second]),
        np.concatenate([exact.kind, near.kind]),
        np.concatenate([exact.similarity, near.similarity]),
    )


def exact_duplicates(sha256: Sequence[str]) -> Pairs:
    """Pair each image with the first one of the same content.

    Args:
        sha256: Digest of each image's file.

    Returns:
        One pair per further copy.
    """
    seen: dict[str, int] = {}
    original = np.fromiter(
        (seen.setdefault(digest, position) for position, digest in enumerate(sha256)),
        np.int64,
        len(sha256),
    )
    second = np.flatnonzero(original != np.arange(len(sha256)))
    return Pairs(
        original[second],
        second,
        np.full(len(second), KINDS.index("exact"), np.int8),
        np.ones(len(second), np.float32),
    )


def near_duplicates(descriptions: NDArray[np.float16], similarity: float = SIMILARITY) -> Pairs:
    """Find the pictures that look alike, also mirrored.

    What `headstart.dataset.candidates` proposes is decided by the whole descriptions. Of up to
    `ALL_COMPARED` pictures no pair is missed. Beyond, a pair at the very limit is missed once in
    10,000 times, and a more alike one far less often: of 50,000 mixtures of photographs, 920 pairs
    in all, and of 600 photographs and their recompressed, mirrored, cropped and brightened copies
    and 1,797 digits, searched in the same way, none was.

    Args:
        descriptions: Of `describe`, (n_images, 257) float16, best without exact duplicates.
        similarity: Least correlation, in (0, 1).

    Returns:
        Pairs sorted by position, each once, with its better kind.
    """
    return _near_duplicates(descriptions, np.ones(len(descriptions), bool), similarity)


def _near_duplicates(
    descriptions: NDArray[np.float16], wanted: NDArray[np.bool_], similarity: float
) -> Pairs:
    described = np.flatnonzero(wanted & (descriptions[:, _DEVIATION] > 0))
    if len(described) < len(descriptions):
        descriptions = descriptions[described]
    found = _Found(descriptions, similarity)
    if len(described) > 1:
        vectors = descriptions[:, :LENGTH]
        found.add_equal()
        proposed = (
            found.bounds.alike(similarity)
            if len(described) <= ALL_COMPARED
            else with_common_keys(vectors, similarity)
        )
        for one, other in proposed:
            found.add(one, other)
    pairs = found.pairs()
    return Pairs(described[pairs.first], described[pairs.second], pairs.kind, pairs.similarity)


class _Found:
    """The pairs among those proposed that are alike; of a crowd only some.

    Args:
        descriptions: (n_images, 257) float16, each of a picture that shows something.
        similarity: Least correlation.
    """

    def __init__(self, descriptions: NDArray[np.float16], similarity: float) -> None:
        self.bounds = Bounds(descriptions[:, :LENGTH])
        self._descriptions, self._similarity = descriptions, similarity
        self._mean, self._deviation = (
            descriptions[:, column].astype(np.float32) for column in (_MEAN, _DEVIATION)
        )
        # A pair in one number: first * n_images + second, rising.
        self._code = np.empty(0, np.int64)
        self._kind, self._value = np.empty(0, np.int8), np.empty(0, np.float32)
        self._crowded = np.zeros(len(descriptions), bool)
        self._set = np.arange(len(descriptions))
        self._pending: list[NDArray[np.int64]] = []

    def add_equal(self) -> None:
        """Pair each description with the first that equals it.

        Brightness and contrast are equal, too, so that of however many the set is one.
        """
        words = self._descriptions.view(np.uint16)
        factors = np.random.default_rng(0).integers(1, 2**63, words.shape[1], np.uint64)
        hashes = np.concatenate(
            [
                words[start : start + _CHUNK].astype(np.uint64) @ (factors | np.uint64(1))
                for start in range(0, len(words), _CHUNK)
            ]
        )
        order = np.argsort(hashes, kind="stable")
        begins = np.diff(hashes[order], prepend=~hashes[order[:1]]) != 0
        first = order[np.flatnonzero(begins)[np.cumsum(begins) - 1]]
        one, other = first[~begins], order[~begins]
        same = np.concatenate(
            [np.empty(0, bool)]
            + [
                (words[one[start : start + _CHUNK]] == words[other[start : start + _CHUNK]]).all(1)
                for start in range(0, len(one), _CHUNK)
            ]
        )
        code = one[same] * len(words) + other[same]
        near = np.full(len(code), KINDS.index("near"), np.int8)
        self._merge(code, near, np.ones(len(code), np.float32))

    def add(self, one: NDArray[np.int64], other: NDArray[np.int64]) -> None:
        """Take proposed pairs, positions of which `one` is not the greater; some may be known."""
        mean, deviation = self._mean, self._deviation
        keep = (one != other) & (np.abs(mean[one] - mean[other]) <= BRIGHTNESS)
        one, other = one[keep], other[keep]
        less, more = (
            function(deviation[one], deviation[other]) for function in (np.minimum, np.maximum)
        )
        # In a crowd, only what links two sets is of use.
        keep = (more <= np.float32(CONTRAST) * less) & ~self._is_idle(one, other)
        one, other = one[keep], other[keep]
        keep = self.bounds.of_pairs(one, other) >= self._similarity
        self._pending.append(one[keep] * len(mean) + other[keep])
        if sum(map(len, self._pending)) > _PENDING:
            self._decide()

    def _is_idle(self, one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.bool_]:
        idle: NDArray[np.bool_] = self._crowded[one] & self._crowded[other]
        idle &= self._set[one] == self._set[other]
        return idle

    def _decide(self) -> None:
        code = np.unique(np.concatenate([np.empty(0, np.int64), *self._pending]))
        self._pending = []
        step = max(_PART, len(self._mean))
        if len(code) > step:
            # In any other order, of a crowd's pairs many more would be compared before it is known.
            code = np.random.default_rng(0).permutation(code)
        for start in range(0, len(code), step):
            part = np.sort(code[start : start + step])
            part = part[~self._is_idle(*np.divmod(part, len(self._mean)))]
            if len(self._code):
                known = np.minimum(np.searchsorted(self._code, part), len(self._code) - 1)
                part = part[self._code[known] != part]
            self._compare(part)

    def _compare(self, code: NDArray[np.int64]) -> None:
        one, other = np.divmod(code, len(self._mean))
        kind, value = np.empty(len(code), np.int8), np.empty(len(code), np.float32)
        for start in range(0, len(code), _CHUNK):
            part = slice(start, start + _CHUNK)
            vectors = (
                self._descriptions[one[part], :LENGTH].astype(np.float32),
                self._descriptions[other[part], :LENGTH].astype(np.float32),
            )
            near, mirrored = (
                np.minimum(np.einsum("ij,ij->i", side, vectors[1]), 1)
                for side in (vectors[0], vectors[0] * _MIRROR)
            )
            kind[part] = np.where(near < mirrored, KINDS.index("mirrored"), KINDS.index("near"))
            value[part] = np.maximum(near, mirrored)
        alike = value >= self._similarity
        self._merge(code[alike], kind[alike], value[alike])

    def _merge(
        self, code: NDArray[np.int64], kind: NDArray[np.int8], value: NDArray[np.float32]
    ) -> None:
        """Add pairs that are not known."""
        if not len(code):
            return
        code = np.concatenate([self._code, code])
        order = np.argsort(code, kind="stable")
        self._code = code[order]
        self._kind = np.concatenate([self._kind, kind])[order]
        self._value = np.concatenate([self._value, value])[order]
        self._crowded = self._degrees() >= _CROWD
        if self._crowded.any():
            self._set = components(len(self._mean), np.stack(self._ends(), axis=1))

    def _ends(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        one, other = np.divmod(self._code, len(self._mean))
        return one, other

    def _degrees(self) -> NDArray[np.int64]:
        one, other = self._ends()
        degrees: NDArray[np.int64] = np.bincount(one, minlength=len(self._mean))
        return degrees + np.bincount(other, minlength=len(self._mean))

    def pairs(self) -> Pairs:
        """Return what was found: of a crowd the nearest, and what holds it together."""
        if self._pending:
            self._decide()
        one, other = self._ends()
        found = Pairs(one, other, self._kind, self._value)
        if not len(found) or self._degrees().max() <= MAX_NEIGHBORS:
            return found
        image = np.concatenate([one, other])
        pair = np.tile(np.arange(len(found)), 2)
        order = np.lexsort((pair, -found.similarity[pair], image))
        starts = np.searchsorted(image[order], np.arange(len(self._mean)))
        rank = np.arange(len(order)) - starts[image[order]]
        keep = np.zeros(len(found), bool)
        keep[pair[order[rank < MAX_NEIGHBORS]]] = True
        shape = (len(self._mean),) * 2
        tree = minimum_spanning_tree(coo_array((2 - found.similarity, (one, other)), shape)).tocoo()
        ends = tree.row.astype(np.int64), tree.col.astype(np.int64)
        tied = np.minimum(*ends) * shape[0] + np.maximum(*ends)
        keep[np.searchsorted(self._code, tied)] = True
        return found.where(keep)


def components(
    n_images: int, pairs: NDArray[np.int64] | Sequence[tuple[int, int]]
) -> NDArray[np.int64]:
    """Number the sets of images that are linked by pairs, directly or over others.

    Args:
        n_images: How many images there are.
        pairs: Positions of two images each, (n_pairs, 2).

    Returns:
        Number of each image's set, (n_images,); counted from 0 in order of appearance.
    """
    links = np.asarray(pairs, np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(links), bool), (links[:, 0], links[:, 1])), (n_images, n_images))
    numbers: NDArray[np.int64] = connected_components(graph, directed=False)[1].astype(np.int64)
    return numbers


def leaks(rows: Sequence[ManifestRow], pairs: Pairs) -> list[Leak]:
    """List the images that lie in one split and have a copy in another.

    Not all pairs of copies, which would be as many as their square: each image is named once for
    each other split, along with the first copy there by path; with equal bytes where there is one.

    Args:
        rows: The images that `pairs` counts; those in no split are passed over.
        pairs: Of `find`; what they say of the first of equal files holds for its copies too.

    Returns:
        Sorted by the two paths.
    """
    split = np.array([(*SPLITS, DROPPED).index(row.split) for row in rows])
    by_path = np.array(sorted(range(len(rows)), key=lambda position: rows[position].path), np.int64)
    rank = np.argsort(by_path)
    content = np.arange(len(rows))
    content[pairs.second[pairs.exact]] = pairs.first[pairs.exact]
    alike = pairs.where(~pairs.exact)
    one, other = np.concatenate([alike.links, alike.links[:, ::-1]]).T
    found = set()
    for there, _ in enumerate(SPLITS):
        nowhere = len(rows)
        equal = np.full(len(rows), nowhere)
        in_it = np.flatnonzero(split == there)
        np.minimum.at(equal, content[in_it], rank[in_it])
        # Likewise of the pictures that look alike; with the pair that says so.
        order = np.lexsort((equal[other], one))
        begins = np.diff(one[order], prepend=-1) != 0
        near, said_by = np.full(len(rows), nowhere), np.zeros(len(rows), np.int64)
        near[one[order[begins]]] = equal[other[order[begins]]]
        said_by[one[order[begins]]] = order[begins] % max(len(alike), 1)
        own = content[(split != there) & (split < len(SPLITS))]
        positions = np.flatnonzero((split != there) & (split < len(SPLITS)))
        for position in positions[np.minimum(equal[own], near[own]) < nowhere].tolist():
            row, of = rows[position], content[position]
            if equal[of] < nowhere:
                found.add(Leak.between(row, rows[by_path[equal[of]]], "exact", 1.0))
            else:
                pair = alike[said_by[of]]
                copy = rows[by_path[near[of]]]
                found.add(Leak.between(row, copy, pair.kind, pair.similarity))
    return sorted(found)
