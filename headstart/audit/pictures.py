"""Which pictures show little, or stand out from all others of the data set."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from headstart.audit.table import Kind
from headstart.dataset.descriptions import Pictures
from headstart.dataset.layout import LENGTH

Floats = npt.NDArray[np.float64]

LIMIT = 3.5
"""Standard deviations from the median, told by the median deviation, beyond which a value is odd.

Source: Iglewicz and Hoaglin, How to Detect and Handle Outliers, 1993.
"""

_FEWEST = 10
"""Values of which fewer do not tell what is usual."""

# Values that no picture worth a look has: a set of small digits or of night photos is not odd in
# itself, and one of equal pictures not because one of them differs a little.
_DARK = 40.0  # mean gray level of 255
_BLURRED = 0.5  # of `headstart.dataset.duplicates.sharpness`
_TINY = 64  # pixels along the shorter side
_LONG = 3.0  # longer side over the shorter

# Least scales, so that sets in which nearly all values are equal keep some room.
_GRAY_SCALE = 5.0
_LOG_SCALE = np.log(1.15)


class Oddity(NamedTuple):
    """An image that stands out.

    Attributes:
        position: Of the image.
        kind: See `headstart.audit.table.KINDS`.
        score: In [0, 1], 0 at the limit, near 1 far beyond it.
    """

    position: int
    kind: Kind
    score: float


def odd_pictures(
    pictures: Pictures, widths: npt.NDArray[np.int64], heights: npt.NDArray[np.int64]
) -> Iterator[Oddity]:
    """Yield images that are blank, or darker, more blurred, smaller or longer than the others.

    A value must be odd among those of the data set and odd in itself.

    Args:
        pictures: Of n images.
        widths: (n,) in pixels.
        heights: (n,) in pixels.
    """
    read = np.ones(len(widths), dtype=bool)
    read[pictures.unusable] = False
    shows = np.asarray(pictures.descriptions.any(axis=1))
    yield from (Oddity(int(at), "blank", 1.0) for at in np.flatnonzero(read & ~shows))
    brightness = pictures.descriptions[:, LENGTH].astype(np.float64)
    sharp = np.log(np.maximum(pictures.sharpness.astype(np.float64), 1e-3))
    side = np.log(np.minimum(widths, heights))
    length = np.log(widths / heights)
    kinds: tuple[tuple[Kind, Floats, npt.NDArray[np.bool_], float], ...] = (
        ("blurred", -sharp, shows & (sharp < np.log(_BLURRED)), _LOG_SCALE),
        ("dark", -brightness, shows & (brightness < _DARK), _GRAY_SCALE),
        ("tiny", -side, np.minimum(widths, heights) < _TINY, _LOG_SCALE),
        ("aspect", length, length > np.log(_LONG), _LOG_SCALE),
        ("aspect", -length, -length > np.log(_LONG), _LOG_SCALE),
    )
    for kind, values, extreme, scale in kinds:
        among = shows if kind in ("blurred", "dark") else np.ones(len(values), dtype=bool)
        scores = beyond(values, among, least_scale=scale)
        yield from (
            Oddity(at, kind, float(scores[at]))
            for at in np.flatnonzero(extreme & (scores > 0)).tolist()
        )


def beyond(
    values: Floats,
    among: npt.NDArray[np.bool_],
    *,
    least_scale: float = 0.0,
    limit: float = LIMIT,
) -> Floats:
    """Return how far values lie above what is usual, (n,): 0 up to the limit, below 1.

    Of a few values nothing is usual, so all are 0.

    Args:
        values: (n,).
        among: (n,) those that say what is usual.
        least_scale: Of the values' spread.
        limit: Standard deviations that are usual.

    Source: the median of absolute deviations as an estimate of the standard deviation, Hampel, The
        Influence Curve and Its Role in Robust Estimation, JASA 69, 1974.
    """
    if np.count_nonzero(among) < _FEWEST:
        return np.zeros(len(values))
    middle = np.median(values[among])
    scale = max(1.4826 * float(np.median(np.abs(values[among] - middle))), least_scale, 1e-12)
    deviation = (values - middle) / scale
    return np.asarray(1 - limit / np.maximum(deviation, limit))
