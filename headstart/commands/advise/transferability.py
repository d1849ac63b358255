"""How well features suit a classification, told from features and labels without training."""

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from sklearn.covariance import ledoit_wolf

_RATIOS = np.logspace(-12, 12, 241)
"""Noise to signal, relative to the largest eigenvalue, that are tried first."""


def log_me(features: npt.NDArray[np.floating], labels: npt.NDArray[np.integer]) -> float:
    """Return the log maximum evidence per sample of linear models of the one-hot labels.

    Each class's indicator y is modelled as y ~ N(F w, 1 / beta), w ~ N(0, 1 / alpha); alpha and
    beta are those that make y most likely. The mean over the classes; higher is better.

    Args:
        features: (n_samples, feature_dim).
        labels: (n_samples,) class indices from 0.

    Source: You et al., "LogME: Practical Assessment of Pre-trained Models for Transfer Learning",
        ICML 2021, equations 2 to 4. Instead of their iteration beta is eliminated (it is n_samples
        over the penalised residual), and alpha / beta is searched for.
    """
    left, singular, _ = np.linalg.svd(np.asarray(features, np.float64), full_matrices=False)
    targets = np.eye(int(labels.max()) + 1)[labels]
    return float(np.mean([_largest_evidence(left, singular**2, target) for target in targets.T]))


def _largest_evidence(
    left: npt.NDArray[np.float64],
    eigenvalues: npt.NDArray[np.float64],
    target: npt.NDArray[np.float64],
) -> float:
    """Return the largest log evidence per sample of one target.

    Args:
        left: (n_samples, rank) left singular vectors of the features.
        eigenvalues: (rank,) squared singular values.
        target: (n_samples,).
    """
    n_samples = len(target)
    squares = (left.T @ target) ** 2
    norm = float(target @ target)
    # What no weights explain; never quite 0, so that perfect features have a finite score.
    outside = max(norm - float(squares.sum()), 0.0) + np.finfo(np.float64).eps * max(norm, 1.0)
    scale = max(float(eigenvalues.max()), np.finfo(np.float64).tiny)

    def negative(log_ratio: float) -> float:
        left_over = np.exp(log_ratio) * scale
        left_over = left_over / (left_over + eigenvalues)
        residual = float(left_over @ squares) + outside
        evidence = np.log(left_over).sum() + n_samples * np.log(n_samples / (2 * np.pi * residual))
        return float(1 - evidence / n_samples) / 2

    grid = np.log(_RATIOS)
    best = int(np.argmin([negative(log_ratio) for log_ratio in grid]))
    around = (grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)])
    return -float(minimize_scalar(negative, bounds=around, method="bounded").fun)


def h_score(features: npt.NDArray[np.floating], labels: npt.NDArray[np.integer]) -> float:
    """Return how much of the features' variance is between the classes; from 0, higher is better.

    The covariance is shrunk, without which more dimensions than samples make any features look
    perfect.

    Args:
        features: (n_samples, feature_dim).
        labels: (n_samples,) class indices from 0.

    Source: Bao et al., "An Information-Theoretic Approach to Transferability in Task Transfer
        Learning", ICIP 2019, definition 2; shrinkage of Ibrahim et al., "Newer is not always
        better: Rethinking transferability metrics", ECML 2022, equation 5.
    """
    centred = np.asarray(features, dtype=np.float64)
    centred = centred - centred.mean(axis=0)
    covariance, shrinkage = ledoit_wolf(centred, assume_centered=True)
    counts = np.bincount(labels)
    indicator = np.eye(len(counts))[labels]
    means = (indicator.T @ centred)[counts > 0] / counts[counts > 0, None]
    inverse = np.linalg.pinv(covariance, hermitian=True)
    between = np.einsum("cd,de,ce->c", means, inverse, means, optimize=True)
    between = between @ (counts[counts > 0] / len(labels))
    return float((1 - shrinkage) * between)
