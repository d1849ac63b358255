"""From the activation at a cut to a feature: pooling a map, or a transformer's tokens."""

import math
from dataclasses import dataclass
from typing import Any

from headstart.catalog import cuts
from headstart.catalog.spec import BackboneSpec
from headstart.common.tensorflow_runtime import keras
from headstart.common.vocabulary import Pooling

ops = keras.ops

_LAST = 4
_NORM, _BLOCK = "norm", "block_"


@dataclass(frozen=True, slots=True)
class Readout:
    """What is made of the activation at a cut.

    Of a map (batch, h, w, channels): "avg" and "max" over its positions, or "none", the map. Of
    tokens (batch, tokens, channels), which are those of the patches, row by row, after
    `prefix_tokens` others:

    - "avg", "max": over the patches;
    - "none": the patches as a map;
    - "cls": the first token;
    - "cls+avg": both, one after the other;
    - "last4": the class tokens of the last four blocks and the last one's average, all normalized,
      which is what DINOv2's authors evaluate linear classifiers on;
    - "raw": all of it.

    A vector stays as it is.

    Attributes:
        pooling: One of these.
        prefix_tokens: None where there are no tokens.
        image_size: (height, width) of the network's images in pixels.

    Source: "last4": facebookresearch/dinov2, dinov2/eval/linear.py, `create_linear_input` with four
        blocks and average pooling.
    """

    pooling: Pooling
    prefix_tokens: int | None
    image_size: tuple[int, int]

    @classmethod
    def of(cls, spec: BackboneSpec, pooling: Pooling, image_size: tuple[int, int]) -> "Readout":
        """Return that of a backbone."""
        return cls(pooling, spec.prefix_tokens, image_size)

    def tensor(self, network: keras.Model, layer: str) -> Any:
        """Return the symbolic activation that is pooled.

        Args:
            network: The backbone.
            layer: Name of a cut.

        Raises:
            InputError: the layer is no cut.
        """
        cuts.get_cut(network, layer)
        return _last_blocks(network) if self.pooling == "last4" else cuts.tensor_at(network, layer)

    def up_to(self, network: keras.Model, layer: str) -> keras.Model:
        """Return the backbone up to the activation that is pooled.

        Raises:
            InputError: the layer is no cut.
        """
        return keras.Model(network.input, self.tensor(network, layer), name=network.name)

    def pool(self, activation: Any) -> Any:
        """Return the feature of what `tensor` gives; in float32, whatever the network computes in.

        Args:
            activation: (batch, ...) (symbolic) tensor.
        """
        x = ops.cast(activation, "float32")
        if self.pooling == "raw" or len(x.shape) == 2:
            return x
        if len(x.shape) == 4:
            match self.pooling:
                case "avg":
                    return ops.mean(x, axis=(1, 2))
                case "max":
                    return ops.max(x, axis=(1, 2))
            return x
        patches = x[:, self.prefix_tokens or 0 :]
        match self.pooling:
            case "avg":
                return ops.mean(patches, axis=1)
            case "max":
                return ops.max(patches, axis=1)
            case "none":
                return ops.reshape(patches, (-1, *self._grid(patches.shape[1]), x.shape[-1]))
            case "cls":
                return x[:, 0]
            case "cls+avg":
                return ops.concatenate([x[:, 0], ops.mean(patches, axis=1)], axis=-1)
        channels = x.shape[-1] // _LAST
        return ops.concatenate([x[:, 0], ops.mean(patches[..., -channels:], axis=1)], axis=-1)

    def _grid(self, patches: int) -> tuple[int, int]:
        """Return the (height, width) of a map of so many patches, which are squares of pixels."""
        height, width = self.image_size
        side = math.sqrt(height * width / patches)
        return round(height / side), round(width / side)


def _last_blocks(network: keras.Model) -> Any:
    """Return the last blocks' tokens, normalized, beside each other: (batch, tokens, 4 x dim)."""
    blocks = [cut.name for cut in cuts.find_cuts(network) if cut.name.startswith(_BLOCK)]
    norm = network.get_layer(_NORM)
    last = [norm(cuts.tensor_at(network, name)) for name in blocks[-_LAST:]]
    return keras.layers.Concatenate(name="last_blocks")(last)
