"""Global pooling and a softmax straight on it."""

from typing import Any

from headstart.common.tensorflow_runtime import keras
from headstart.heads.network import NetworkHead
from headstart.heads.options import GapOptions


class GapHead(NetworkHead):
    """Average or maximum over the map, or both side by side, and one Dense layer.

    Features that were pooled already (`extract.pooling`) are taken as they are.
    """

    kind = "gap"
    options_type = GapOptions
    options: GapOptions

    def build(self, feature_shape: tuple[int, ...], n_classes: int) -> Any:
        """See `NetworkHead.build`."""
        options = self.options
        decay = keras.regularizers.L2(options.l2) if options.l2 else None
        inputs = keras.Input(feature_shape, name="features")
        x = inputs
        if len(feature_shape) > 1:
            average = keras.layers.GlobalAveragePooling2D(name="average")
            maximum = keras.layers.GlobalMaxPooling2D(name="maximum")
            match options.pooling:
                case "avg":
                    x = average(inputs)
                case "max":
                    x = maximum(inputs)
                case "both":
                    both = [average(inputs), maximum(inputs)]
                    x = keras.layers.Concatenate(name="both")(both)
        logits = keras.layers.Dense(n_classes, kernel_regularizer=decay, name="logits")(x)
        return keras.Model(inputs, logits, name="gap")
