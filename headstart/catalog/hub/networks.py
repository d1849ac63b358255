"""KerasHub's networks as functional models that can be cut at every block.

KerasHub makes most encoders as one opaque layer. Its own layers are chained again here, one node
per block, so that cuts, fine-tuning and heat maps find blocks as they do in convolutional networks.
"""

import math
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headstart.catalog.hub import NO_HUB
from headstart.catalog.hub.block import Block
from headstart.catalog.spec import BackboneSpec, HubKind
from headstart.common import interruption
from headstart.common.errors import InputError
from headstart.common.tensorflow_runtime import keras, left_out, standard_error_silenced

CLASSES: dict[HubKind, str] = {
    "vit": "ViTBackbone",
    "deit": "DeiTBackbone",
    "swin": "SwinTransformerBackbone",
    "dinov2": "DINOV2Backbone",
    "dinov3": "DINOV3Backbone",
    "clip": "CLIPBackbone",
    "siglip": "SigLIPBackbone",
    "resnet": "ResNetBackbone",
}
"""Names in `keras_hub.models`; also what a preset's config.json calls them."""

_VISION: dict[HubKind, str] = {"clip": "CLIPVisionEncoder", "siglip": "SigLIPVisionEncoder"}
TEXT: dict[HubKind, str] = {"clip": "CLIPTextEncoder", "siglip": "SigLIPTextEncoder"}
_PROJECTION = "projection_dim"
# KerasHub imports these where it finds them, for what is not used here: half of its start. A
# notebook may use it.
_DISPENSABLE = ("kagglehub", "tensorflow_text") if interruption.guarded else ()


class _Part(NamedTuple):
    name: str
    layer: Any
    call: Callable[[Any, Any], Any] = lambda layer, x: layer(x)
    merges: bool = False


def hub_class(name: str) -> Any:
    """Return a class of `keras_hub.models`.

    Raises:
        InputError: KerasHub is not installed.
    """
    try:
        with standard_error_silenced(), left_out(_DISPENSABLE):
            from keras_hub import models
    except ImportError as error:
        raise InputError(f"{NO_HUB} ({error})") from None
    return getattr(models, name)


def hub_model(
    spec: BackboneSpec, image_size: tuple[int, int], text: dict[str, Any] | None = None
) -> Any:
    """Return KerasHub's own model of a backbone, with random weights.

    Args:
        spec: The catalog entry.
        image_size: (height, width) in pixels.
        text: Arguments of the text tower of a backbone paired with text; None to leave it out, and
            get the image tower alone.
    """
    assert spec.network is not None
    kind = spec.network.kind
    config = {name: value for name, value in spec.network.config if name != _PROJECTION}
    config["image_shape"] = (*image_size, 3)
    if kind in _VISION:
        vision = hub_class(_VISION[kind])(**config)
        ids = vision.embedding.position_ids
        # CLIP's start at 0 for every patch; SigLIP's, and those of presets, are right.
        ids.assign(keras.ops.reshape(keras.ops.arange(ids.shape[1]), ids.shape))
        if text is None:
            return vision
        towers = {"vision_encoder": vision, "text_encoder": hub_class(TEXT[kind])(**text)}
        projection = dict(spec.network.config).get(_PROJECTION)
        if projection is not None:
            towers[_PROJECTION] = projection
        return hub_class(CLASSES[kind])(**towers)
    if kind == "dinov2" and "position_embedding_shape" not in config:
        config["position_embedding_shape"] = config["image_shape"]
    if kind == "swin":
        # Stochastic depth, which is one of training from scratch only.
        config["drop_path"] = 0.0
    with warnings.catch_warnings():
        # Swin's own masks are taken for Keras'.
        warnings.filterwarnings("ignore", message="Layer 'attn'")
        return hub_class(CLASSES[kind])(**config)


def chain(spec: BackboneSpec, image_size: tuple[int, int], model: Any) -> keras.Model:
    """Return a functional model of a KerasHub model's layers, a node for each block.

    Args:
        spec: The catalog entry.
        image_size: (height, width) in pixels that the model was made for.
        model: What `hub_model` returned; its layers are taken over.

    Returns:
        From preprocessed images (batch, height, width, 3) float32 to the output of the layer
        `spec.feature_layer`.
    """
    assert spec.network is not None
    if spec.prefix_tokens is None:
        return keras.Model(model.input, model.output, name=spec.name)
    inputs = x = keras.Input((*image_size, 3), name="images")
    for part in _parts(spec.network.kind, spec, image_size, model):
        x = Block(part.layer, name=part.name, call=part.call, merges=part.merges)(x)
    return keras.Model(inputs, x, name=spec.name)


def _parts(
    kind: HubKind, spec: BackboneSpec, image_size: tuple[int, int], model: Any
) -> Iterator[_Part]:
    match kind:
        case "vit" | "deit":
            _, embedding, encoder = model.layers
            yield _Part("embedding", embedding)
            # DeiT's give attention scores, too.
            call = _first if kind == "deit" else _plain
            yield from _blocks(encoder.encoder_layers, call)
            yield _Part("norm", encoder.layer_norm)
        case "swin":
            tokens = math.prod(model.stages[0].input_resolution)
            yield _Part("embedding", model.patch_embedding, _sized(tokens))
            done = 0
            for number, stage in enumerate(model.stages, 1):
                for block in stage.blocks:
                    # Keras takes which window sees which for a mask of its own, and warns.
                    block.attn.supports_masking = True
                yield from _blocks(stage.blocks, _windowed, done)
                done += len(stage.blocks)
                if stage.downsample is not None:
                    yield _Part(f"merge_{number}", stage.downsample, _merging(stage))
            yield _Part("norm", model.norm)
        case "dinov2":
            yield _Part("embedding", _settled(model.embeddings, image_size))
            yield from _blocks(model.encoder.layers, _plain)
            yield _Part("norm", model.layernorm)
        case "dinov3":
            height, width = image_size
            patches = (height // model.patch_size) * (width // model.patch_size)
            prefix = spec.prefix_tokens or 0
            yield _Part("embedding", model.embeddings, _sized(prefix + patches))
            yield from _blocks(model.encoder.layers, _rotary(model, spec, image_size))
            yield _Part("norm", model.layernorm)
        case "clip":
            tower = getattr(model, "vision_encoder", model)
            yield _Part("embedding", tower.embedding)
            yield _Part("pre_norm", tower.pre_layer_norm)
            yield from _blocks(tower.encoder_layers, _plain)
            yield _Part("norm", tower.layer_norm)
            yield _Part("projection", _projection(spec, tower, model), _of_class_token)
        case "siglip":
            tower = getattr(model, "vision_encoder", model)
            yield _Part("embedding", tower.embedding)
            yield from _blocks(tower.encoder_layers, _plain)
            yield _Part("norm", tower.post_layer_norm)
            yield _Part("head", tower.head)


def _plain(layer: Any, x: Any) -> Any:
    return layer(x)


def _first(layer: Any, x: Any) -> Any:
    return layer(x)[0]


def _of_class_token(layer: Any, x: Any) -> Any:
    return layer(x[:, 0])


def _blocks(layers: Any, call: Callable[[Any, Any], Any], done: int = 0) -> Iterator[_Part]:
    for number, layer in enumerate(layers, done + 1):
        yield _Part(f"block_{number}", layer, call, merges=True)


def _sized(tokens: int, **arguments: Any) -> Callable[[Any, Any], Any]:
    """Return a call that states the number of tokens, which the layer itself leaves open."""

    def call(layer: Any, x: Any) -> Any:
        result = layer(x, **arguments)
        return keras.ops.reshape(result, (-1, tokens, result.shape[-1]))

    return call


def _windowed(block: Any, x: Any) -> Any:
    """Call a Swin block as it calls itself, but with its mask as a constant.

    KerasHub's fills the mask slice by slice in every call, by an operation of XLA that OpenVINO
    does not know.
    """
    height, width = block.input_resolution
    window, shift, channels = block.window_size, block.shift_size, x.shape[-1]
    rows, columns, ops = math.ceil(height / window), math.ceil(width / window), keras.ops
    y = ops.reshape(block.norm1(x), (-1, height, width, channels))
    if shift:
        y = ops.roll(y, (-shift, -shift), axis=(1, 2))
    y = ops.pad(y, ((0, 0), (0, rows * window - height), (0, columns * window - width), (0, 0)))
    y = ops.reshape(y, (-1, rows, window, columns, window, channels))
    y = ops.reshape(ops.transpose(y, (0, 1, 3, 2, 4, 5)), (-1, window * window, channels))
    y = block.attn(y, mask=_rolled_apart(height, width, window, shift) if shift else None)
    y = ops.reshape(y, (-1, rows, columns, window, window, channels))
    y = ops.transpose(y, (0, 1, 3, 2, 4, 5))
    y = ops.reshape(y, (-1, rows * window, columns * window, channels))
    if shift:
        y = ops.roll(y, (shift, shift), axis=(1, 2))
    x = x + block.drop_path(ops.reshape(y[:, :height, :width], (-1, height * width, channels)))
    return x + block.drop_path(block.mlp(block.norm2(x)))


def _rolled_apart(height: int, width: int, window: int, shift: int) -> Any:
    """Return -100 for pairs in a window that only rolling the map has brought together, else 0.

    Returns:
        (windows, window * window, window * window) float32, of queries and keys.

    Source: keras_hub, SwinTransformerBlock.call; in the paper, section 3.2, cyclic shift.
    """
    parts = [
        np.searchsorted((n - window, n - shift), np.arange(n), "right") for n in (height, width)
    ]
    regions = 3 * parts[0][:, np.newaxis] + parts[1]
    padded = np.pad(regions, ((0, -height % window), (0, -width % window)))
    windows = padded.reshape(-(-height // window), window, -(-width // window), window)
    regions = windows.transpose(0, 2, 1, 3).reshape(-1, window * window)
    return np.where(regions[:, np.newaxis] != regions[:, :, np.newaxis], -100, 0).astype(np.float32)


def _merging(stage: Any) -> Callable[[Any, Any], Any]:
    height, width = stage.input_resolution
    return _sized(math.ceil(height / 2) * math.ceil(width / 2), H=height, W=width)


def _rotary(
    model: Any, spec: BackboneSpec, image_size: tuple[int, int]
) -> Callable[[Any, Any], Any]:
    """Return the call of a block that turns queries and keys by their place in the image.

    The angles depend on the image size alone: as constants they leave one path through the network,
    which can therefore be cut at every block.
    """
    angles = model.rope_embedding(np.zeros((1, *image_size, 3), np.float32))
    constants = [keras.ops.convert_to_numpy(one) for one in angles]

    def call(layer: Any, x: Any) -> Any:
        cosine_sine = tuple(keras.ops.cast(one, layer.compute_dtype) for one in constants)
        return layer(x, position_embeddings=cosine_sine, num_prefix_tokens=spec.prefix_tokens)

    return call


def _settled(embedding: Any, image_size: tuple[int, int]) -> Any:
    """Return DINOv2's embedding with its positions as they are for this image size.

    KerasHub's keeps them for the size of pretraining, too, and when it is saved brings those for
    this size back to that one, which loses what fine-tuning has learned. The mask token, which
    only pretraining uses, goes.
    """
    config = embedding.get_config() | {
        "image_shape": image_size,
        "position_embedding_shape": image_size,
        "use_mask_token": False,
        "dtype": embedding.dtype_policy,
        "name": "settled",
    }
    settled = type(embedding)(**{k: v for k, v in config.items() if k != "trainable"})
    settled.build((None, *image_size, 3))
    positions = _positions(embedding)
    settled.cls_token.assign(embedding.cls_token)
    settled.position_embeddings.assign(positions)
    settled.interpolated_position_embeddings.assign(positions)
    if settled.num_register_tokens:
        settled.register_tokens.assign(embedding.register_tokens)
    for new, old in zip(
        settled.patch_embeddings.weights, embedding.patch_embeddings.weights, strict=True
    ):
        new.assign(old)
    # Keras' own ways of saving: KerasHub's take over what the positions for this size have learned
    # only where the sum of their changes is negative.
    settled.save_own_variables = partial(keras.layers.Layer.save_own_variables, settled)
    settled.load_own_variables = partial(keras.layers.Layer.load_own_variables, settled)
    return settled


def _positions(embedding: Any) -> Any:
    """Return DINOv2's position embeddings for its image size, (1, 1 + patches, dim).

    With antialiasing KerasHub's are those of the published network. Without, its cubic has another
    slope (-0.5) and other edges: they would be off by some percent.

    Source: facebookresearch/dinov2, `interpolate_pos_encoding`, as Transformers' Dinov2Embeddings
        calls it (by size).
    """
    if embedding.antialias_in_interpolation:
        return embedding.interpolated_position_embeddings
    patch = embedding.patch_size
    (height, width), (rows, columns) = (
        (size[0] // patch, size[1] // patch)
        for size in (embedding.position_embedding_shape, embedding.image_shape)
    )
    positions = keras.ops.convert_to_numpy(embedding.position_embeddings)
    of_class, of_patches = positions[:, :1], positions[0, 1:].reshape(height, width, -1)
    resized = np.einsum("ih,jw,hwc->ijc", _cubic(height, rows), _cubic(width, columns), of_patches)
    return np.concatenate([of_class, resized.reshape(1, rows * columns, -1)], axis=1)


def _cubic(source: int, target: int) -> NDArray[np.float64]:
    """Return the matrix of PyTorch's bicubic interpolation along one axis, (target, source).

    Source: Keys 1981, Cubic convolution interpolation for digital image processing, equation 4,
        with a = -0.75; pytorch, aten/src/ATen/native/UpSample.h (half-pixel centers, edges
        repeated).
    """
    slope = -0.75
    places = (np.arange(target) + 0.5) * source / target - 0.5
    matrix = np.zeros((target, source))
    for neighbor in (-1, 0, 1, 2):
        at = np.floor(places) + neighbor
        x = np.abs(places - at)
        inner = ((slope + 2) * x - (slope + 3)) * x * x + 1
        outer = ((slope * x - 5 * slope) * x + 8 * slope) * x - 4 * slope
        columns = np.clip(at, 0, source - 1).astype(np.int64)
        np.add.at(matrix, (np.arange(target), columns), np.where(x <= 1, inner, outer))
    return matrix


def _projection(spec: BackboneSpec, tower: Any, model: Any) -> Any:
    if model is not tower:
        return model.vision_projection
    projection = keras.layers.Dense(spec.feature_dim, use_bias=False, name="vision_projection")
    projection.build((None, tower.hidden_dim))
    return projection
