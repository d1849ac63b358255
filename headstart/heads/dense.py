"""Hidden layers and a softmax."""

from typing import Any

from headstart.common.tensorflow_runtime import keras
from headstart.heads.network import NetworkHead
from headstart.heads.options import DenseOptions


class DenseHead(NetworkHead):
    """Dense layers, each with optional BatchNormalization and Dropout; maps are flattened."""

    kind = "dense"
    options_type = DenseOptions
    options: DenseOptions

    def build(self, feature_shape: tuple[int, ...], n_classes: int) -> Any:
        """See `NetworkHead.build`."""
        options = self.options
        decay = keras.regularizers.L2(options.l2) if options.l2 else None
        inputs = keras.Input(feature_shape, name="features")
        x = keras.layers.Flatten(name="flatten")(inputs) if len(feature_shape) > 1 else inputs
        for index, units in enumerate(options.units):
            x = keras.layers.Dense(
                units,
                # BatchNormalization subtracts the mean, and any bias with it.
                use_bias=not options.batch_normalization,
                kernel_regularizer=decay,
                name=f"hidden_{index}",
            )(x)
            if options.batch_normalization:
                x = keras.layers.BatchNormalization(name=f"normalization_{index}")(x)
            x = keras.layers.Activation(options.activation, name=f"activation_{index}")(x)
            if options.dropout:
                x = keras.layers.Dropout(options.dropout, name=f"dropout_{index}")(x)
        logits = keras.layers.Dense(n_classes, kernel_regularizer=decay, name="logits")(x)
        return keras.Model(inputs, logits, name="dense")
