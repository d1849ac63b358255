"""Which pictures may be a part of which: a search over all, by coarse pictures of some windows."""

from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import chain, product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headstart.dataset.descriptions import cosine_series
from headstart.evaluation.alignment import MIRROR, cosines
from headstart.features.approximate import inverted_lists

Floats = NDArray[np.float32]

# Frequencies compared; a window a tenth off still correlates there.
_COARSE = 8
# A frequency that hardly occurs is not scaled up beyond this share of the strongest.
_LEAST_POWER = 0.02
# Known pictures looked at together.
_KNOWN = 512

EXACT_PAIRS = 2**25
"""Pairs of pictures up to which all are compared: some seconds."""

_SAMPLE = 65_536
_PROBED = 8

_WINDOWS = np.array(
    [
        (1.0, 0.0, 1.0, 0.0),
        *((0.9, 0.1 * x, 0.9, 0.1 * y) for x, y in product((0.0, 0.5, 1.0), repeat=2)),
        *((0.8, 0.2 * x, 0.8, 0.2 * y) for x, y in product((0.0, 0.5, 1.0), repeat=2)),
    ],
    np.float32,
)


class Candidates(NamedTuple):
    """Pictures that may show the same as those asked for, each (n_asked, count).

    Attributes:
        position: Among the known pictures.
        mirrored: Whether the asked picture must be mirrored first.
        window: (n_asked, count, 4), where it lies in the known one, about.
        void: Whether there was none left but what is passed over.
    """

    position: NDArray[np.int64]
    mirrored: NDArray[np.bool_]
    window: Floats
    void: NDArray[np.bool_]


class WindowSearch:
    """A search for the known pictures of which others may be a part, or which are a part of them.

    Low frequencies are divided by the square root of how strong they are in the known pictures,
    so that what all of them share counts less.

    Args:
        known: Descriptions, (n_known, 257) float16.
        sets: (n_known,) number of the set that each belongs to.
        usual: Positions of some of them that tell how strong a frequency is.
    """

    def __init__(
        self, known: NDArray[np.float16], sets: NDArray[np.int64], usual: NDArray[np.int64]
    ) -> None:
        points = ((np.arange(64) + 0.5) / 64).astype(np.float32)
        to_coarse = cosines(points)[:, :_COARSE].T / 32
        maps = [
            np.kron(
                to_coarse @ cosines(top + height * points),
                to_coarse @ cosines(left + width * points),
            )[1:]
            for width, left, height, top in _WINDOWS
        ]
        self._known, self._sets = known, sets
        power = np.square(cosine_series(known[usual]).reshape(len(usual), -1) @ maps[0].T)
        scale = np.sqrt(power.mean(axis=0))
        scale = np.sqrt(np.maximum(scale, max(_LEAST_POWER * scale.max(), 1e-6)))
        self._maps = np.concatenate([one / scale[:, None] for one in maps]).T.astype(np.float32)

    def _vectors(self, series: Floats) -> Floats:
        """Return what each window shows, (n_windows, n_pictures, 63), of length 1."""
        found = (series.reshape(len(series), -1) @ self._maps).reshape(
            len(series), len(_WINDOWS), -1
        )
        return np.ascontiguousarray(_of_length_1(found).swapaxes(0, 1))

    def nearest(
        self, asked: NDArray[np.float16], count: int, sets: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the known pictures most alike in some window, in no order.

        Of more than `EXACT_PAIRS` pairs most are not compared: each window is looked up among the
        pictures in its corner, as `headstart.features.approximate` says.

        Args:
            asked: Descriptions, (n_asked, 257) float16.
            count: At most the number of known pictures.
            sets: (n_asked,) sets of known pictures, of which each image passes over one.

        Returns:
            Positions, (n_asked, count), and which ones are none: there was nothing left but what
            is passed over.
        """
        find = self._compared if len(asked) * len(self._known) <= EXACT_PAIRS else self._looked_up
        return find(asked, count, sets)

    def _compared(
        self, asked: NDArray[np.float16], count: int, sets: NDArray[np.int64] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        best = np.empty((len(asked), 0), np.float32)
        where = np.empty((len(asked), 0), np.int64)
        series = cosine_series(asked)
        sides = [self._vectors(one) for one in (series, series * MIRROR)]
        for start in range(0, len(self._known), _KNOWN):
            series = cosine_series(self._known[start : start + _KNOWN])
            near = np.full((len(asked), len(series)), -1, np.float32)
            windows = self._vectors(series)
            for side in sides:
                for window in windows:
                    np.maximum(near, side[0] @ window.T, out=near)
                for window in side[1:]:
                    np.maximum(near, window @ windows[0].T, out=near)
            if sets is not None:
                near[sets[:, None] == self._sets[start : start + len(series)]] = -np.inf
            numbers = np.broadcast_to(np.arange(start, start + len(series)), near.shape)
            best, where = np.hstack([best, near]), np.hstack([where, numbers])
            if best.shape[1] > count:
                kept = np.argpartition(-best, count - 1, axis=1)[:, :count]
                best = np.take_along_axis(best, kept, 1)
                where = np.take_along_axis(where, kept, 1)
        return where, np.isinf(best)

    def _looked_up(
        self, asked: NDArray[np.float16], count: int, sets: NDArray[np.int64] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        looks = chain(self._windows_of_asked(asked, count), self._windows_of_known(asked))
        parts = []
        for look in looks:
            apart = np.isfinite(look.alike)
            if sets is not None:
                apart &= sets[look.asked] != self._sets[look.known]
            # Part by part: all windows' pairs would fill the memory.
            parts.append(_best_of(look.at(apart), count))
        best = _best_of(_Pairs.together(parts), count)
        rank = _ranks(best.asked)
        where = np.zeros((len(asked), count), np.int64)
        void = np.ones((len(asked), count), bool)
        where[best.asked, rank] = best.known
        void[best.asked, rank] = False
        return where, void

    def _windows_of_asked(self, asked: NDArray[np.float16], count: int) -> Iterator["_Pairs"]:
        """Look windows of the asked pictures, mirrored ones too, up among the known pictures."""
        for start in range(0, len(asked), _KNOWN):
            series = cosine_series(asked[start : start + _KNOWN])
            for side in (series, series * MIRROR):
                yield _found(self._known_lists, self._vectors(side), start, count)

    def _windows_of_known(self, asked: NDArray[np.float16]) -> Iterator["_Pairs"]:
        """Look windows of the known pictures up among the asked ones, mirrored ones too."""
        lists = self._lists(asked, np.ones_like(MIRROR), MIRROR)
        for start in range(0, len(self._known), _KNOWN):
            windows = self._vectors(cosine_series(self._known[start : start + _KNOWN]))[1:]
            # Two, since the first may be the picture itself.
            known, found, alike = _found(lists, windows, start, 2)
            yield _Pairs(found % len(asked), known, alike)

    @cached_property
    def _known_lists(self) -> Any:
        return self._lists(self._known, np.ones_like(MIRROR))

    def _lists(self, pictures: NDArray[np.float16], *signs: Floats) -> Any:
        """Index whole pictures, with some signs of their cosines one after the other."""
        n_columns = self._maps.shape[1] // len(_WINDOWS)

        def whole(part: NDArray[np.float16], sign: Floats) -> Floats:
            series: Floats = (cosine_series(part) * sign).reshape(len(part), -1)
            projected: Floats = series @ self._maps[:, :n_columns]
            return _of_length_1(projected)

        some = np.unique(np.linspace(0, len(pictures) - 1, _SAMPLE).astype(np.int64))
        lists = inverted_lists(whole(pictures[some], signs[0]), len(signs) * len(pictures), _PROBED)
        for sign in signs:
            for start in range(0, len(pictures), _KNOWN):
                lists.add(whole(pictures[start : start + _KNOWN], sign))
        return lists

    def placed(
        self, asked: NDArray[np.float16], where: NDArray[np.int64], void: NDArray[np.bool_]
    ) -> Candidates:
        """Return what `nearest` found, with the window that was the most alike.

        Found again rather than kept: for all pictures it would fill the memory.

        Args:
            asked: Descriptions, (n_asked, 257) float16.
            where: (n_asked, count) positions of known pictures.
            void: (n_asked, count) which ones are none.
        """
        series = cosine_series(asked)
        sides = [self._vectors(one) for one in (series, series * MIRROR)]
        chosen, flat = np.unique(where, return_inverse=True)
        found = self._vectors(cosine_series(self._known[chosen]))[:, flat.reshape(where.shape)]
        agree = np.stack(
            [
                side
                for asked in sides
                for side in (
                    np.einsum("qv,wqcv->wqc", asked[0], found),
                    np.einsum("wqv,qcv->wqc", asked, found[0]),
                )
            ]
        )
        # (side and direction, window, asked, candidate)
        number = agree.reshape(-1, *where.shape).argmax(axis=0)
        kind, window = np.divmod(number, len(_WINDOWS))
        width, left, height, top = np.moveaxis(_WINDOWS[window], -1, 0)
        around = np.stack([1 / width, -left / width, 1 / height, -top / height], axis=-1)
        placed = np.where((kind % 2 == 1)[..., None], around, _WINDOWS[window])
        return Candidates(where, kind >= 2, placed.astype(np.float32), void)


class _Pairs(NamedTuple):
    """Asked and known pictures, and how alike they are in some window, each (n_pairs,)."""

    asked: NDArray[np.int64]
    known: NDArray[np.int64]
    alike: Floats

    def at(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> "_Pairs":
        return _Pairs(self.asked[chosen], self.known[chosen], self.alike[chosen])

    @classmethod
    def together(cls, parts: Iterable["_Pairs"]) -> "_Pairs":
        asked, known, alike = zip(*parts, strict=True)
        return cls(np.concatenate(asked), np.concatenate(known), np.concatenate(alike))


def _of_length_1(vectors: Floats) -> Floats:
    vectors /= np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), np.float32(1e-9))
    return vectors


def _found(lists: Any, windows: Floats, start: int, count: int) -> _Pairs:
    """Look up windows, (n_windows, n_pictures, n_columns), of pictures numbered from `start`.

    Returns:
        Those pictures as `asked`; what was not found is infinitely unlike.
    """
    alike, other = lists.search(windows.reshape(-1, windows.shape[2]), count)
    own = np.tile(np.arange(start, start + windows.shape[1]), len(windows))
    alike[other < 0] = -np.inf
    return _Pairs(np.repeat(own, count), other.ravel(), alike.ravel())


def _best_of(pairs: _Pairs, count: int) -> _Pairs:
    """Return of each pair its best window, and of each asked picture the best pairs, in order."""
    pairs = pairs.at(np.lexsort((-pairs.alike, pairs.known, pairs.asked)))
    first = np.ones(len(pairs.asked), bool)
    first[1:] = np.diff(pairs.asked).astype(bool) | np.diff(pairs.known).astype(bool)
    pairs = pairs.at(first)
    pairs = pairs.at(np.lexsort((-pairs.alike, pairs.asked)))
    return pairs.at(_ranks(pairs.asked) < count)


def _ranks(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the position of each value among its equals, (n,); values are sorted."""
    return np.arange(len(values)) - np.searchsorted(values, values)
