"""Laying one small picture over a part of another, and how well they agree there.

Pictures are cosine series (`headstart.dataset.descriptions.cosine_series`), which have a value and
a slope at every point: a crop is a window, and moving its edges needs no resampling. A window is
(width, left, height, top) in units of the picture; (1, 0, 1, 0) is all of it.

Source:
    Gauss-Newton on the window, with gain and offset solved for at once: S. Baker, I. Matthews,
    "Lucas-Kanade 20 Years On: A Unifying Framework" (2004), sections 2 and part 3.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headstart.common.threads import in_order, one_thread_each
from headstart.dataset.layout import FREQUENCIES

Floats = NDArray[np.float32]

_POINTS = 16
# Points at the rim are left out: what stands there depends on how the picture was enlarged.
_RIM = 1 / _POINTS
_KNOWN_RIM = 1 / 32
# Frequencies above are damped: a crop has others than the window it came from, and recompressing
# and resizing change them first.
_SOFT_LIMIT = 8.0
_STEPS = 10
# How far an edge moves in a step, and in all: the search has tried windows that near.
_STEP, _REACH = 0.08, 0.15
_LARGEST = 1.47
_DAMPING = 1e-3
_LEAST_OVERLAP = 0.35
_PAIRS_AT_ONCE = 128

_FREQUENCY = np.arange(FREQUENCIES, dtype=np.float32)
_GRID = ((np.arange(_POINTS) + 0.5) / _POINTS).astype(np.float32)
_INSIDE = (_GRID > _RIM) & (_GRID < 1 - _RIM)

MIRROR = np.where(np.arange(FREQUENCIES) % 2 == 1, -1, 1).astype(np.float32)
"""A picture seen in a mirror is its series times this: the odd columns change their sign."""


class Agreement(NamedTuple):
    """How well pictures agree with windows of others, each (n_pairs,) or as given.

    Attributes:
        correlation: In [-1, 1]; -1 where hardly anything overlaps.
        window: (n_pairs, 4) where the picture lies in the other.
        brightness: Mean of the picture minus that of the other where they overlap, in gray levels.
        contrast: (n_pairs, 2) standard deviations there in gray levels.
    """

    correlation: Floats
    window: Floats
    brightness: Floats
    contrast: Floats


def cosines(points: Floats) -> Floats:
    """Return the functions of a cosine series at points, (...,) to (..., 16)."""
    values: Floats = np.cos(np.pi * points[..., None] * _FREQUENCY)
    values[..., 0] = np.sqrt(0.5)
    return values


def align(pictures: Floats, others: Floats, windows: Floats) -> Agreement:
    """Find the windows of `others` that agree best with `pictures`, near given ones.

    Args:
        pictures: (n_pairs, 16, 16) cosine series.
        others: Likewise.
        windows: (n_pairs, 4), where to start. One may reach beyond the other picture, which then
            shows a part of the picture.
    """

    def part(start: int) -> Agreement:
        pairs = slice(start, start + _PAIRS_AT_ONCE)
        return _align(pictures[pairs], others[pairs], windows[pairs])

    with one_thread_each():
        parts = list(in_order(part, range(0, max(len(pictures), 1), _PAIRS_AT_ONCE)))
    return Agreement(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _align(pictures: Floats, others: Floats, start: Floats) -> Agreement:
    one = _softened(pictures, np.ones((len(pictures), 2), np.float32))
    basis = cosines(_GRID)
    wanted = (basis @ one @ basis.T).astype(np.float32, copy=False)
    # A frequency of the window is one of `others` times the window's size.
    seen = _softened(others, start[:, ::2])
    window = start.copy()
    for _ in range(_STEPS):
        parts, weight = _sample(seen, window, slopes=True)
        weighted = parts * weight[:, None]
        flat = parts.reshape(*parts.shape[:2], -1)
        normal = weighted.reshape(flat.shape) @ flat.swapaxes(1, 2)
        right = weighted.reshape(flat.shape) @ wanted.reshape(len(wanted), -1, 1)
        diagonal = np.einsum("pii->pi", normal)
        diagonal += _DAMPING * diagonal + 1e-6 * diagonal.max(axis=1, keepdims=True) + 1e-12
        solved = np.linalg.solve(normal, right)[..., 0]
        gain = np.where(np.abs(solved[:, :1]) < 0.2, np.inf, solved[:, :1])
        window += np.clip(solved[:, 3:] / gain, -_STEP, _STEP)
        np.clip(window, start - _REACH, start + _REACH, out=window)
        window[:, ::2] = np.clip(window[:, ::2], 1 / _LARGEST, _LARGEST)
    parts, weight = _sample(seen, window, slopes=False)
    return _agreement(wanted, parts, weight, window)


def _softened(series: Floats, scale: Floats) -> Floats:
    """Damp high frequencies, with the limit at `_SOFT_LIMIT` / scale; (n, 2) columns, rows."""
    damping = np.exp(-0.5 * (_FREQUENCY * scale[..., None] / np.float32(_SOFT_LIMIT)) ** 2)
    softened: Floats = series * damping[:, 1, :, None] * damping[:, 0, None, :]
    return softened


def _sample(series: Floats, window: Floats, *, slopes: bool) -> tuple[Floats, Floats]:
    """Return the picture in windows, what may change it, and where a window lies inside.

    Returns:
        (n, 3 or 7, 16, 16): the picture; its Laplacian, since a picture a little blurred is the
        picture plus so much of that; ones; with `slopes`, the derivatives by the window's parts.
        And (n, 16, 16) weights, 0 or 1.
    """
    x = window[:, 1, None] + window[:, 0, None] * _GRID
    y = window[:, 3, None] + window[:, 2, None] * _GRID
    columns, rows = cosines(x), cosines(y)
    angle = np.pi * _FREQUENCY
    across = columns.swapaxes(1, 2)
    down = rows @ series
    picture = down @ across
    laplacian = -(rows * angle**2) @ series @ across - down @ (columns * angle**2).swapaxes(1, 2)
    parts = [picture, laplacian, np.ones_like(picture)]
    if slopes:
        by_x = down @ (-np.sin(x[..., None] * angle) * angle).swapaxes(1, 2)
        by_y = (-np.sin(y[..., None] * angle) * angle) @ series @ across
        parts += [by_x * _GRID, by_x, by_y * _GRID[:, None], by_y]
    inside_x, inside_y = ((at >= _KNOWN_RIM) & (at <= 1 - _KNOWN_RIM) & _INSIDE for at in (x, y))
    weight = (inside_y[:, :, None] & inside_x[:, None, :]).astype(np.float32)
    return np.stack(parts, axis=1), weight


def _agreement(wanted: Floats, parts: Floats, weight: Floats, window: Floats) -> Agreement:
    """Correlate with the picture, blurred or sharpened as fits best."""
    count = np.maximum(weight.sum(axis=(1, 2)), 1)
    picture, laplacian = parts[:, 0], parts[:, 1]
    means = [(one * weight).sum(axis=(1, 2)) / count for one in (wanted, picture, laplacian)]
    a, b, c = (
        (one - mean[:, None, None]) * weight
        for one, mean in zip((wanted, picture, laplacian), means, strict=True)
    )

    def product(one: Floats, other: Floats) -> Floats:
        return np.asarray(np.einsum("pyx,pyx->p", one, other))

    aa, bb, cc, ab, ac, bc = (
        product(one, other) for one, other in ((a, a), (b, b), (c, c), (a, b), (a, c), (b, c))
    )
    # Least squares of a by b and c; the share of c by that of b is what blurs.
    gain, blur = ab * cc - ac * bc, bb * ac - bc * ab
    usable = gain > 1e-6 * bb * cc
    fitted = b + np.where(usable, blur / np.where(usable, gain, 1), 0)[:, None, None] * c
    correlation = product(a, fitted) / np.sqrt(aa * product(fitted, fitted) + 1e-12)
    enough = weight.mean(axis=(1, 2)) >= _LEAST_OVERLAP
    return Agreement(
        np.where(enough, correlation, -1).astype(np.float32),
        window.astype(np.float32),
        (means[0] - means[1]).astype(np.float32),
        np.sqrt(np.stack([aa, bb], axis=1) / count[:, None]).astype(np.float32),
    )
