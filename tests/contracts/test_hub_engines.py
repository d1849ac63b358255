"""KerasHub's backbones on each engine, through the whole extraction, against golden features."""

from collections.abc import Callable
from pathlib import Path

import pytest

from headstart.common.vocabulary import EngineName, Pooling
from headstart.extraction.extract import extract
from headstart.extraction.requests import request_for
from headstart.extraction.store import FeatureStore
from tests.golden_features import assert_agree, golden_feature, golden_taps, images_of
from tests.hub_arrays import NETWORKS
from tests.hub_specs import bottleneck_of, layout_of, spec_of

pytest.importorskip("keras_hub", reason="hub backbones need the extra: headstart[hub]")

Folder = Callable[[str, str], Path]


@pytest.mark.parametrize(
    ("name", "engine"),
    # ViT and DeiT compute with what DINOv2 does, ResNet with what other networks of Keras do.
    [
        ("swin", "openvino"),
        ("dinov2_registers", "openvino"),
        ("dinov3", "openvino"),
        ("clip", "openvino"),
        ("siglip", "openvino"),
        ("dinov2_swiglu", "tensorflow"),
    ],
)
def test_engines_agree_with_the_golden_features(
    name: str, engine: EngineName, hub_folder: Folder, tmp_path: Path
) -> None:
    size, spec = NETWORKS[name].image_size, spec_of(name)
    images = images_of(*size, count=3)
    taps = golden_taps(name, images)
    layers = list(taps)
    ways: list[tuple[str, Pooling]] = [(layers[len(layers) // 2], "none"), ("auto", "avg")]
    if "last4" in spec.poolings:
        ways.append(("norm", "last4"))
    bottleneck = bottleneck_of(spec, hub_folder(layout_of(name), name), ways, engine=engine)
    requests = [request_for(image, f"image {index}") for index, image in enumerate(images)]
    features = extract(bottleneck, requests, store=FeatureStore(tmp_path), quiet=True)
    for number, tap in enumerate(bottleneck.taps):
        expected = golden_feature(name, taps, tap.layer, tap.pooling, size)
        assert_agree(features.array(number), expected, 1e-4, f"{tap.layer}, {tap.pooling}")
