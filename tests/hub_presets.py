"""Preset folders of the tiny networks, in the layouts of KerasHub, Transformers and timm.

None of this project's code takes part: KerasHub's folders are written by keras-hub itself.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from tests.hub_arrays import ALL, MEAN, STD, Arrays, Tiny


def transformers_folder(name: str, folder: Path) -> Arrays:
    """Write the network in Transformers' layout and return its arrays."""
    tiny = ALL[name]
    height, width = tiny.image_size
    # As the published files have it: the size in three ways, of which no entry may depend.
    sizes: dict[str, Any] = {
        "dinov2": {
            "size": {"shortest_edge": height},
            "crop_size": {"height": height, "width": width},
        },
        "deit": {"size": height, "crop_size": height},
    }
    preprocessing = {
        **{"do_normalize": True, "do_rescale": True, "do_resize": True, "resample": 3},
        **{"image_mean": MEAN, "image_std": STD, "rescale_factor": 1 / 255},
        **sizes.get(tiny.kind, {"size": {"height": height, "width": width}}),
    }
    return _write(folder, _transformers_config(tiny), tiny.arrays(), preprocessing)


def timm_folder(name: str, folder: Path) -> Arrays:
    """Write the network in timm's layout, its architecture by name, and return its arrays."""
    tiny = ALL[name]
    pretrained = {
        **{"input_size": [3, *tiny.image_size], "interpolation": "bicubic", "crop_pct": 0.95},
        **{"mean": MEAN, "std": STD, "num_classes": 7, "first_conv": "conv1", "classifier": "fc"},
    }
    width = tiny.arguments["stackwise_num_filters"][-1]
    config = {
        **{"architecture": name, "num_classes": 7, "num_features": width},
        **{"global_pool": "avg", "pretrained_cfg": pretrained},
    }
    return _write(folder, config, tiny.arrays())


def keras_hub_folder(name: str, folder: Path) -> Arrays:
    """Write the network in KerasHub's layout, with an image converter; return its arrays."""
    import keras_hub

    from tests.hub_keras import converter_of, residual, two_towers

    tiny = ALL[name]
    with tempfile.TemporaryDirectory() as other:
        if tiny.kind in ("clip", "siglip"):
            arrays = tiny.arrays()
            backbone = two_towers(tiny, arrays)
        elif tiny.kind == "resnet":
            arrays = timm_folder(name, Path(other))
            backbone = residual(tiny, other)
        else:
            arrays = transformers_folder(name, Path(other))
            backbone = keras_hub.models.Backbone.from_preset(other)
    backbone.save_to_preset(str(folder))
    converter_of(tiny, MEAN, STD).save_to_preset(str(folder))
    return arrays


def _write(
    folder: Path,
    config: dict[str, Any],
    arrays: Arrays,
    preprocessing: dict[str, Any] | None = None,
) -> Arrays:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    if preprocessing:
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing, indent=2))
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    save_file(contiguous, folder / "model.safetensors", metadata={"format": "pt"})
    return arrays


def _transformers_config(tiny: Tiny) -> dict[str, Any]:
    """The config.json of Transformers' classes for the network."""
    given = tiny.arguments
    common = {
        **{"image_size": tiny.image_size[0], "num_channels": 3, "patch_size": given["patch_size"]},
        **{"hidden_act": given.get("hidden_activation", "gelu"), "hidden_dropout_prob": 0.0},
        **{"attention_probs_dropout_prob": 0.0, "qkv_bias": True, "drop_path_rate": 0.0},
        **{"id2label": {str(index): f"class {index}" for index in range(7)}},
    }
    if tiny.kind == "swin":
        return common | {
            **{"model_type": "swin", "architectures": ["SwinForImageClassification"]},
            **{"layer_norm_eps": 1e-5, "embed_dim": given["embed_dim"]},
            **{"depths": given["depths"], "num_heads": given["num_heads"]},
            **{"window_size": given["window_size"], "mlp_ratio": given["mlp_ratio"]},
            **{"use_absolute_embeddings": False},
        }
    common |= {
        **{"hidden_size": given["hidden_dim"], "num_hidden_layers": given["num_layers"]},
        **{"num_attention_heads": given["num_heads"], "layer_norm_eps": 1e-6},
        **{"intermediate_size": given.get("intermediate_dim", given.get("mlp_dim"))},
    }
    if tiny.kind == "dinov2":
        registers = given.get("num_register_tokens", 0)
        name = "dinov2_with_registers" if registers else "dinov2"
        architecture = "Dinov2WithRegistersModel" if registers else "Dinov2Model"
        del common["intermediate_size"]
        return common | {
            **{"model_type": name, "architectures": [architecture], "layerscale_value": 1.0},
            **{"mlp_ratio": given["intermediate_dim"] // given["hidden_dim"]},
            **{"use_swiglu_ffn": given.get("use_swiglu_ffn", False)},
            **({"num_register_tokens": registers} if registers else {}),
        }
    if tiny.kind == "dinov3":
        return common | {
            **{"model_type": "dinov3_vit", "architectures": ["DINOv3ViTModel"]},
            **{"layer_norm_eps": 1e-5, "layerscale_value": 1.0, "rope_theta": 100.0},
            **{"num_register_tokens": given["num_register_tokens"], "attention_dropout": 0.0},
            **{"use_gated_mlp": given.get("use_gated_mlp", False), "mlp_bias": True},
            **{"query_bias": True, "key_bias": False, "value_bias": True, "proj_bias": True},
        }
    classes = {"vit": "ViTForImageClassification", "deit": "DeiTForImageClassification"}
    return common | {"model_type": tiny.kind, "architectures": [classes[tiny.kind]]}
