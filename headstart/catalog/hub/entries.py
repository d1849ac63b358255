"""Catalog entries of the backbones that KerasHub builds, made without importing Keras."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

from headstart.catalog.spec import (
    CLIP,
    SATELLITE,
    TF,
    TORCH,
    BackboneSpec,
    HubKind,
    HubNetwork,
    HubWeights,
    Preprocessing,
)
from headstart.catalog.tables import rows, share
from headstart.common.vocabulary import Interpolation

_TABLE = Path(__file__).with_name("table.csv")
"""One row per preset. Figures in percent on ImageNet, each from the source in its row.

Source: keras-hub 0.32 (`*_presets.py`: preset, version; tools/checkpoint_conversion: the published
weights that each was made of), and those weights' own configurations for the networks' arguments.
The parameters are those of the image's network without top: of CLIP's and SigLIP's two towers the
image's, with CLIP's projection. The size is that of the whole preset in float32, computed from its
parameters, so with both towers.

Left out: DINOv3 of 7 billion parameters (27 GB), KerasHub's copies of networks that Keras has, and
CNNs whose stages it keeps in one layer (HGNetV2), which could not be cut.
"""

_LAST_LAYER = {"clip": "projection", "siglip": "head"}

_DINOV3_TERMS = (
    "DINOv3's weights come under Meta's DINOv3 License, which is no open-source license: pass it "
    "on with them and with what is made of them, and mind the uses that it excludes (military, "
    "nuclear, weapons, espionage): https://ai.meta.com/resources/models-and-libraries/dinov3-license"
)
_MEDICAL_TERMS = (
    "MedSigLIP's weights come under Google's Health AI Developer Foundations terms of use, which "
    "is no open-source license: https://developers.google.com/health-ai-developer-foundations/terms"
)


class _Family(NamedTuple):
    """What all presets of an architecture and training share."""

    model: str
    preprocessing: Preprocessing
    source: str
    license: str
    terms: str | None = None
    interpolation: Interpolation = "bicubic"
    fixed_size: bool = False
    square: bool = False


# Model: KerasHub's name on Kaggle. Interpolation and preprocessing: the published image processors
# of each. License: of the weights, as their authors' repositories and model cards state it.
_FAMILIES = {
    "CLIP": _Family(
        "clip", CLIP, "Radford et al. 2021, arXiv:2103.00020", "MIT", fixed_size=True
    ),
    "DINOv2": _Family(
        "dinov2", TORCH, "Oquab et al. 2023, arXiv:2304.07193", "Apache-2.0", square=True
    ),
    "DINOv2Registers": _Family(
        "dinov2", TORCH, "Darcet et al. 2023, arXiv:2309.16588", "Apache-2.0", square=True
    ),
    "DINOv3": _Family(
        "dinov3", TORCH, "Siméoni et al. 2025, arXiv:2508.10104", "DINOv3 License",
        terms=_DINOV3_TERMS, interpolation="bilinear",
    ),
    "DINOv3Sat": _Family(
        "dinov3", SATELLITE, "Siméoni et al. 2025, arXiv:2508.10104", "DINOv3 License",
        terms=_DINOV3_TERMS, interpolation="bilinear",
    ),
    "DeiT": _Family(
        "deit", TORCH, "Touvron et al. 2021, arXiv:2012.12877", "Apache-2.0", fixed_size=True
    ),
    "MedSigLIP": _Family(
        "medsiglip", TF, "Sellergren et al. 2025, arXiv:2507.05201", "HAI-DEF terms",
        terms=_MEDICAL_TERMS, fixed_size=True,
    ),
    "OpenCLIP": _Family(
        "clip", CLIP, "Cherti et al. 2023, arXiv:2212.07143", "MIT", fixed_size=True
    ),
    "ResNetA1": _Family(
        "resnetv1", TORCH, "Wightman et al. 2021, arXiv:2110.00476", "Apache-2.0"
    ),
    "SigLIP": _Family(
        "siglip", TF, "Zhai et al. 2023, arXiv:2303.15343", "Apache-2.0", fixed_size=True
    ),
    "SigLIP2": _Family(
        "siglip", TF, "Tschannen et al. 2025, arXiv:2502.14786", "Apache-2.0", fixed_size=True
    ),
    "Swin": _Family(
        "swin-transformer", TORCH, "Liu et al. 2021, arXiv:2103.14030", "MIT", fixed_size=True
    ),
    "ViT": _Family(
        "vit", TF, "Dosovitskiy et al. 2021, arXiv:2010.11929", "Apache-2.0",
        interpolation="bilinear", fixed_size=True,
    ),
}  # fmt: skip


def specs() -> Iterator[BackboneSpec]:
    """Yield the entries in the table's order."""
    yield from map(_spec, rows(_TABLE))


def _spec(row: dict[str, str]) -> BackboneSpec:
    family = _FAMILIES[row["family"]]
    side, patch = int(row["side"]), int(row["patch"])
    config: dict[str, Any] = json.loads(row["config"])
    # A network of convolutions takes what Keras' ResNets take.
    smallest = patch if row["prefix_tokens"] else 32
    return BackboneSpec(
        name=row["name"],
        family=row["family"],
        default_size=(side, side),
        min_size=side if family.fixed_size else smallest,
        size_multiple=patch,
        fixed_size=family.fixed_size,
        square=family.square,
        feature_layer=_feature_layer(row["kind"], config),
        feature_dim=int(row["feature_dim"]),
        prefix_tokens=int(row["prefix_tokens"]) if row["prefix_tokens"] else None,
        network=HubNetwork(
            cast(HubKind, row["kind"]), tuple((key, _frozen(config[key])) for key in config)
        ),
        preprocessing=family.preprocessing,
        interpolation=family.interpolation,
        pretrained=_weights(family.model, row["preset"], row["version"]),
        license=family.license,
        terms=family.terms,
        parameters=int(row["parameters"]),
        depth=None,
        top1=share(row["top1"]),
        top5=share(row["top5"]),
        linear_probe=share(row["linear_probe"]),
        zero_shot=share(row["zero_shot"]),
        figure_source=row["figure_source"] or None,
        size_mb=float(row["size_mb"]),
        source=family.source,
    )


def _feature_layer(kind: str, config: dict[str, Any]) -> str:
    if kind == "resnet":
        blocks = config["stackwise_num_blocks"]
        return f"stack{len(blocks) - 1}_block{blocks[-1] - 1}_out"
    return _LAST_LAYER.get(kind, "norm")


def _weights(model: str, preset: str, version: str) -> HubWeights | None:
    if not preset:
        return None
    return HubWeights(preset, f"kaggle://keras/{model}/keras/{preset}/{version}")


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
