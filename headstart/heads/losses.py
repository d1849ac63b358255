"""Convex losses of linear classifiers: value, derivative and curvature of a block of logits."""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]


class Loss(Protocol):
    """A convex loss of logits.

    Attributes:
        penalised_intercept: Whether the penalty covers the intercept too.
    """

    penalised_intercept: bool

    def first_curvature(self, n_classes: int) -> float:
        """Return the mean second derivative with respect to a logit, at logits of 0."""
        ...

    def __call__(
        self, logits: Floats, labels: npt.NDArray[np.int64], weights: Floats
    ) -> tuple[float, Floats, float]:
        """Return the loss's sum, its derivative by each logit, and the sum of its curvatures.

        Args:
            logits: (n_classes, n), so that numpy works along the samples whatever the number of
                classes; may be overwritten.
            labels: (n,).
            weights: (n,) what each sample counts.
        """
        ...


class CrossEntropy:
    """Softmax cross-entropy: multinomial logistic regression.

    Args:
        log_prior: (n_classes,) added to the logits: the logarithm of how often each class occurs
            leaves logits to learn that hold where classes occur evenly.

    Source: Menon et al., Long-tail Learning via Logit Adjustment, ICLR 2021, equation 10.
    """

    penalised_intercept = False

    def __init__(self, log_prior: Floats) -> None:
        # Nothing is added where nothing is adjusted: this is the innermost loop of a path.
        self._log_prior = log_prior[:, None] if log_prior.any() else None

    def first_curvature(self, n_classes: int) -> float:
        """Return p (1 - p) at p = 1 / n_classes."""
        return (1 - 1 / n_classes) / n_classes

    def __call__(
        self, logits: Floats, labels: npt.NDArray[np.int64], weights: Floats
    ) -> tuple[float, Floats, float]:
        """See `Loss`."""
        samples = np.arange(len(labels))
        if self._log_prior is not None:
            logits += self._log_prior.astype(logits.dtype)
        logits -= logits.max(axis=0)
        true = logits[labels, samples]
        probabilities = np.exp(logits, out=logits)
        total = probabilities.sum(axis=0)
        probabilities /= total
        value = float(np.dot(weights, (np.log(total) - true).astype(np.float64)))
        squares = np.einsum("ij,ij->j", probabilities, probabilities)
        curvature = float(np.dot(weights, (1 - squares).astype(np.float64)))
        probabilities[labels, samples] -= 1
        probabilities *= weights
        return value, probabilities, curvature


class SquaredHinge:
    """One-vs-rest squared hinge, intercept penalised: the problem that LinearSVC solves.

    Source: scikit-learn's `LinearSVC` with its default `intercept_scaling`; Fan et al.,
        LIBLINEAR, JMLR 9, 2008, problem (4) in its L2-loss form.
    """

    penalised_intercept = True

    def first_curvature(self, n_classes: int) -> float:
        """Return the curvature of a margin that is missed."""
        return 2.0

    def __call__(
        self, logits: Floats, labels: npt.NDArray[np.int64], weights: Floats
    ) -> tuple[float, Floats, float]:
        """See `Loss`."""
        samples = np.arange(len(labels))
        # Margin missed: max(0, 1 - f) for the image's own class, max(0, 1 + f) for the others.
        own = logits[labels, samples]
        missed = np.maximum(logits + 1, 0, out=logits)
        missed[labels, samples] = np.maximum(1 - own, 0)
        per_sample = np.einsum("ij,ij->j", missed, missed)
        value = float(np.dot(weights, per_sample.astype(np.float64)))
        curvature = 2.0 * float(np.dot(weights, np.count_nonzero(missed, axis=0)))
        missed[labels, samples] *= -1
        missed *= 2 * weights
        return value, missed, curvature
