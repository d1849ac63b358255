"""A linear classifier on raw features, and its form on disk."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from headstart.features.matrix import pooled


@dataclass(frozen=True, slots=True)
class Linear:
    """Logits = features @ weights + bias.

    Attributes:
        weights: (n_columns, n_classes) float32.
        bias: (n_classes,) float32.
    """

    weights: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]

    @classmethod
    def from_standardized(
        cls,
        weights: npt.NDArray[np.floating[Any]],
        bias: npt.NDArray[np.floating[Any]],
        mean: npt.NDArray[np.float64],
        scale: npt.NDArray[np.float64],
    ) -> "Linear":
        """Fold the standardization (x - mean) / scale into weights and bias."""
        raw = weights / scale[:, None]
        return cls(raw.astype(np.float32), (bias - mean @ raw).astype(np.float32))

    def logits(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return (n_samples, n_classes) of (n_samples, *feature_shape) features."""
        return pooled(features) @ self.weights + self.bias

    def arrays(self) -> dict[str, npt.NDArray[np.float32]]:
        """What has to be kept to build it again."""
        return {"weights": self.weights, "bias": self.bias}

    @property
    def parameters(self) -> int:
        """Number of learned values."""
        return self.weights.size + self.bias.size
