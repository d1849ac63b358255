"""Which pictures may be a part of which: a search over all, by coarse pictures of some windows."""

from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headstart.dataset.descriptions import cosine_series
from headstart.evaluation.alignment import MIRROR, cosines

Floats = NDArray[np.float32]

# Frequencies compared; a window a tenth off still correlates there.
_COARSE = 8
# A frequency that hardly occurs is not scaled up beyond this share of the strongest.
_LEAST_POWER = 0.02
# Known pictures looked at together.
_KNOWN = 512

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

    def search(
        self, asked: NDArray[np.float16], count: int, sets: NDArray[np.int64] | None = None
    ) -> Candidates:
        """Return the `count` known pictures most alike in some window, in no order.

        Args:
            asked: Descriptions, (n_asked, 257) float16.
            count: At most the number of known pictures.
            sets: (n_asked,) sets of known pictures, of which each image passes over one.
        """
        series = cosine_series(asked)
        sides = [self._vectors(one) for one in (series, series * MIRROR)]
        best = np.empty((len(asked), 0), np.float32)
        where = np.empty((len(asked), 0), np.int64)
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
        return self._placed(sides, where, np.isinf(best))

    def _placed(
        self, sides: list[Floats], where: NDArray[np.int64], void: NDArray[np.bool_]
    ) -> Candidates:
        """Find again which window was the most alike; kept for all it would fill the memory."""
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
