"""Tiny networks and their seeded weights, under the names that published checkpoints use.

Names are those of Hugging Face's Transformers (of timm for ResNet). No value is at its usual
start: zeros and ones would hide a forgotten bias, token or scale.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MEAN, STD = (0.52, 0.44, 0.37), (0.31, 0.26, 0.22)
"""Of pixels in [0, 1]: the presets' own, which no entry of the catalog has."""

Arrays = dict[str, NDArray[np.float32]]
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Tiny:
    """A network, small but for those of `FULL`.

    Attributes:
        kind: As in `HubNetwork`.
        arguments: Of keras-hub's class (of its vision encoder, plus `projection_dim`).
        image_size: (height, width) in pixels that its position embeddings are for.
        prefix_tokens: Tokens before the patches; None for a network of maps.
        seed: Of the arrays.
    """

    kind: str
    arguments: Mapping[str, Any]
    image_size: tuple[int, int]
    prefix_tokens: int | None
    seed: int

    @property
    def depth(self) -> int:
        """Number of blocks."""
        if "num_layers" in self.arguments:
            return int(self.arguments["num_layers"])
        return sum(self.arguments.get("depths") or self.arguments["stackwise_num_blocks"])

    @property
    def feature_dim(self) -> int:
        """Channels of the last layer."""
        given = self.arguments
        if "embed_dim" in given:
            return int(given["embed_dim"]) * 2 ** (len(given["depths"]) - 1)
        if "stackwise_num_filters" in given:
            return int(given["stackwise_num_filters"][-1])
        return int(given.get("projection_dim", given.get("hidden_dim")))

    def arrays(self) -> Arrays:
        """Draw the arrays of the checkpoint."""
        return draw(_SHAPES[self.kind](self), self.seed)


_HEADS = {"hidden_dim": 24, "num_heads": 3}
_PLAIN = {"patch_size": 8, "num_layers": 4, "intermediate_dim": 40, **_HEADS}
_VIT = {"patch_size": 8, "num_layers": 4, "mlp_dim": 40, **_HEADS}
_SWIN = {
    **{"patch_size": 4, "embed_dim": 8, "depths": (2, 1, 1), "num_heads": (2, 4, 4)},
    **{"window_size": 3, "mlp_ratio": 2.0, "drop_path": 0.0},
}
_DINO = {"patch_size": 4, "num_layers": 4, "intermediate_dim": 48, **_HEADS}
_DINOV2 = {
    **{**_DINO, "num_register_tokens": 0, "use_swiglu_ffn": False},
    **{"position_embedding_shape": (28, 28), "antialias_in_interpolation": False},
}
_REGISTERS = {"num_register_tokens": 4, "antialias_in_interpolation": True}
_DINOV3 = {
    **{**_DINO, "num_register_tokens": 4, "use_key_bias": False},
    **{"use_gated_mlp": False, "hidden_activation": "gelu"},
}
_GATED = {"use_gated_mlp": True, "hidden_activation": "silu"}
_RESNET = {
    **{"stackwise_num_filters": (64, 80), "stackwise_num_blocks": (2, 2)},
    **{"stackwise_num_strides": (1, 2), "block_type": "basic_block"},
    **{"input_conv_filters": (64,), "input_conv_kernel_sizes": (7,), "use_pre_activation": False},
}
_RESNET18 = {
    **{**_RESNET, "stackwise_num_filters": (64, 128, 256, 512)},
    **{"stackwise_num_blocks": (2, 2, 2, 2), "stackwise_num_strides": (1, 2, 2, 2)},
}

NETWORKS = {
    "vit": Tiny("vit", _VIT, (32, 32), 1, 1),
    "deit": Tiny("deit", _PLAIN, (32, 32), 2, 2),
    "swin": Tiny("swin", _SWIN, (48, 48), 0, 3),
    "dinov2": Tiny("dinov2", _DINOV2, (28, 28), 1, 4),
    "dinov2_registers": Tiny("dinov2", {**_DINOV2, **_REGISTERS}, (28, 28), 5, 5),
    "dinov2_swiglu": Tiny("dinov2", {**_DINOV2, "use_swiglu_ffn": True}, (28, 28), 1, 6),
    "dinov3": Tiny("dinov3", _DINOV3, (32, 32), 5, 7),
    "dinov3_gated": Tiny("dinov3", {**_DINOV3, **_GATED}, (32, 32), 5, 8),
    "clip": Tiny("clip", {**_PLAIN, "projection_dim": 16}, (32, 32), 1, 9),
    "siglip": Tiny("siglip", _PLAIN, (32, 32), 0, 10),
    "resnet": Tiny("resnet", _RESNET, (48, 48), None, 11),
}
"""By name: every kind, and the variants of a kind."""

_DINOV2_SMALL = {
    **{**_DINOV2, "patch_size": 14, "num_layers": 12, "hidden_dim": 384, "num_heads": 6},
    **{"intermediate_dim": 1536, "position_embedding_shape": (518, 518)},
}
FULL = {
    "resnet18": Tiny("resnet", _RESNET18, (64, 64), None, 12),
    "dinov2_small": Tiny("dinov2", _DINOV2_SMALL, (518, 518), 1, 13),
}
"""In their published sizes, for what looks them up by name; 11 and 22 million random weights."""

ALL = NETWORKS | FULL

_OTHERS = ("clip", "siglip", "resnet")
TRANSFORMERS = tuple(name for name, tiny in NETWORKS.items() if tiny.kind not in _OTHERS)
"""Those that keras-hub reads in Transformers' layout."""


def draw(shapes: Shapes, seed: int) -> Arrays:
    """Draw float32 arrays in which every entry matters.

    Kernels are scaled by their fan-in, so that depth neither blows activations up nor lets them
    vanish; the scales of norms (weights of one dimension) and variances lie around 1, layer
    scales around 0.5.
    """
    rng = np.random.default_rng(seed)
    arrays = {}
    for name, shape in shapes.items():
        values = rng.normal(size=shape)
        if name.endswith("weight"):
            one = len(shape) == 1
            values = 1 + 0.2 * values if one else values / np.sqrt(np.prod(shape[1:]))
        elif name.endswith("running_var"):
            values = 0.5 + rng.uniform(size=shape)
        elif name.endswith("lambda1"):
            values = 0.5 + 0.15 * values
        elif name.endswith(("bias", "running_mean")):
            values = 0.2 * values
        else:
            values = 0.5 * values
        arrays[name] = values.astype(np.float32)
    return arrays


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _dense(name: str, inputs: int, outputs: int, bias: bool = True) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), **({f"{name}.bias": (outputs,)} if bias else {})}


def _mlp(first: str, second: str, width: int, inner: int) -> Shapes:
    return {**_dense(first, width, inner), **_dense(second, inner, width)}


def _patches(name: str, tiny: Tiny, width: int, bias: bool = True) -> Shapes:
    side = tiny.arguments["patch_size"]
    kernel = {f"{name}.weight": (width, 3, side, side)}
    return {**kernel, **({f"{name}.bias": (width,)} if bias else {})}


def _grid(tiny: Tiny) -> int:
    side = tiny.arguments["patch_size"]
    return (tiny.image_size[0] // side) * (tiny.image_size[1] // side)


def _attention(name: str, width: int, names: tuple[str, str, str, str]) -> Shapes:
    return {
        key: shape
        for part in names
        for key, shape in _dense(f"{name}.{part}", width, width).items()
    }


_VIT_ATTENTION = ("attention.query", "attention.key", "attention.value", "output.dense")
_CLIP_ATTENTION = ("q_proj", "k_proj", "v_proj", "out_proj")


def _vit(tiny: Tiny) -> Shapes:
    """ViTForImageClassification and DeiTForImageClassification."""
    root, width, prefix = tiny.kind, tiny.arguments["hidden_dim"], tiny.prefix_tokens or 0
    inner = tiny.arguments.get("mlp_dim") or tiny.arguments["intermediate_dim"]
    shapes: Shapes = {f"{root}.embeddings.cls_token": (1, 1, width)}
    if root == "deit":
        shapes[f"{root}.embeddings.distillation_token"] = (1, 1, width)
    shapes[f"{root}.embeddings.position_embeddings"] = (1, _grid(tiny) + prefix, width)
    shapes |= _patches(f"{root}.embeddings.patch_embeddings.projection", tiny, width)
    for index in range(tiny.depth):
        block = f"{root}.encoder.layer.{index}"
        shapes |= _attention(f"{block}.attention", width, _VIT_ATTENTION)
        shapes |= _mlp(f"{block}.intermediate.dense", f"{block}.output.dense", width, inner)
        shapes |= _norm(f"{block}.layernorm_before", width)
        shapes |= _norm(f"{block}.layernorm_after", width)
    return {**shapes, **_norm(f"{root}.layernorm", width), **_dense("classifier", width, 7)}


def _swin(tiny: Tiny) -> Shapes:
    """SwinForImageClassification."""
    width, ratio = tiny.arguments["embed_dim"], tiny.arguments["mlp_ratio"]
    depths, heads = tiny.arguments["depths"], tiny.arguments["num_heads"]
    table = (2 * tiny.arguments["window_size"] - 1) ** 2
    shapes = _patches("swin.embeddings.patch_embeddings.projection", tiny, width)
    shapes |= _norm("swin.embeddings.norm", width)
    for stage, depth in enumerate(depths):
        for index in range(depth):
            block = f"swin.encoder.layers.{stage}.blocks.{index}"
            shapes |= _norm(f"{block}.layernorm_before", width)
            names = ("self.query", "self.key", "self.value", "output.dense")
            shapes |= _attention(f"{block}.attention", width, names)
            bias = f"{block}.attention.self.relative_position_bias_table"
            shapes[bias] = (table, heads[stage])
            shapes |= _norm(f"{block}.layernorm_after", width)
            shapes |= _dense(f"{block}.intermediate.dense", width, int(width * ratio))
            shapes |= _dense(f"{block}.output.dense", int(width * ratio), width)
        if stage < len(depths) - 1:
            merge = f"swin.encoder.layers.{stage}.downsample"
            shapes |= _dense(f"{merge}.reduction", 4 * width, 2 * width, bias=False)
            shapes |= _norm(f"{merge}.norm", 4 * width)
            width *= 2
    return {**shapes, **_norm("swin.layernorm", width), **_dense("classifier", width, 7)}


def _dinov2(tiny: Tiny) -> Shapes:
    """Dinov2Model and Dinov2WithRegistersModel."""
    width, inner = tiny.arguments["hidden_dim"], tiny.arguments["intermediate_dim"]
    shapes: Shapes = {"embeddings.cls_token": (1, 1, width), "embeddings.mask_token": (1, width)}
    if registers := tiny.arguments.get("num_register_tokens"):
        shapes["embeddings.register_tokens"] = (1, registers, width)
    shapes["embeddings.position_embeddings"] = (1, _grid(tiny) + 1, width)
    shapes |= _patches("embeddings.patch_embeddings.projection", tiny, width)
    for index in range(tiny.depth):
        block = f"encoder.layer.{index}"
        shapes |= _norm(f"{block}.norm1", width)
        shapes |= _attention(f"{block}.attention", width, _VIT_ATTENTION)
        shapes |= {f"{block}.layer_scale1.lambda1": (width,)}
        shapes |= _norm(f"{block}.norm2", width)
        if tiny.arguments.get("use_swiglu_ffn"):
            half = (int(inner * 2 / 3) + 7) // 8 * 8
            shapes |= _dense(f"{block}.mlp.weights_in", width, 2 * half)
            shapes |= _dense(f"{block}.mlp.weights_out", half, width)
        else:
            shapes |= _mlp(f"{block}.mlp.fc1", f"{block}.mlp.fc2", width, inner)
        shapes |= {f"{block}.layer_scale2.lambda1": (width,)}
    return {**shapes, **_norm("layernorm", width)}


def _dinov3(tiny: Tiny) -> Shapes:
    """DINOv3ViTModel."""
    width, inner = tiny.arguments["hidden_dim"], tiny.arguments["intermediate_dim"]
    shapes: Shapes = {
        "embeddings.cls_token": (1, 1, width),
        "embeddings.mask_token": (1, 1, width),
        "embeddings.register_tokens": (1, tiny.arguments["num_register_tokens"], width),
    }
    shapes |= _patches("embeddings.patch_embeddings", tiny, width)
    for index in range(tiny.depth):
        block = f"layer.{index}"
        shapes |= _norm(f"{block}.norm1", width)
        for part in ("q_proj", "k_proj", "v_proj", "o_proj"):
            shapes |= _dense(f"{block}.attention.{part}", width, width, bias=part != "k_proj")
        shapes |= {f"{block}.layer_scale1.lambda1": (width,)}
        shapes |= _norm(f"{block}.norm2", width)
        if tiny.arguments.get("use_gated_mlp"):
            shapes |= _dense(f"{block}.mlp.gate_proj", width, inner)
        shapes |= _mlp(f"{block}.mlp.up_proj", f"{block}.mlp.down_proj", width, inner)
        shapes |= {f"{block}.layer_scale2.lambda1": (width,)}
    return {**shapes, **_norm("norm", width)}


def _clip(tiny: Tiny) -> Shapes:
    """The image towers of CLIPModel and SiglipModel."""
    width, inner = tiny.arguments["hidden_dim"], tiny.arguments["intermediate_dim"]
    clip, root = tiny.kind == "clip", "vision_model"
    shapes = _patches(f"{root}.embeddings.patch_embedding", tiny, width, bias=not clip)
    positions = _grid(tiny) + (tiny.prefix_tokens or 0)
    shapes[f"{root}.embeddings.position_embedding.weight"] = (positions, width)
    if clip:
        shapes[f"{root}.embeddings.class_embedding"] = (width,)
        shapes |= _norm(f"{root}.pre_layrnorm", width)  # spelled so in the published files
    for index in range(tiny.depth):
        block = f"{root}.encoder.layers.{index}"
        shapes |= _attention(f"{block}.self_attn", width, _CLIP_ATTENTION)
        shapes |= _norm(f"{block}.layer_norm1", width)
        shapes |= _mlp(f"{block}.mlp.fc1", f"{block}.mlp.fc2", width, inner)
        shapes |= _norm(f"{block}.layer_norm2", width)
    shapes |= _norm(f"{root}.post_layernorm", width)
    if clip:
        return shapes | _dense("visual_projection", width, tiny.arguments["projection_dim"], False)
    head = f"{root}.head"
    shapes |= {f"{head}.probe": (1, 1, width), f"{head}.attention.in_proj_bias": (3 * width,)}
    shapes |= {f"{head}.attention.in_proj_weight": (3 * width, width)}
    shapes |= _dense(f"{head}.attention.out_proj", width, width) | _norm(f"{head}.layernorm", width)
    return shapes | _mlp(f"{head}.mlp.fc1", f"{head}.mlp.fc2", width, inner)


def _resnet(tiny: Tiny) -> Shapes:
    """timm's ResNet of basic blocks."""

    def norm(name: str, width: int) -> Shapes:
        return {f"{name}.{part}": (width,) for part in ("weight", "bias", *_STATISTICS)}

    filters, blocks = (tiny.arguments[f"stackwise_num_{key}"] for key in ("filters", "blocks"))
    width = tiny.arguments["input_conv_filters"][0]
    shapes: Shapes = {"conv1.weight": (width, 3, 7, 7), **norm("bn1", width)}
    for stage, outputs in enumerate(filters):
        for index in range(blocks[stage]):
            block = f"layer{stage + 1}.{index}"
            shapes |= {f"{block}.conv1.weight": (outputs, width, 3, 3)} | norm(
                f"{block}.bn1", outputs
            )
            shapes |= {f"{block}.conv2.weight": (outputs, outputs, 3, 3)}
            shapes |= norm(f"{block}.bn2", outputs)
            if stage and not index:
                shapes |= {f"{block}.downsample.0.weight": (outputs, width, 1, 1)}
                shapes |= norm(f"{block}.downsample.1", outputs)
            width = outputs
    return shapes | _dense("fc", width, 7)


_STATISTICS = ("running_mean", "running_var")
_SHAPES: dict[str, Callable[[Tiny], Shapes]] = {
    "vit": _vit,
    "deit": _vit,
    "swin": _swin,
    "dinov2": _dinov2,
    "dinov3": _dinov3,
    "clip": _clip,
    "siglip": _clip,
    "resnet": _resnet,
}
