"""Global pooling and a softmax straight on it."""

import numpy as np

from headstart.features.matrix import pooled
from headstart.heads.layers import Dense, Floats, Layer
from headstart.heads.network import LOGITS, NetworkHead
from headstart.heads.options import GapOptions


class GapHead(NetworkHead):
    """Average or maximum over the map, or both side by side, and one dense layer.

    Features that were pooled already (`extract.pooling`) are taken as they are.
    """

    kind = "gap"
    options_type = GapOptions
    options: GapOptions

    def columns(self, features: Floats) -> Floats:
        """See `NetworkHead.columns`."""
        if features.ndim == 2:
            return features
        match self.options.pooling:
            case "avg":
                return pooled(features)
            case "max":
                return np.asarray(features.max(axis=(1, 2)), np.float32)
            case "both":
                return np.concatenate([pooled(features), features.max(axis=(1, 2))], axis=1)

    def layers(self, n_columns: int, n_classes: int, rng: np.random.Generator) -> dict[str, Layer]:
        """See `NetworkHead.layers`."""
        return {LOGITS: Dense(n_columns, n_classes, rng, use_bias=True, decay=self.options.l2)}
