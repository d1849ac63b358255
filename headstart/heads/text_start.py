"""The zero-shot classifier as a linear one, as sure of itself as training images let it be."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from headstart.features.matrix import pooled
from headstart.features.text import required
from headstart.heads.data import TrainingData
from headstart.heads.folds import Rows
from headstart.heads.linear import Linear
from headstart.scoring.calibration import softmax

_ENOUGH = 1_000
"""Images that say how sure it may be; one number needs no more."""

_SPREAD = 10.0
"""Standard deviation in nats: a few times what two classes' texts differ by on an image.

scikit-learn's default, a penalty of 1, says about the same of features as long as CLIP's (about
10), and so do the penalties of CLAP.
"""

_BISECTIONS = 30


class _Images(NamedTuple):
    """Some of the training images, evenly spread over all.

    Attributes:
        features: (n, n_columns) float32.
        label: (n,).
    """

    features: npt.NDArray[np.float32]
    label: npt.NDArray[np.int64]

    @classmethod
    def of(cls, data: TrainingData, rows: Rows) -> "_Images":
        images = rows[data.view[rows] == 0]
        some = np.linspace(0, len(images) - 1, min(len(images), _ENOUGH)).astype(np.int64)
        features = pooled(np.asarray(data.features[images[some]]))
        return cls(features, data.label[images[some]])


def text_start(data: TrainingData, train: Rows) -> Linear:
    """Return text vectors as weights whose logits fit images that never taught them.

    Linear in the raw features rather than in their directions: the cosines of one image share its
    length, so that the decisions are the same.

    Args:
        data: With text vectors.
        train: Rows of `data`; views say nothing more and are left out.

    Raises:
        InputError: there are no text vectors.
    """
    texts = required(
        data.texts, "train.heads: kind logistic, start text", data.header.identity.backbone
    )
    images = _Images.of(data, train)
    length = float(np.linalg.norm(images.features, axis=1).mean())
    weights = texts.vectors.T * np.float32(texts.scale / max(length, 1e-12))
    weights *= np.float32(sureness(images.features @ weights, images.label))
    return Linear(weights, np.zeros(data.n_classes, np.float32))


def sureness(logits: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> float:
    """Return the factor in [0, 1] on logits that makes labels most likely.

    Texts that mislead count nothing. None count more than their model says: that a handful of
    images are all right would say that they count without limit.

    Args:
        logits: (n, n_classes) of images that did not make them.
        labels: (n,).
    """
    values = logits.astype(np.float64)
    values -= values.mean(axis=1, keepdims=True)
    wanted = float(values[np.arange(len(labels)), labels].sum())

    def too_sure(factor: float) -> bool:
        return bool(np.einsum("ij,ij->", softmax(values * factor), values) > wanted)

    if not too_sure(1.0):
        return 1.0
    low, high = 0.0, 1.0
    # What the logits expect of themselves rises with the factor.
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if too_sure(middle) else (middle, high)
    return low


def default_penalty(data: TrainingData) -> float:
    """Return the penalty at which images may move a logit by about `_SPREAD` from the texts'.

    As a prior it says so of an image as far from the mean as training images are on the average.
    """
    features = _Images.of(data, data.train).features.astype(np.float64)
    return max(float(features.var(axis=0).sum()), 1e-12) / _SPREAD**2
