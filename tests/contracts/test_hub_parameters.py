"""Arguments and parameters of hub backbones against KerasHub's own classes.

A network of one block and one of two are built: the difference is a block, and all the others are
like it. So the largest needs no more memory than the smallest.
"""

import importlib
from collections.abc import Iterator
from typing import Any

import pytest

from headstart import catalog
from headstart.catalog.spec import BackboneSpec, HubNetwork

pytest.importorskip("keras_hub", reason="the extra hub is not installed")

CLASSES = {
    "clip": ("clip.clip_vision_encoder", "CLIPVisionEncoder"),
    "deit": ("deit.deit_backbone", "DeiTBackbone"),
    "dinov2": ("dinov2.dinov2_backbone", "DINOV2Backbone"),
    "dinov3": ("dinov3.dinov3_backbone", "DINOV3Backbone"),
    "resnet": ("resnet.resnet_backbone", "ResNetBackbone"),
    "siglip": ("siglip.siglip_vision_encoder", "SigLIPVisionEncoder"),
    "swin": ("swin_transformer.swin_transformer_backbone", "SwinTransformerBackbone"),
    "vit": ("vit.vit_backbone", "ViTBackbone"),
}
# What no training changes: numbers of positions, and DINOv2's positions resized to the image.
BUFFERS = ("position_ids", "interpolated_position_embeddings")


def _parameters() -> Iterator[Any]:
    """Each network whose parameters KerasHub states otherwise, and the smallest of other kinds.

    One of each kind always, the others marked as slow.
    """
    networks: set[HubNetwork] = set()
    kinds: set[str] = set()
    for spec in sorted(catalog.specs(), key=lambda spec: spec.parameters):
        network = spec.network
        if network is None or network in networks:
            continue
        networks.add(network)
        if network.kind in kinds and network.kind not in ("clip", "siglip", "dinov2", "dinov3"):
            continue
        slow = () if network.kind not in kinds else (pytest.mark.slow,)
        kinds.add(network.kind)
        yield pytest.param(spec, id=spec.name, marks=slow)


def count(spec: BackboneSpec, **changes: Any) -> int:
    assert spec.network is not None
    module, name = CLASSES[spec.network.kind]
    build = getattr(importlib.import_module(f"keras_hub.src.models.{module}"), name)
    config = {**dict(spec.network.config), **changes}
    projection = config.pop("projection_dim", 0)
    model = build(image_shape=(*spec.default_size, 3), **config)
    sizes = [
        int(weight.value.numpy().size) for weight in model.weights if weight.name not in BUFFERS
    ]
    return sum(sizes) + projection * config.get("hidden_dim", 0)


@pytest.mark.parametrize("spec", _parameters())
def test_the_parameters_are_those_of_keras_hubs_network(spec: BackboneSpec) -> None:
    assert spec.network is not None
    depth = dict(spec.network.config).get("num_layers")
    if depth is None:
        # Stages differ: the whole network it is.
        expected = count(spec)
    else:
        one, two = (count(spec, num_layers=number) for number in (1, 2))
        expected = one + (depth - 1) * (two - one)
    assert spec.parameters == expected
