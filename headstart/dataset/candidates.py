"""Which pictures may look alike, so that not all pairs have to be compared.

Up to `ALL_COMPARED` pictures all pairs are bounded from above by their lowest frequencies, and none
is missed. Beyond, each picture gets short keys, the sides of random planes on which it lies, and
those with a key in common are proposed: two pictures at an angle lie on one side of a plane with a
probability that depends on the angle alone, whatever the data. There are so many keys that of the
pairs that are just alike enough `MISSED` at most is lost on average, and of those more alike far
less; so time grows little faster than the number of pictures.

Source:
    M. Charikar, "Similarity estimation techniques from rounding algorithms" (2002), section 3; the
    sorted keys: M. Bawa, T. Condie, P. Ganesan, "LSH Forest" (2005).
"""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from headstart.dataset.layout import COLUMNS, LENGTH

ALL_COMPARED = 8192
"""Up to so many pictures, all pairs are compared."""

MISSED = 1e-4
"""Share of the pairs at the very limit of similarity that may be missed beyond that."""

Proposed = tuple[NDArray[np.int64], NDArray[np.int64]]

# Reading a cosine from the other end changes the sign of the odd frequencies.
_EVEN, _ODD = np.flatnonzero(COLUMNS % 2 == 0), np.flatnonzero(COLUMNS % 2 == 1)
_ORDER = np.concatenate([_EVEN, _ODD])
# Of each kind, those of `Bounds` that are multiplied; the others only count by their length.
_LOW = 15
_ROUNDING = np.float32(1e-4)
_BLOCK = 1024
_SEED = 0
_KEY_BITS = 32
_FEWEST_BITS = 4
_TABLES_AT_ONCE = 8
_ROWS_AT_ONCE = 8192
# In a crowd of pictures with one key, each is compared with so many before and behind it.
_WINDOW = 32
# Making and sorting a table's keys costs as much as so many comparisons per picture.
_TABLE_COST = 8.0


class Bounds:
    """The lowest frequencies of pictures, which bound how similar two can be, mirrored or not.

    Args:
        vectors: Descriptions without brightness and contrast, (n_images, 255) float16.
    """

    def __init__(self, vectors: NDArray[np.float16]) -> None:
        self._even = np.empty((len(vectors), _LOW + 1), np.float32)
        self._odd = np.empty((len(vectors), _LOW), np.float32)
        for start in range(0, len(vectors), _ROWS_AT_ONCE):
            part = vectors[start : start + _ROWS_AT_ONCE].astype(np.float32)
            here = slice(start, start + len(part))
            self._even[here, :_LOW] = part[:, _EVEN[:_LOW]]
            self._odd[here] = part[:, _ODD[:_LOW]]
            others = part[:, np.concatenate([_EVEN[_LOW:], _ODD[_LOW:]])]
            # No product of two vectors is greater than that of their lengths.
            self._even[here, _LOW] = np.linalg.norm(others, axis=1)

    def of_pairs(self, one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return what the correlation of pairs is at most, (n_pairs,)."""
        even = np.einsum("ij,ij->i", self._even[one], self._even[other])
        odd = np.einsum("ij,ij->i", self._odd[one], self._odd[other])
        bound: NDArray[np.float32] = even + np.abs(odd) + _ROUNDING
        return bound

    def alike(self, similarity: float) -> Iterator[Proposed]:
        """Yield all pairs that may be alike, block by block."""
        limit = np.float32(similarity) - _ROUNDING
        for start in range(0, len(self._even), _BLOCK):
            rows = slice(start, start + _BLOCK)
            for beside in range(start, len(self._even), _BLOCK):
                columns = slice(beside, beside + _BLOCK)
                bound = self._odd[rows] @ self._odd[columns].T
                np.abs(bound, out=bound)
                bound += self._even[rows] @ self._even[columns].T
                one, other = np.divmod(np.flatnonzero(bound >= limit), bound.shape[1])
                one, other = one + start, other + beside
                once = one < other
                yield one[once], other[once]


def with_common_keys(vectors: NDArray[np.float16], similarity: float) -> Iterator[Proposed]:
    """Yield pairs that have a key in common, as they are or one of them mirrored.

    Args:
        vectors: Descriptions without brightness and contrast, (n_images, 255) float16.
        similarity: Least correlation of a pair that is wanted.
    """
    rng = np.random.default_rng(_SEED)
    bits, tables, done = 0, 1, 0
    while done < tables:
        for keys in _keys(vectors, rng):
            # With the position behind the key, one sort serves both.
            entries = keys.astype(np.uint64) << np.uint64(32)
            entries += np.arange(len(entries), dtype=np.uint64)
            entries.sort()
            if not done:
                bits, tables = _bits_and_tables(entries, similarity)
            if done < tables:
                yield from _neighbors(entries, bits, len(vectors))
            done += 1


def _keys(vectors: NDArray[np.float16], rng: np.random.Generator) -> NDArray[np.uint32]:
    """Return keys of all pictures, then of their mirror images, (n_tables, 2 n_images)."""
    n_images = len(vectors)
    planes = rng.standard_normal((LENGTH, _TABLES_AT_ONCE * _KEY_BITS), np.float32)
    keys = np.empty((_TABLES_AT_ONCE, 2, n_images), np.uint32)
    for start in range(0, n_images, _ROWS_AT_ONCE):
        part = vectors[start : start + _ROWS_AT_ONCE, _ORDER].astype(np.float32)
        even = part[:, : len(_EVEN)] @ planes[: len(_EVEN)]
        odd = part[:, len(_EVEN) :] @ planes[len(_EVEN) :]
        for mirrored, sides in enumerate((even > -odd, even > odd)):
            packed = np.packbits(sides.reshape(len(part), _TABLES_AT_ONCE, _KEY_BITS), axis=-1)
            keys[:, mirrored, start : start + len(part)] = packed.view(">u4")[..., 0].T
    return keys.reshape(_TABLES_AT_ONCE, 2 * n_images)


def _bits_and_tables(entries: NDArray[np.uint64], similarity: float) -> tuple[int, int]:
    """Choose how many bits of the keys count, and how many tables that takes, by the least work."""
    # Source: Charikar, section 3.
    same_side = 1 - math.acos(similarity) / math.pi
    # What all bits leave together are mostly copies, which no key can keep apart.
    copies = _compared(entries, _KEY_BITS)
    work = {}
    for bits in range(_FEWEST_BITS, _KEY_BITS + 1):
        tables = math.ceil(math.log(MISSED) / math.log1p(-(same_side**bits)))
        strangers = _compared(entries, bits) - copies
        work[tables * (_TABLE_COST + strangers)] = bits, tables
    return work[min(work)]


def _compared(entries: NDArray[np.uint64], bits: int) -> float:
    """Return how many others, on average, a sorted table pairs an entry with."""
    prefixes = entries >> np.uint64(64 - bits)
    ends = np.flatnonzero(np.diff(prefixes, append=~prefixes[-1:]))
    sizes = np.diff(ends, prepend=-1).astype(np.float64)
    return float(sizes @ (sizes - 1)) / len(entries)


def _neighbors(entries: NDArray[np.uint64], bits: int, n_images: int) -> Iterator[Proposed]:
    """Pair the entries of a sorted table that begin with the same bits."""
    prefixes = entries >> np.uint64(64 - bits)
    position = (entries & np.uint64(0xFFFFFFFF)).astype(np.int64)
    mirrored = position >= n_images
    image = np.where(mirrored, position - n_images, position)
    first = np.arange(len(entries))
    for distance in range(1, _WINDOW + 1):
        first = first[: np.searchsorted(first, len(entries) - distance)]
        first = first[prefixes[first] == prefixes[first + distance]]
        if not len(first):
            return
        # Two mirror images are as alike as what they mirror.
        once = first[~(mirrored[first] & mirrored[first + distance])]
        one, other = image[once], image[once + distance]
        yield np.minimum(one, other), np.maximum(one, other)
