"""Which pictures may be a part of which: a search over all, by coarse pictures of some windows."""

from collections.abc import Callable, Iterator, Sequence
from itertools import product
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
        found /= np.maximum(np.linalg.norm(found, axis=2, keepdims=True), np.float32(1e-9))
        return np.ascontiguousarray(found.swapaxes(0, 1))

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
        found = [*self._windows_of_asked(asked, count), *self._windows_of_known(asked, sets)]
        one, other, alike = (np.concatenate(column) for column in zip(*found, strict=True))
        del found
        if sets is not None:
            apart = sets[one] != self._sets[other]
            one, other, alike = one[apart], other[apart], alike[apart]
        # Of each pair the best window, then of each picture the best pairs.
        order = np.lexsort((-alike, other, one))
        one, other, alike = one[order], other[order], alike[order]
        first = np.append(True, (one[1:] != one[:-1]) | (other[1:] != other[:-1]))
        one, other, alike = one[first], other[first], alike[first]
        order = np.lexsort((-alike, one))
        one, other = one[order], other[order]
        rank = np.arange(len(one)) - np.searchsorted(one, one)
        where = np.zeros((len(asked), count), np.int64)
        void = np.ones((len(asked), count), bool)
        kept = rank < count
        where[one[kept], rank[kept]] = other[kept]
        void[one[kept], rank[kept]] = False
        return where, void

    def _windows_of_asked(
        self, asked: NDArray[np.float16], count: int
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], Floats]]:
        """Look windows of the asked pictures, mirrored ones too, up among the known pictures."""
        lists = self._lists([cosine_series], self._known)
        for start in range(0, len(asked), _KNOWN):
            series = cosine_series(asked[start : start + _KNOWN])
            for side in (series, series * MIRROR):
                queries = self._vectors(side).reshape(-1, self._maps.shape[1] // len(_WINDOWS))
                alike, other = lists.search(queries, count)
                one = np.tile(np.arange(start, start + len(series)), len(_WINDOWS))
                there = other >= 0
                yield np.repeat(one, count)[there.ravel()], other[there], alike[there]

    def _windows_of_known(
        self, asked: NDArray[np.float16], sets: NDArray[np.int64] | None
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], Floats]]:
        """Look windows of the known pictures up among the asked ones, mirrored ones too."""
        lists = self._lists([cosine_series, lambda part: cosine_series(part) * MIRROR], asked)
        for start in range(0, len(self._known), _KNOWN):
            windows = self._vectors(cosine_series(self._known[start : start + _KNOWN]))[1:]
            alike, one = lists.search(windows.reshape(-1, windows.shape[2]), 2)
            other = np.tile(np.arange(start, start + windows.shape[1]), len(windows))
            there = one >= 0
            one %= len(asked)
            if sets is not None:
                there &= sets[one] != self._sets[other][:, None]
            # Of each known picture the window that some asked one is most like.
            alike = np.where(there, alike, -np.inf).reshape(len(windows), -1, 2)
            best = alike.swapaxes(0, 1).reshape(alike.shape[1], -1)
            places = best.argmax(axis=1)[:, None]
            one = one.reshape(alike.shape).swapaxes(0, 1).reshape(best.shape)
            best, one = (np.take_along_axis(part, places, 1)[:, 0] for part in (best, one))
            kept = np.isfinite(best)
            yield one[kept], np.flatnonzero(kept) + start, best[kept]

    def _lists(
        self,
        series_of: Sequence[Callable[[NDArray[np.float16]], Floats]],
        pictures: NDArray[np.float16],
    ) -> Any:
        """Index whole pictures, for each of some ways to see them one after the other."""

        def whole(part: NDArray[np.float16], of: Callable[[NDArray[np.float16]], Floats]) -> Floats:
            return np.ascontiguousarray(self._vectors(of(part))[0])

        some = np.unique(np.linspace(0, len(pictures) - 1, _SAMPLE).astype(np.int64))
        n_vectors = len(series_of) * len(pictures)
        lists = inverted_lists(whole(pictures[some], series_of[0]), n_vectors, _PROBED)
        for of in series_of:
            for start in range(0, len(pictures), _KNOWN):
                lists.add(whole(pictures[start : start + _KNOWN], of))
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
