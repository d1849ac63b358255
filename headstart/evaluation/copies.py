"""Finding test images that are a part, a mirror image or another file of a known picture.

Each test image is laid over the pictures that may show the same, and the part in which they agree
is moved until they agree best. Of a copy a remainder is left, as of a stranger; but a copy's is
small against that of the next picture (Lowe's ratio test). How small a stranger's gets depends on
the data, so the limit is measured: training and validation images are compared with each other in
the same way, and `FALSE_ALARMS` of them would be taken for copies.

Source:
    D. Lowe, "Distinctive Image Features from Scale-Invariant Keypoints" (2004), section 7.1.
"""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headstart.common.cache import INSPECTIONS
from headstart.common.cache_table import CacheTable, key_of
from headstart.common.code import digest_of_code
from headstart.common.files import digest_of
from headstart.dataset.descriptions import cosine_series
from headstart.evaluation.alignment import MIRROR, align
from headstart.evaluation.windows import Candidates, WindowSearch

FALSE_ALARMS = 0.002
"""Share of images without a copy that pass the limit, where it stays below `LARGEST`."""

LARGEST = 0.1
"""Largest share of the next picture's remainder that a copy may leave, whatever is usual.

On textures, drawn cells and drawn tiles nine in ten crops to 90 % of each side leave less, and of
images without a copy one in 400 less than 0.17.
"""

CERTAIN = 0.03
"""Share below which several candidates in a row are all taken for copies of one picture, and the
limit where there are too few images to learn what is usual."""

LEAST_CORRELATION = 0.9
"""Of what overlaps, for pictures so unlike each other that any share of the next one is small."""

_CANDIDATES = 5
_ASKED = 2048
_SAMPLE = 1000
_FEWEST = 20
# Copies are brightened less than this: bare edges agree perfectly, whatever they belong to.
_BRIGHTNESS, _CONTRAST, _LEAST_CONTRAST = 48.0, 1.5, 2.0
# The tail of the ratios is followed from these shares of the images on.
_UPPER, _LOWER = 0.25, 0.05
_SAME_FRAME = 0.03


class Copy(NamedTuple):
    """A picture found again.

    Attributes:
        asked: Position of the image that was asked for.
        known: Position of the one it is a copy of.
        kind: "near", "mirrored" or "crop".
        similarity: Correlation where they overlap.
    """

    asked: int
    known: int
    kind: str
    similarity: float


class _Verdicts(NamedTuple):
    """What the nearest picture of each image is, each (n_images,)."""

    ratio: NDArray[np.float64]
    remainder: NDArray[np.float64]
    known: NDArray[np.int64]
    kind: NDArray[np.str_]
    similarity: NDArray[np.float64]


def find_copies(
    asked: NDArray[np.float16],
    known: NDArray[np.float16],
    groups: NDArray[np.int64],
    cache: Path | None = None,
) -> list[Copy]:
    """Find the images that show what a known one shows; what was found is kept.

    Args:
        asked: Descriptions of the images in question, (n_asked, 257) float16.
        known: Descriptions of the others, (n_known, 257) float16.
        groups: (n_known,) images that are known to belong together share a number; -1 stands alone.
        cache: The cache folder, unless it is the user's own.

    Returns:
        At most one known picture per asked image, in order.
    """
    code = [
        "evaluation/copies.py",
        "evaluation/alignment.py",
        "evaluation/windows.py",
        "features/approximate.py",
    ]
    digest = digest_of({"code": digest_of_code([*code, "dataset"]), "numpy": np.__version__})
    parts = [hashlib.sha256(one.tobytes()).digest() for one in (asked, known, groups)]
    key = key_of(parts)
    with CacheTable(INSPECTIONS, digest, cache) as table:
        kept = table.find([key]).get(key)
        if kept is not None:
            return [Copy(*line) for line in json.loads(kept)]
        found = _find(asked, known, groups)
        table.add({key: json.dumps(found).encode()})
    return found


def _find(
    asked: NDArray[np.float16], known: NDArray[np.float16], groups: NDArray[np.int64]
) -> list[Copy]:
    shown, usable = (np.flatnonzero(one.any(axis=1)) for one in (asked, known))
    if not len(shown) or len(usable) < 2:
        return []
    known, groups = known[usable], groups[usable]
    sample = np.unique(np.linspace(0, len(known) - 1, _SAMPLE).astype(np.int64))
    sets = np.where(groups < 0, -1 - np.arange(len(groups)), groups)
    search = WindowSearch(known, sets, sample)
    usual = _judge(search, known[sample], known, groups, sets=sets[sample])
    # Some may have nothing to be compared with, since all others belong to their group.
    told = usual.remainder < 1
    limit = ratio_limit(usual.ratio[told])
    typical = float(np.median(usual.remainder[told])) if told.any() else None
    verdicts = _judge(search, asked[shown], known, groups, typical=typical)
    return [
        Copy(
            int(shown[i]),
            int(usable[verdicts.known[i]]),
            str(verdicts.kind[i]),
            float(verdicts.similarity[i]),
        )
        for i in np.flatnonzero(verdicts.ratio < limit).tolist()
    ]


def ratio_limit(strangers: NDArray[np.float64]) -> float:
    """Return the ratio below which an image is taken for a copy.

    Near 0 the share of ratios below x goes as a power of x, whose exponent is that between two
    quantiles. Small ratios are left out as those of copies among the images, if what the others
    follow does not reach down to them.

    Args:
        strangers: (n_images,) ratios of images, of which some may be copies.
    """
    for least in (LARGEST, CERTAIN, 0.0):
        ratios = strangers[strangers >= least]
        if len(ratios) < _FEWEST:
            return CERTAIN
        upper, lower = np.quantile(ratios, [_UPPER, _LOWER])
        exponent = np.log(_UPPER / _LOWER) / np.log(upper / lower) if lower < upper else np.inf
        limit = float(lower * (FALSE_ALARMS / _LOWER) ** (1 / exponent))
        if limit >= least:
            break
    return min(limit, LARGEST)


def _judge(
    search: WindowSearch,
    asked: NDArray[np.float16],
    known: NDArray[np.float16],
    groups: NDArray[np.int64],
    *,
    sets: NDArray[np.int64] | None = None,
    typical: float | None = None,
) -> _Verdicts:
    """Lay images over their candidates, and compare the best with the next one.

    An image whose best candidate is certainly none gets the ratio 1.

    Args:
        search: Finds the candidates.
        asked: Descriptions of the images.
        known: Descriptions of what is searched.
        groups: Their groups.
        sets: What each passes over, as `WindowSearch.nearest` takes it.
        typical: What a stranger leaves; it stands behind the candidates, which may all be copies.
    """
    where, void = search.nearest(asked, min(_CANDIDATES, len(known)), sets)
    places = [slice(start, start + _ASKED) for start in range(0, len(asked), _ASKED)]
    parts = [
        _judged(search.placed(asked[at], where[at], void[at]), asked[at], known, groups, typical)
        for at in places
    ]
    return _Verdicts(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _judged(
    found: Candidates,
    asked: NDArray[np.float16],
    known: NDArray[np.float16],
    groups: NDArray[np.int64],
    typical: float | None,
) -> _Verdicts:
    shape = found.position.shape
    pictures = np.repeat(cosine_series(asked), shape[1], axis=0)
    pictures[found.mirrored.ravel()] *= MIRROR
    others = cosine_series(known[found.position.ravel()])
    fit = align(pictures, others, found.window.reshape(-1, 4))
    agreed = np.where(found.void, np.float32(-1), fit.correlation.reshape(shape))
    order = np.argsort(-agreed, axis=1, kind="stable")

    def sorted_by(values: NDArray[np.float32]) -> NDArray[np.float32]:
        rest = values.shape[1:]
        return np.take_along_axis(
            values.reshape(*shape, *rest), order.reshape(*shape, *[1] * len(rest)), 1
        )

    correlation = np.take_along_axis(agreed, order, 1).astype(np.float64)
    position = np.take_along_axis(found.position, order, 1)
    contrast = sorted_by(fit.contrast)[:, 0]
    possible = (
        (correlation[:, 0] >= LEAST_CORRELATION)
        & (contrast.min(axis=1) >= _LEAST_CONTRAST)
        & (contrast.max(axis=1) <= _CONTRAST * contrast.min(axis=1))
        & (np.abs(sorted_by(fit.brightness)[:, 0]) <= _BRIGHTNESS)
    )
    remainders = np.maximum(1 - correlation, 1e-6)
    ratio = np.where(possible, _ratios(remainders, groups[position], typical), 1.0)
    mirrored = np.take_along_axis(found.mirrored, order, 1)[:, 0]
    whole = np.array([1, 0, 1, 0], np.float32)
    cropped = np.abs(sorted_by(fit.window)[:, 0] - whole).max(axis=1) > _SAME_FRAME
    kinds = np.where(cropped, "crop", np.where(mirrored, "mirrored", "near"))
    return _Verdicts(ratio, remainders[:, 0], position[:, 0], kinds, correlation[:, 0])


def _ratios(
    remainders: NDArray[np.float64], groups: NDArray[np.int64], typical: float | None
) -> NDArray[np.float64]:
    """Return what the best candidate leaves as a share of what the next one does.

    Passed over are those known to belong with the best, and those that are certainly copies, too.

    Args:
        remainders: (n_images, n_candidates), ascending.
        groups: Likewise, of the candidates; -1 for none.
        typical: What stands behind the last; None for nothing.
    """
    with_best = (groups == groups[:, :1]) & (groups >= 0)
    with_best[:, 0] = False
    if typical is None:
        with_best[with_best[:, 1:].all(axis=1)] = False
    left = np.sort(np.where(with_best, np.inf, remainders), axis=1)
    last = left.max(axis=1, initial=0, where=np.isfinite(left), keepdims=True)
    behind = last if typical is None else np.maximum(last, typical)
    left = np.concatenate([np.where(np.isinf(left), behind, left), behind], axis=1)
    steps = left[:, :-1] / left[:, 1:]
    ratios: NDArray[np.float64] = steps[:, 0]
    further = steps[:, 1:].min(axis=1)
    return np.where(further < CERTAIN, np.minimum(further, ratios), ratios)
