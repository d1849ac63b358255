"""Hidden layers and a softmax."""

import numpy as np

from headstart.heads.layers import Activation, BatchNormalization, Dense, Dropout, Floats, Layer
from headstart.heads.network import LOGITS, NetworkHead
from headstart.heads.options import DenseOptions


class DenseHead(NetworkHead):
    """Dense layers, each with optional BatchNormalization and Dropout; maps are flattened."""

    kind = "dense"
    options_type = DenseOptions
    options: DenseOptions

    def columns(self, features: Floats) -> Floats:
        """See `NetworkHead.columns`."""
        return features.reshape(len(features), -1)

    def layers(self, n_columns: int, n_classes: int, rng: np.random.Generator) -> dict[str, Layer]:
        """See `NetworkHead.layers`."""
        options = self.options
        layers: dict[str, Layer] = {}
        for index, units in enumerate(options.units):
            # BatchNormalization subtracts the mean, and any bias with it.
            bias = not options.batch_normalization
            layers[f"hidden_{index}"] = Dense(
                n_columns, units, rng, use_bias=bias, decay=options.l2
            )
            if options.batch_normalization:
                layers[f"normalization_{index}"] = BatchNormalization(units)
            layers[f"activation_{index}"] = Activation(options.activation)
            if options.dropout:
                layers[f"dropout_{index}"] = Dropout(options.dropout)
            n_columns = units
        layers[LOGITS] = Dense(n_columns, n_classes, rng, use_bias=True, decay=options.l2)
        return layers
