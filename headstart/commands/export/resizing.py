"""`headstart.images.resizing.resize` as a graph of plain Keras operations, for images of any size.

In every runtime a saved model must see the pixels that the pipeline saw, but no runtime has
Pillow's filter. So its arithmetic is rebuilt here: Pillow rounds each weight of the filter to a
multiple of 2**-22, sums pixels times weights in whole numbers, and rounds to 8 bits after each of
two passes.

Two rules make the pixels the same everywhere. First, all arithmetic stays exact in float32: no
number has more than 24 bits, and weights are split into two halves of 11 bits, so that their
products with pixels can be summed. Second, what depends on positions is computed in int32, so that
a runtime that silently computes in bfloat16 or float16 (as OpenVINO does by default where the
processor can) loses a level of brightness and not the whole picture.

Source: Pillow 13, src/libImaging/Resample.c: bilinear_filter, bicubic_filter, precompute_coeffs,
normalize_coeffs_8bpc, ImagingResampleHorizontal_8bpc.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.common.tensorflow_runtime import keras
from headstart.common.vocabulary import Interpolation, Resize, Sizing

ops = keras.ops

Tensor = Any  # a keras.KerasTensor; Keras ships no type information

_BITS = 22  # of a weight's fraction
_HALF = 2**11

# The cubic filter is developed around multiples of 1 / 128, where it is a multiple of 2**-22.
_POINTS = 128


def resized(images: Tensor, sizing: Sizing) -> Tensor:
    """Bring symbolic images, whose size is known only at run time, to a fixed size.

    Args:
        images: (batch, H, W, 3) uint8, RGB in [0, 255]. Sums of weights stay exact up to sides of
            2880 times the root of the wanted side, which is 43,000 pixels for 224.
        sizing: To which size and how.

    Returns:
        (batch, height, width, 3) float32: the same whole numbers as from
        `headstart.images.resizing.resize`.
    """
    height, width = sizing.image_size
    # Sizes as sums of ones: a graph of Keras operations cannot ask for a shape.
    ones = ops.ones_like(images[0, :, :, 0], dtype="int32")
    rows, columns = ones[:, 0], ones[0]
    own_height, own_width = ops.sum(rows), ops.sum(columns)
    across = _plan(own_width, own_height, width, height, sizing.resize)
    down = _plan(own_height, own_width, height, width, sizing.resize)
    # Channels first, so that both passes are products of large matrices.
    pixels = ops.cast(ops.transpose(images, (0, 3, 1, 2)), "float32")
    high, low = _weights(columns, across, width, sizing.interpolation)
    pixels = _rounded(ops.matmul(pixels, high), ops.matmul(pixels, low))
    high, low = (ops.transpose(half) for half in _weights(rows, down, height, sizing.interpolation))
    pixels = _rounded(ops.matmul(high, pixels), ops.matmul(low, pixels))
    return ops.transpose(pixels, (0, 2, 3, 1))


@dataclass(frozen=True, slots=True)
class _AxisPlan:
    """What happens along one axis, in whole numbers known at run time.

    Attributes:
        start: First pixel that is taken from the image.
        taken: How many are taken.
        offset: Where the first one goes in the result.
        given: How many pixels of the result they become; the others are black.
    """

    start: Tensor
    taken: Tensor
    offset: Tensor
    given: Tensor


def _plan(own: Tensor, own_other: Tensor, wanted: int, wanted_other: int, way: Resize) -> _AxisPlan:
    """Do the arithmetic of `headstart.images.resizing.resize` for one axis."""
    taken, given = own, ops.zeros_like(own) + wanted
    if way == "crop":
        kept = ops.floor_divide(own_other * wanted, wanted_other)
        taken = ops.maximum(1, ops.minimum(own, kept))
    elif way == "pad":
        inner = ops.floor_divide(2 * wanted_other * own + own_other, 2 * own_other)
        given = ops.maximum(1, ops.minimum(given, inner))
    start = ops.floor_divide(own - taken, 2)
    offset = ops.floor_divide(wanted - given, 2)
    return _AxisPlan(start, taken, offset, given)


def _weights(
    ones: Tensor, plan: _AxisPlan, wanted: int, interpolation: Interpolation
) -> tuple[Tensor, Tensor]:
    """Return the filter's weights (own, wanted) float32 as a sum of two halves."""
    source = ops.expand_dims(ops.cumsum(ones) - 1 - plan.start, 1)
    target = ops.subtract(np.arange(wanted, dtype=np.int32)[np.newaxis], plan.offset)
    # Distance of the pixels' centers; `unit` is 1 in the filter's own units.
    distance = ops.absolute((2 * source + 1) * plan.given - (2 * target + 1) * plan.taken)
    unit = 2 * ops.maximum(plan.taken, plan.given)
    inside = (
        ops.cast(source >= 0, "int32")
        * ops.cast(source < plan.taken, "int32")
        * ops.cast(target >= 0, "int32")
        * ops.cast(target < plan.given, "int32")
    )
    if interpolation == "bilinear":
        weights = _normalized_bilinear(distance, unit, inside)
    else:
        weights = _normalized_bicubic(distance, unit, inside)
    high = ops.floor_divide(weights, _HALF)
    low = weights - high * _HALF
    return ops.cast(high, "float32") / _HALF, ops.cast(low, "float32") / _HALF**2


def _normalized_bilinear(distance: Tensor, unit: Tensor, inside: Tensor) -> Tensor:
    """Return the triangle filter, columns summing to 1, in multiples of 2**-22."""
    filtered = ops.maximum(unit - distance, 0) * inside
    quotient, remainder, total = _divided_by_sum(filtered)
    return quotient + ops.cast(2 * remainder >= total, "int32")


def _normalized_bicubic(distance: Tensor, unit: Tensor, inside: Tensor) -> Tensor:
    """Return the cubic filter with a = -0.5, columns summing to 1, in multiples of 2**-22.

    Its values are cubes of fractions, too long for one number. So each is the sum of a multiple of
    2**-11, for which the division is exact, and a correction that is so small that floating point
    is exact enough.
    """
    distance = ops.minimum(distance, 2 * unit)
    point = ops.floor_divide(distance * _POINTS, unit)
    step = ops.cast(distance * _POINTS - point * unit, "float32")
    step = step / ops.cast(unit, "float32") / _POINTS
    is_near, is_far = point < _POINTS, point < 2 * _POINTS
    # Beyond 1 in powers of the distance to 2, where the filter ends: -s * s * (1 - s) / 2.
    left = 2 * _POINTS - point
    near = (3 * point - 5 * _POINTS) * point * point + 2**_BITS
    far = (left - _POINTS) * left * left
    at, to = ops.cast(point, "float32") / _POINTS, ops.cast(left, "float32") / _POINTS
    near_rise = ((1.5 * step + (4.5 * at - 2.5)) * step + (4.5 * at - 5.0) * at) * step
    far_rise = ((-0.5 * step + (1.5 * to - 0.5)) * step - (1.5 * to - 1.0) * to) * step
    rise = ops.where(is_near, near_rise, far_rise) * 2.0**_BITS
    whole_rise = ops.floor(rise)
    inside = inside * ops.cast(is_far, "int32")
    value = ops.where(is_near, near, far) + ops.cast(whole_rise, "int32")
    coarse = ops.floor_divide(value + _HALF // 2, _HALF) * inside
    fine = ops.cast(value - coarse * _HALF, "float32") + (rise - whole_rise)
    fine = fine * ops.cast(inside, "float32")

    # (coarse + fine) / (sum of coarse + sum of fine), rearranged so that only small numbers are
    # left to floating point.
    quotient, remainder, total = _divided_by_sum(coarse)
    fine_total = ops.sum(fine, axis=0, keepdims=True)
    share = ops.cast(quotient, "float32") / 2.0**_BITS
    whole = ops.cast(total, "float32") / _HALF + fine_total / 2.0**_BITS
    correction = (fine - share * fine_total) / whole
    fraction = ops.cast(remainder, "float32") / ops.cast(total, "float32")
    return quotient + ops.cast(ops.floor(fraction + correction + 0.5), "int32")


def _divided_by_sum(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Divide whole numbers by the sum of their column: a long division, six bits at a time.

    Exact for sums below 2**24, however the runtime rounds a division: if a digit is too high, the
    next one is negative and makes up for it.

    Returns:
        Quotient in multiples of 2**-22, remainder, and sum.
    """
    # A column of padding sums to 0.
    total = ops.maximum(ops.sum(values, axis=0, keepdims=True), 1)
    quotient, remainder = ops.zeros_like(values), values
    for base in (64, 64, 64, 16):
        digit = ops.floor_divide(remainder * base, total)
        remainder = remainder * base - digit * total
        quotient = quotient * base + digit
    return quotient, remainder, total


def _rounded(high: Tensor, low: Tensor) -> Tensor:
    """Return high + low, rounded half up and clipped to [0, 255]; `high` has 11 binary places."""
    high = high + 0.5
    whole = ops.floor(high)
    low = ops.floor(low * _HALF) / _HALF
    return ops.clip(whole + ops.floor((high - whole) + low), 0.0, 255.0)
