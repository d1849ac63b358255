"""What only keras-hub's own classes can make of the tiny networks' arrays."""

from typing import Any

import keras
import keras_hub
import numpy as np
from numpy.typing import NDArray

from tests.hub_arrays import Arrays, Tiny

CLASSES = {
    "vit": "ViTBackbone",
    "deit": "DeiTBackbone",
    "swin": "SwinTransformerBackbone",
    "dinov2": "DINOV2Backbone",
    "dinov3": "DINOV3Backbone",
    "clip": "CLIPBackbone",
    "siglip": "SigLIPBackbone",
    "resnet": "ResNetBackbone",
}


def converter_of(
    tiny: Tiny, mean: tuple[float, ...], std: tuple[float, ...]
) -> keras_hub.layers.ImageConverter:
    """Make keras-hub's image converter for pixels in [0, 255]."""
    name = CLASSES[tiny.kind].replace("Backbone", "ImageConverter")
    return getattr(keras_hub.layers, name)(
        image_size=tiny.image_size,
        scale=[1 / 255 / s for s in std],
        offset=[-m / s for m, s in zip(mean, std, strict=True)],
        interpolation="bicubic",
        antialias=True,
        crop_to_aspect_ratio=False,
    )


def residual(tiny: Tiny, folder: str) -> keras.Model:
    """Build keras-hub's ResNet of any depth from timm's layout, of which keras-hub knows five."""
    from keras_hub.src.utils.timm.convert_resnet import convert_weights
    from keras_hub.src.utils.transformers.safetensor_utils import SafetensorLoader

    backbone = keras_hub.models.ResNetBackbone(
        image_shape=(None, None, 3), **{key: _plain(value) for key, value in tiny.arguments.items()}
    )
    with SafetensorLoader(folder, prefix="") as loader:
        convert_weights(backbone, loader, {})
    return backbone


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def two_towers(tiny: Tiny, arrays: Arrays) -> keras.Model:
    """Build keras-hub's CLIP or SigLIP: the image tower of the arrays, a small text tower.

    keras-hub has no converter of its own for these two.
    """
    models, family = keras_hub.models, "CLIP" if tiny.kind == "clip" else "SigLIP"
    arguments = dict(tiny.arguments)
    projection = arguments.pop("projection_dim", None)
    shape = (*tiny.image_size, 3)
    vision = getattr(models, f"{family}VisionEncoder")(image_shape=shape, **arguments)
    text = getattr(models, f"{family}TextEncoder")(
        **{"vocabulary_size": 50, "embedding_dim": 24, "hidden_dim": 24, "num_layers": 1},
        **{"num_heads": 3, "intermediate_dim": 40, "max_sequence_length": 12},
    )
    rest = {} if projection is None else {"projection_dim": projection}
    whole = getattr(models, f"{family}Backbone")(vision_encoder=vision, text_encoder=text, **rest)
    rng = np.random.default_rng(tiny.seed + 100)
    for variable in text.weights:
        if not variable.path.endswith("position_ids"):
            variable.assign(rng.normal(0, 0.3, variable.shape))
    _fill_vision(vision, arrays)
    if projection is not None:
        _fill(whole.vision_projection, arrays, "visual_projection")
        whole.text_projection.kernel.assign(rng.normal(0, 0.3, whole.text_projection.kernel.shape))
    return whole


def listen(
    tiny: Tiny, backbone: Any, pixels: NDArray[np.float32]
) -> dict[str, NDArray[np.float32]]:
    """Run keras-hub's own model and note what its layers return, by the project's names."""
    heard: dict[str, NDArray[np.float32]] = {}

    def note(name: str, layer: keras.layers.Layer) -> None:
        call = layer.call

        def noting(*args: Any, **kwargs: Any) -> Any:
            result = call(*args, **kwargs)
            heard[name] = np.asarray(result[0] if isinstance(result, tuple) else result)
            return result

        layer.call = noting

    for name, layer in _layers(tiny, backbone).items():
        note(name, layer)
    if tiny.kind in ("clip", "siglip"):
        backbone.get_vision_embeddings(pixels)
    else:
        named = isinstance(backbone.input, dict)
        backbone(dict.fromkeys(backbone.input, pixels) if named else pixels)
    return heard


def _layers(tiny: Tiny, backbone: Any) -> dict[str, keras.layers.Layer]:
    if tiny.kind == "resnet":
        names = ["conv1_relu", "pool1_pool"]
        for stage, depth in enumerate(tiny.arguments["stackwise_num_blocks"]):
            names += [f"stack{stage}_block{index}_out" for index in range(depth)]
        return {name: backbone.get_layer(name) for name in names}
    found, merges = {}, {}
    if tiny.kind in ("vit", "deit"):
        embedding, encoder = backbone.layers[1:3]
        blocks, norm = encoder.encoder_layers, encoder.layer_norm
    elif tiny.kind == "swin":
        embedding, norm = backbone.patch_embedding, backbone.norm
        blocks = [block for stage in backbone.stages for block in stage.blocks]
        merges = {
            f"merge_{index + 1}": stage.downsample
            for index, stage in enumerate(backbone.stages[:-1])
        }
    elif tiny.kind in ("dinov2", "dinov3"):
        embedding, blocks = backbone.embeddings, backbone.encoder.layers
        norm = backbone.layernorm
    else:
        vision = backbone.vision_encoder
        embedding, blocks = vision.embedding, vision.encoder_layers
        if tiny.kind == "clip":
            norm, found["pre_norm"] = vision.layer_norm, vision.pre_layer_norm
            found["projection"] = backbone.vision_projection
        else:
            norm, found["head"] = vision.post_layer_norm, vision.head
    found |= {f"block_{index + 1}": block for index, block in enumerate(blocks)}
    return {"embedding": embedding, "norm": norm, **found, **merges}


def _fill_vision(vision: Any, arrays: Arrays) -> None:
    embedding, root = vision.embedding, "vision_model"
    _fill(embedding.patch_embedding, arrays, f"{root}.embeddings.patch_embedding")
    positions = arrays[f"{root}.embeddings.position_embedding.weight"]
    embedding.position_embedding.embeddings.assign(positions)
    # keras-hub's CLIP starts these at 0, not at 0, 1, 2, ...: published presets hold them.
    embedding.position_ids.assign(np.arange(len(positions))[np.newaxis])
    clip = hasattr(vision, "pre_layer_norm")
    if clip:
        embedding.class_embedding.assign(arrays[f"{root}.embeddings.class_embedding"])
        _fill(vision.pre_layer_norm, arrays, f"{root}.pre_layrnorm")
    for index, block in enumerate(vision.encoder_layers):
        name = f"{root}.encoder.layers.{index}"
        attention, mlp = (block.attention, block) if clip else (block.self_attn, block.mlp)
        parts = [
            (arrays[f"{name}.self_attn.{part}.weight"], arrays[f"{name}.self_attn.{part}.bias"])
            for part in ("q_proj", "k_proj", "v_proj", "out_proj")
        ]
        _fill_attention(attention, parts)
        first, second = (mlp.dense_1, mlp.dense_2) if clip else (mlp.fc1, mlp.fc2)
        norms = ("layer_norm_1", "layer_norm_2") if clip else ("layer_norm1", "layer_norm2")
        _fill(first, arrays, f"{name}.mlp.fc1")
        _fill(second, arrays, f"{name}.mlp.fc2")
        _fill(getattr(block, norms[0]), arrays, f"{name}.layer_norm1")
        _fill(getattr(block, norms[1]), arrays, f"{name}.layer_norm2")
    _fill(vision.layer_norm if clip else vision.post_layer_norm, arrays, f"{root}.post_layernorm")
    if not clip:
        head, name = vision.head, f"{root}.head"
        head.probe.assign(arrays[f"{name}.probe"])
        weights = np.split(arrays[f"{name}.attention.in_proj_weight"], 3)
        biases = np.split(arrays[f"{name}.attention.in_proj_bias"], 3)
        out = f"{name}.attention.out_proj"
        out_parts = (arrays[f"{out}.weight"], arrays[f"{out}.bias"])
        _fill_attention(head.attention, [*zip(weights, biases, strict=True), out_parts])
        _fill(head.layer_norm, arrays, f"{name}.layernorm")
        _fill(head.mlp.fc1, arrays, f"{name}.mlp.fc1")
        _fill(head.mlp.fc2, arrays, f"{name}.mlp.fc2")


def _fill(layer: Any, arrays: Arrays, name: str) -> None:
    """Assign a checkpoint's weight and bias to a convolution, dense layer or LayerNorm."""
    weight = arrays[f"{name}.weight"]
    if weight.ndim == 4:
        layer.kernel.assign(weight.transpose(2, 3, 1, 0))
    elif weight.ndim == 2:
        layer.kernel.assign(weight.T)
    else:
        layer.gamma.assign(weight)
        layer.beta.assign(arrays[f"{name}.bias"])
        return
    if layer.use_bias:
        layer.bias.assign(arrays[f"{name}.bias"])


def _fill_attention(
    layer: Any, parts: list[tuple[NDArray[np.float32], NDArray[np.float32]]]
) -> None:
    """Assign (weight, bias) of query, key, value and output to Keras' MultiHeadAttention."""
    inputs = (layer.query_dense, layer.key_dense, layer.value_dense)
    for dense, (weight, bias) in zip(inputs, parts[:3], strict=True):
        dense.kernel.assign(weight.T.reshape(dense.kernel.shape))
        dense.bias.assign(bias.reshape(dense.bias.shape))
    weight, bias = parts[3]
    layer.output_dense.kernel.assign(weight.T.reshape(layer.output_dense.kernel.shape))
    layer.output_dense.bias.assign(bias)
