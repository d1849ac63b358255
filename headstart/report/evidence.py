"""Where in an image the evidence for a class lies: class activation maps of any head."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from headstart.common.vocabulary import Pooling

Logits = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.floating[Any]]]

_STEP = 0.25
_CHUNK_BYTES = 2**27


def class_evidence(
    spatial: npt.NDArray[np.float32],
    feature: npt.NDArray[np.float32],
    pooling: Pooling,
    logits: Logits,
    label: int,
) -> npt.NDArray[np.float64]:
    """Tell how much each position of a feature map speaks for a class.

    That is the derivative of the class's logit (less the mean of all logits, which a softmax
    ignores) with respect to a factor on the activations at the position: gradient times
    activation, summed over the channels. After average pooling it is Grad-CAM, and on a linear
    head, whose contributions add up to the logit, the original class activation map. It is taken
    by central differences, so that any head will do, whatever it is written in.

    Where class tokens stand beside the patches' average, they stay as they are: they have seen the
    whole image, and no position of the map is theirs.

    Args:
        spatial: Activations at the cut, (h, w, c).
        feature: What the head is given for the image, (*feature_shape).
        pooling: What stands between them; all but "cls", through which no position is seen.
        logits: Of a batch of the head's features.
        label: The class.

    Returns:
        (h, w); negative where a position speaks against the class.

    Source: Draelos and Carin, Use HiResCAM instead of Grad-CAM for faithful explanations of
        convolutional neural networks, 2020, section 3; Zhou et al., Learning Deep Features for
        Discriminative Localization, CVPR 2016.
    """
    height, width = spatial.shape[:2]
    positions = height * width
    step = max(1, _CHUNK_BYTES // (2 * feature.nbytes))
    evidence = np.empty(positions)
    for start in range(0, positions, step):
        chunk = np.arange(start, min(start + step, positions))
        moves = _STEP * _contributions(spatial, feature, pooling, chunk)
        both = np.concatenate([feature + moves, feature - moves]).astype(np.float32)
        scores = logits(both).astype(np.float64)
        centered = scores[:, label] - scores.mean(axis=1)
        evidence[chunk] = (centered[: len(chunk)] - centered[len(chunk) :]) / (2 * _STEP)
    return evidence.reshape(height, width)


def _contributions(
    spatial: npt.NDArray[np.float32],
    feature: npt.NDArray[np.float32],
    pooling: Pooling,
    chunk: npt.NDArray[np.int64],
) -> npt.NDArray[np.float32]:
    """Return what each position of `chunk` adds to the head's features, (n, *feature_shape)."""
    height, width, channels = spatial.shape
    flat = spatial.reshape(height * width, channels)
    if pooling in ("avg", "cls+avg", "last4"):
        # The average is the last part of the feature, or all of it.
        moved = np.zeros((len(chunk), *feature.shape), np.float32)
        moved[:, -channels:] = flat[chunk] / np.float32(len(flat))
        return moved
    if pooling == "max":
        # Only the first position that reaches a channel's maximum is passed on.
        return np.where(flat.argmax(axis=0) == chunk[:, None], flat[chunk], np.float32(0))
    alone = np.zeros((len(chunk), *flat.shape), np.float32)
    alone[np.arange(len(chunk)), chunk] = flat[chunk]
    return alone.reshape(len(chunk), height, width, channels)


def brightness(evidence: npt.NDArray[np.float64]) -> tuple[tuple[float, ...], ...]:
    """Scale evidence to [0, 1] for drawing; what speaks against the class counts as nothing.

    Source: the rectification of Selvaraju et al., Grad-CAM, ICCV 2017, equation 2.
    """
    positive = np.maximum(evidence, 0)
    scaled = positive / (positive.max() or 1.0)
    return tuple(tuple(round(float(value), 3) for value in row) for row in scaled)
