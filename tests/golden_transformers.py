"""Forward passes in NumPy, float64, written from the papers' equations and their reference code.

They share nothing with this project nor with keras-hub: two implementations that agree are what
makes the features they agree on golden. Arrays come by the names of published checkpoints (see
`tests.hub_arrays`), pixels already normalized.

Source: ViT arXiv:2010.11929, DeiT 2012.12877, Swin 2103.14030, DINOv2 2304.07193 (registers
2309.16588), DINOv3 2508.10104, CLIP 2103.00020, SigLIP 2303.15343, ResNet 1512.03385; semantics
of the arrays: transformers/models/{vit,deit,swin,dinov2,dinov3_vit,clip,siglip}/modeling_*.py and
timm/models/resnet.py.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tests.golden_layers import (
    Floats,
    Weights,
    attend,
    gelu,
    gelu_tanh,
    insert,
    prepend,
    quick_gelu,
    relu,
    resized_cubic,
    silu,
    windows,
)
from tests.hub_arrays import Arrays, Tiny

Taps = dict[str, Floats]
"""Outputs by the names of the project's layers."""


def golden(tiny: Tiny, arrays: Arrays, pixels: NDArray[np.float32]) -> Taps:
    """Return every block's output, the final norm's and the pooled vector, in that order.

    Args:
        tiny: The network.
        arrays: Its weights.
        pixels: (n_images, height, width, 3), normalized.

    Returns:
        Tokens (n_images, tokens, channels), class token first; maps (n_images, height, width,
        channels) of a ResNet.
    """
    return _FORWARD[tiny.kind](tiny, Weights(arrays), pixels.astype(np.float64))


def final_norm(tiny: Tiny, arrays: Arrays, tokens: Floats) -> Floats:
    """Normalize any block's tokens as the last one's are."""
    name, epsilon = _FINAL_NORMS[tiny.kind]
    return Weights(arrays).norm(tokens, name, epsilon)


def _vit(tiny: Tiny, weights: Weights, pixels: Floats) -> Taps:
    """ViT and DeiT, which has a second token, learned by distillation."""
    root, heads, epsilon = tiny.kind, tiny.arguments["num_heads"], 1e-6
    names = [f"{root}.embeddings.cls_token", f"{root}.embeddings.distillation_token"]
    tokens = weights.patches(pixels, f"{root}.embeddings.patch_embeddings.projection")
    x = prepend(tokens, *(weights[name] for name in names if name in weights))
    x = x + weights[f"{root}.embeddings.position_embeddings"]
    taps = {"embedding": x}
    for index in range(tiny.depth):
        block = f"{root}.encoder.layer.{index}"
        y = weights.norm(x, f"{block}.layernorm_before", epsilon)
        q, k, v = (
            weights.dense(y, f"{block}.attention.attention.{part}")
            for part in ("query", "key", "value")
        )
        x = x + weights.dense(attend(q, k, v, heads), f"{block}.attention.output.dense")
        y = weights.norm(x, f"{block}.layernorm_after", epsilon)
        x = x + weights.mlp(y, f"{block}.intermediate.dense", f"{block}.output.dense", gelu)
        taps[f"block_{index + 1}"] = x
    return {**taps, "norm": weights.norm(x, f"{root}.layernorm", epsilon)}


def _swin(tiny: Tiny, weights: Weights, pixels: Floats) -> Taps:
    """Windows as groups of tokens that may attend to one another, in attention over the grid.

    The reference rolls the grid and masks what rolled around the edge; the groups are the same.
    """
    window, patch, epsilon = tiny.arguments["window_size"], tiny.arguments["patch_size"], 1e-5
    grid = (pixels.shape[1] // patch, pixels.shape[2] // patch)
    x = weights.patches(pixels, "swin.embeddings.patch_embeddings.projection")
    x = weights.norm(x, "swin.embeddings.norm", epsilon)
    taps, number = {"embedding": x}, 0
    depths = tiny.arguments["depths"]
    for stage, depth in enumerate(depths):
        heads = tiny.arguments["num_heads"][stage]
        for index in range(depth):
            block = f"swin.encoder.layers.{stage}.blocks.{index}"
            shift = window // 2 if index % 2 and min(grid) > window else 0
            table = weights[f"{block}.attention.self.relative_position_bias_table"]
            bias = _window_bias(grid, window, shift, table)
            y = weights.norm(x, f"{block}.layernorm_before", epsilon)
            q, k, v = (
                weights.dense(y, f"{block}.attention.self.{part}")
                for part in ("query", "key", "value")
            )
            x = x + weights.dense(attend(q, k, v, heads, bias), f"{block}.attention.output.dense")
            y = weights.norm(x, f"{block}.layernorm_after", epsilon)
            x = x + weights.mlp(y, f"{block}.intermediate.dense", f"{block}.output.dense", gelu)
            number += 1
            taps[f"block_{number}"] = x
        if stage < len(depths) - 1:
            merge = f"swin.encoder.layers.{stage}.downsample"
            cells = x.reshape(len(x), *grid, -1)
            corners = [cells[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
            grid = (grid[0] // 2, grid[1] // 2)
            joined = np.concatenate(corners, axis=-1).reshape(len(x), grid[0] * grid[1], -1)
            x = weights.dense(weights.norm(joined, f"{merge}.norm", epsilon), f"{merge}.reduction")
            taps[f"merge_{stage + 1}"] = x
    return {**taps, "norm": weights.norm(x, "swin.layernorm", epsilon)}


def _window_bias(grid: tuple[int, int], window: int, shift: int, table: Floats) -> Floats:
    """Relative position bias within windows, minus infinity between them.

    Args:
        grid: (height, width) in tokens.
        window: Side of a window in tokens.
        shift: By how many tokens windows start later than the grid.
        table: ((2 * window - 1)^2, heads), row offsets slowest.

    Returns:
        (heads, tokens, tokens) of queries and keys.
    """
    rows, columns = (axis.reshape(-1) for axis in np.indices(grid))
    apart = rows[:, None] - rows, columns[:, None] - columns
    groups = np.stack([(rows - shift) // window, (columns - shift) // window], axis=-1)
    together = (groups[:, None] == groups).all(axis=-1)
    index = (apart[0] + window - 1) * (2 * window - 1) + apart[1] + window - 1
    bias = table[np.where(together, index, 0)]
    return np.where(together[..., None], bias, -np.inf).transpose(2, 0, 1)


def _dinov2(tiny: Tiny, weights: Weights, pixels: Floats) -> Taps:
    heads, epsilon, patch = tiny.arguments["num_heads"], 1e-6, tiny.arguments["patch_size"]
    positions = weights["embeddings.position_embeddings"]
    trained = int(np.sqrt(positions.shape[1] - 1))
    grid = (pixels.shape[1] // patch, pixels.shape[2] // patch)
    if grid != (trained, trained):
        antialias = tiny.arguments.get("antialias_in_interpolation", False)
        cells = positions[0, 1:].reshape(trained, trained, -1)
        resized = resized_cubic(cells, grid, antialias).reshape(1, grid[0] * grid[1], -1)
        positions = np.concatenate([positions[:, :1], resized], axis=1)
    tokens = weights.patches(pixels, "embeddings.patch_embeddings.projection")
    x = prepend(tokens, weights["embeddings.cls_token"]) + positions
    if "embeddings.register_tokens" in weights:  # they have no position
        x = insert(x, weights["embeddings.register_tokens"])
    taps = {"embedding": x}
    for index in range(tiny.depth):
        block = f"encoder.layer.{index}"
        y = weights.norm(x, f"{block}.norm1", epsilon)
        q, k, v = (
            weights.dense(y, f"{block}.attention.attention.{part}")
            for part in ("query", "key", "value")
        )
        y = weights.dense(attend(q, k, v, heads), f"{block}.attention.output.dense")
        x = x + y * weights[f"{block}.layer_scale1.lambda1"]
        y = weights.norm(x, f"{block}.norm2", epsilon)
        if f"{block}.mlp.weights_in.weight" in weights:
            gate, linear = np.split(weights.dense(y, f"{block}.mlp.weights_in"), 2, axis=-1)
            y = weights.dense(silu(gate) * linear, f"{block}.mlp.weights_out")
        else:
            y = weights.mlp(y, f"{block}.mlp.fc1", f"{block}.mlp.fc2", gelu)
        x = x + y * weights[f"{block}.layer_scale2.lambda1"]
        taps[f"block_{index + 1}"] = x
    return {**taps, "norm": weights.norm(x, "layernorm", epsilon)}


def _dinov3(tiny: Tiny, weights: Weights, pixels: Floats) -> Taps:
    heads, epsilon, patch = tiny.arguments["num_heads"], 1e-5, tiny.arguments["patch_size"]
    x = weights.patches(pixels, "embeddings.patch_embeddings")
    x = insert(prepend(x, weights["embeddings.cls_token"]), weights["embeddings.register_tokens"])
    grid = (pixels.shape[1] // patch, pixels.shape[2] // patch)
    angles = _rotary_angles(grid, x.shape[-1] // heads)
    taps = {"embedding": x}
    for index in range(tiny.depth):
        block = f"layer.{index}"
        y = weights.norm(x, f"{block}.norm1", epsilon)
        q, k, v = (weights.dense(y, f"{block}.attention.{part}_proj") for part in "qkv")
        y = attend(_rotated(q, angles, heads), _rotated(k, angles, heads), v, heads)
        y = weights.dense(y, f"{block}.attention.o_proj")
        x = x + y * weights[f"{block}.layer_scale1.lambda1"]
        y = weights.norm(x, f"{block}.norm2", epsilon)
        if f"{block}.mlp.gate_proj.weight" in weights:
            gate = silu(weights.dense(y, f"{block}.mlp.gate_proj"))
            y = weights.dense(
                gate * weights.dense(y, f"{block}.mlp.up_proj"), f"{block}.mlp.down_proj"
            )
        else:
            y = weights.mlp(y, f"{block}.mlp.up_proj", f"{block}.mlp.down_proj", gelu)
        x = x + y * weights[f"{block}.layer_scale2.lambda1"]
        taps[f"block_{index + 1}"] = x
    return {**taps, "norm": weights.norm(x, "norm", epsilon)}


def _rotary_angles(grid: tuple[int, int], width: int, base: float = 100.0) -> Floats:
    """Angles of the axial rotary position embedding, (patches, width / 2).

    A patch's center is (y, x) in [-1, 1]; the first half of a head's angles turns with y, the
    second with x, at width / 4 frequencies each.
    """
    frequencies = base ** -(np.arange(width // 4) * 4 / width)
    centers = [
        2 * (axis.reshape(-1, 1) + 0.5) / side - 1
        for axis, side in zip(np.indices(grid), grid, strict=True)
    ]
    return np.concatenate([2 * np.pi * center * frequencies for center in centers], axis=1)


def _rotated(x: Floats, angles: Floats, heads: int) -> Floats:
    """Turn the pair (i, i + width / 2) of each head by its angle, but of no prefix token."""
    prefix = x.shape[1] - len(angles)
    patches = x[:, prefix:].reshape(len(x), len(angles), heads, -1)
    first, second = np.split(patches, 2, axis=-1)
    turned = (first + 1j * second) * np.exp(1j * angles)[:, None]
    patches = np.concatenate([turned.real, turned.imag], axis=-1)
    return np.concatenate([x[:, :prefix], patches.reshape(x[:, prefix:].shape)], axis=1)


def _clip(tiny: Tiny, weights: Weights, pixels: Floats) -> Taps:
    """The image towers of CLIP and SigLIP."""
    clip, root, heads = tiny.kind == "clip", "vision_model", tiny.arguments["num_heads"]
    epsilon, activation = (1e-5, quick_gelu) if clip else (1e-6, gelu_tanh)
    x = weights.patches(pixels, f"{root}.embeddings.patch_embedding")
    if clip:
        x = prepend(x, weights[f"{root}.embeddings.class_embedding"][None, None])
    x = x + weights[f"{root}.embeddings.position_embedding.weight"]
    taps = {"embedding": x}
    if clip:
        x = weights.norm(x, f"{root}.pre_layrnorm", epsilon)
        taps["pre_norm"] = x
    for index in range(tiny.depth):
        block = f"{root}.encoder.layers.{index}"
        y = weights.norm(x, f"{block}.layer_norm1", epsilon)
        q, k, v = (weights.dense(y, f"{block}.self_attn.{part}_proj") for part in "qkv")
        x = x + weights.dense(attend(q, k, v, heads), f"{block}.self_attn.out_proj")
        y = weights.norm(x, f"{block}.layer_norm2", epsilon)
        x = x + weights.mlp(y, f"{block}.mlp.fc1", f"{block}.mlp.fc2", activation)
        taps[f"block_{index + 1}"] = x
    x = weights.norm(x, f"{root}.post_layernorm", epsilon)
    taps["norm"] = x
    if clip:
        return {**taps, "projection": weights.dense(x[:, 0], "visual_projection")}
    return {**taps, "head": _attention_pooling(weights, x, f"{root}.head", heads)}


def _attention_pooling(weights: Weights, x: Floats, name: str, heads: int) -> Floats:
    """Pool tokens by the attention of one learned query."""
    probe = prepend(x[:, :0], weights[f"{name}.probe"])
    kernels = np.split(weights[f"{name}.attention.in_proj_weight"], 3)
    biases = np.split(weights[f"{name}.attention.in_proj_bias"], 3)
    q, k, v = (
        y @ kernel.T + bias for y, kernel, bias in zip((probe, x, x), kernels, biases, strict=True)
    )
    y = weights.dense(attend(q, k, v, heads), f"{name}.attention.out_proj")
    normed = weights.norm(y, f"{name}.layernorm", 1e-6)
    return (y + weights.mlp(normed, f"{name}.mlp.fc1", f"{name}.mlp.fc2", gelu_tanh))[:, 0]


def _resnet(tiny: Tiny, weights: Weights, pixels: Floats) -> Taps:
    x = relu(weights.convolution(pixels, "conv1", "bn1", 2))
    taps = {"conv1_relu": x}
    x = windows(x, 3, 2, -np.inf).max(axis=(-2, -1))
    taps["pool1_pool"] = x
    for stage, depth in enumerate(tiny.arguments["stackwise_num_blocks"]):
        for index in range(depth):
            block, stride = f"layer{stage + 1}.{index}", 2 if stage and not index else 1
            y = relu(weights.convolution(x, f"{block}.conv1", f"{block}.bn1", stride))
            y = weights.convolution(y, f"{block}.conv2", f"{block}.bn2")
            down = f"{block}.downsample"
            if f"{down}.0.weight" in weights:
                x = weights.convolution(x, f"{down}.0", f"{down}.1", stride)
            x = relu(x + y)
            taps[f"stack{stage}_block{index}_out"] = x
    return taps


_FINAL_NORMS = {
    "vit": ("vit.layernorm", 1e-6),
    "deit": ("deit.layernorm", 1e-6),
    "dinov2": ("layernorm", 1e-6),
    "dinov3": ("norm", 1e-5),
    "clip": ("vision_model.post_layernorm", 1e-5),
}
_FORWARD: dict[str, Callable[[Tiny, Weights, Floats], Taps]] = {
    "vit": _vit,
    "deit": _vit,
    "swin": _swin,
    "dinov2": _dinov2,
    "dinov3": _dinov3,
    "clip": _clip,
    "siglip": _clip,
    "resnet": _resnet,
}
