"""Backbone, pooling and head as one Keras model that can be cut and made trainable above it."""

from collections.abc import Iterator
from typing import Any

from headstart.catalog import cuts
from headstart.catalog.building import preprocess
from headstart.catalog.readout import Readout
from headstart.catalog.spec import Preprocessing
from headstart.common.tensorflow_runtime import keras
from headstart.finetuning.blocks import block_of_layers

_MOMENTUM = 0.9
"""Of moving statistics that learn. At Keras' 0.99 they lag hundreds of steps behind the weights,
which on a few hundred images is many epochs of validation by statistics of another network.

Source: PyTorch's default (`torch.nn.BatchNorm2d`, momentum 0.1 of the new value).
"""


class Assembly:
    """A backbone up to the activation that features are read from, their readout, and a head.

    Args:
        backbone: Functional; preprocessed images (batch, height, width, channels) float32 to that
            activation, as `readout.up_to` gives it.
        preprocessing: The rule from RGB in [0, 255] to its input.
        readout: Between activation and head.
        head: Features to logits (batch, n_classes).
        learn_statistics: Whether BatchNormalization learns and updates its moving statistics
            where the backbone is trainable. If not, all of it stays as it is, and what the
            backbone drops at random in training is not dropped.
    """

    def __init__(
        self,
        backbone: keras.Model,
        preprocessing: Preprocessing,
        readout: Readout,
        head: keras.Model,
        *,
        learn_statistics: bool = False,
    ) -> None:
        self.backbone = backbone
        self.preprocessing = preprocessing
        self.readout = readout
        self.head = head
        self.learn_statistics = learn_statistics
        if learn_statistics:
            for layer in (*_leaves(backbone), *_leaves(head)):
                if isinstance(layer, keras.layers.BatchNormalization):
                    layer.momentum = _MOMENTUM

    def logits_from(self, cut: str | None, *, images: bool = False) -> keras.Model:
        """Return the model to logits that learns above a cut.

        Args:
            cut: Its name; None for the input.
            images: Whether to start from RGB images (batch, height, width, 3) uint8, with what
                lies below the cut running as in inference, or from the activations at the cut:
                at the input, preprocessed images.
        """
        inputs, features = self._features(cut, images)
        return keras.Model(inputs, self.head(features), name="logits_from")

    def features_from(self, cut: str | None, *, images: bool = False) -> keras.Model:
        """Return the model to bottleneck features; arguments as of `logits_from`."""
        inputs, features = self._features(cut, images)
        return keras.Model(inputs, features, name="features_from")

    def _features(self, cut: str | None, images: bool) -> tuple[Any, Any]:
        """Return a symbolic input and the features that follow from it."""
        bottom, output = self.backbone.input, self.backbone.output
        tensor = bottom if cut is None else cuts.tensor_at(self.backbone, cut)
        if images:
            inputs = keras.Input((*bottom.shape[1:3], 3), dtype="uint8", name="images")
            x = preprocess(keras.ops.cast(inputs, "float32"), self.preprocessing)
            if cut is not None:
                x = keras.Model(bottom, tensor)(x, training=False)
        else:
            inputs = x = keras.Input(tensor.shape[1:], name="activations")
        if tensor is bottom:
            x = self.backbone(x, training=self._training)
        elif tensor is not output:
            x = keras.Model(tensor, output)(x, training=self._training)
        return inputs, self.readout.pool(x)

    @property
    def _training(self) -> bool | None:
        """The `training` argument of the backbone's call; None leaves it to Keras' `fit`."""
        return None if self.learn_statistics else False

    def set_trainable(self, cut: str | None) -> None:
        """Let what lies above a cut learn, and nothing below.

        Args:
            cut: Its name; None lets everything learn.
        """
        self.backbone.trainable = True
        self.head.trainable = True
        learning = cut is None
        # Layers are listed in topological order: what follows a cut lies above it.
        for operation in self.backbone.operations:
            if isinstance(operation, keras.layers.Layer):
                operation.trainable = learning
            learning = learning or operation.name == cut
        if not self.learn_statistics:
            for layer in (*_leaves(self.backbone), *_leaves(self.head)):
                if isinstance(layer, keras.layers.BatchNormalization):
                    layer.trainable = False

    def learning_rate_factors(self, layer_decay: float) -> dict[str, float]:
        """Return what each variable's learning rate is multiplied with, by its path.

        The head learns at the full rate, the last block at `layer_decay` of it, the one before
        at `layer_decay` of that, and so on.
        """
        factors = {variable.path: 1.0 for variable in self.head.weights}
        blocks = block_of_layers(self.backbone) if layer_decay != 1 else {}
        for layer in self.backbone.layers:
            factor = layer_decay ** (1 + blocks[layer.name]) if blocks else 1.0
            factors |= {variable.path: factor for variable in layer.weights}
        return factors


def _leaves(model: keras.Model) -> Iterator[Any]:
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _leaves(layer)
        else:
            yield layer
