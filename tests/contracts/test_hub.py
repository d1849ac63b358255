"""Features of KerasHub's backbones, layer by layer, against golden forward passes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnxruntime import InferenceSession

from headstart import catalog
from headstart.catalog.cuts import find_cuts
from headstart.common.vocabulary import Pooling
from headstart.extraction.model import assemble, backbone_of, outputs_of
from tests.golden_features import assert_agree, golden_feature, golden_taps, images_of
from tests.hub_arrays import NETWORKS
from tests.hub_specs import bottleneck_of, layout_of, spec_of

pytest.importorskip("keras_hub", reason="hub backbones need the extra: headstart[hub]")

Folder = Callable[[str, str], Path]
Ways = list[tuple[str, Pooling]]


@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_is_a_cut_with_the_golden_features(name: str, hub_folder: Folder) -> None:
    """All tokens of every layer, and all poolings of the last block and what follows it."""
    tiny, spec = NETWORKS[name], spec_of(name)
    images = images_of(*tiny.image_size)
    taps = golden_taps(name, images)
    last = list(taps).index(f"block_{tiny.depth}") if spec.prefix_tokens is not None else -1
    ways: Ways = [(layer, "none") for layer in taps] + [
        (layer, pooling)
        for layer in list(taps)[last:]
        for pooling in spec.poolings
        if pooling != "last4" or layer == "norm"
    ]
    bottleneck = bottleneck_of(spec, hub_folder(layout_of(name), name), ways)
    network = backbone_of(bottleneck)
    cuts = find_cuts(network)
    if spec.prefix_tokens is None:
        assert set(taps) <= {cut.name for cut in cuts}
    else:
        assert [cut.name for cut in cuts] == list(taps)
    assert {cut.parameters_below + cut.parameters_above for cut in cuts} == {network.count_params()}
    outputs = outputs_of(assemble(bottleneck, backbone=network), images)
    for tap, found in zip(bottleneck.taps, outputs, strict=True):
        expected = golden_feature(name, taps, tap.layer, tap.pooling, tiny.image_size)
        assert_agree(np.asarray(found), expected, 1e-5, f"{tap.layer}, {tap.pooling}")


@pytest.mark.parametrize("name", ["deit", "swin", "dinov2_registers", "dinov3"])
def test_kerashub_layout_gives_the_same(name: str, hub_folder: Folder) -> None:
    images = images_of(*NETWORKS[name].image_size)
    bottleneck = bottleneck_of(spec_of(name), hub_folder("keras_hub", name), [("auto", "none")])
    (found,) = outputs_of(assemble(bottleneck), images)
    size = NETWORKS[name].image_size
    expected = golden_feature(name, golden_taps(name, images), "norm", "none", size)
    assert_agree(np.asarray(found), expected, 1e-5, name)


@pytest.mark.parametrize(
    ("name", "size"),
    # See test_golden.py for the ratios.
    [("dinov2_registers", (36, 36)), ("dinov3", (24, 40))],
)
def test_another_image_size(name: str, size: tuple[int, int], hub_folder: Folder) -> None:
    images = images_of(*size)
    folder = hub_folder("transformers", name)
    bottleneck = bottleneck_of(spec_of(name), folder, [("norm", "none")], image_size=size)
    (found,) = outputs_of(assemble(bottleneck), images)
    expected = golden_feature(name, golden_taps(name, images), "norm", "none", size)
    assert_agree(np.asarray(found), expected, 1e-5, name)


@pytest.mark.parametrize("size", [(56, 56), (20, 20)])
def test_positions_of_dinov2_are_those_of_pytorch(
    size: tuple[int, int], hub_folder: Folder
) -> None:
    """KerasHub's cubic interpolation is another; ONNX defines PyTorch's."""
    tiny = NETWORKS["dinov2"]
    images = images_of(*size)
    folder = hub_folder("transformers", "dinov2")
    bottleneck = bottleneck_of(spec_of("dinov2"), folder, [("norm", "none")], image_size=size)
    (found,) = outputs_of(assemble(bottleneck), images)

    arrays = tiny.arrays()
    positions = arrays["embeddings.position_embeddings"]
    grid = [side // tiny.arguments["patch_size"] for side in size]
    resized = _resized_by_onnx(positions[0, 1:].reshape(7, 7, -1), grid)
    arrays["embeddings.position_embeddings"] = np.concatenate(
        [positions[:, :1], resized.reshape(1, grid[0] * grid[1], -1)], axis=1
    )
    taps = golden_taps("dinov2", images, arrays)
    expected = golden_feature("dinov2", taps, "norm", "none", size)
    assert_agree(np.asarray(found), expected, 1e-5, str(size))


def _resized_by_onnx(cells: np.ndarray, grid: list[int]) -> np.ndarray:
    """Resize (height, width, channels) as PyTorch exports its bicubic interpolation."""
    node = helper.make_node(
        "Resize",
        ["cells", "", "", "sizes"],
        ["resized"],
        mode="cubic",
        cubic_coeff_a=-0.75,
        coordinate_transformation_mode="half_pixel",
    )
    channels = cells.shape[-1]
    graph = helper.make_graph(
        [node],
        "resize",
        [helper.make_tensor_value_info("cells", TensorProto.FLOAT, [1, channels, 7, 7])],
        [helper.make_tensor_value_info("resized", TensorProto.FLOAT, (1, channels, *grid))],
        [helper.make_tensor("sizes", TensorProto.INT64, [4], [1, channels, *grid])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    session = InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    inputs = {"cells": cells.transpose(2, 0, 1)[np.newaxis].astype(np.float32)}
    return session.run(None, inputs)[0][0].transpose(1, 2, 0)


def test_timm_layout(hub_folder: Folder) -> None:
    """timm names an architecture and no sizes, so it is the real one, and the catalog's."""
    size = (64, 96)
    images = images_of(*size)
    bottleneck = bottleneck_of(
        catalog.get("ResNet18"),
        hub_folder("timm", "resnet18"),
        [("stack1_block1_out", "none"), ("auto", "avg")],
        image_size=size,
    )
    taps = golden_taps("resnet18", images)
    outputs = outputs_of(assemble(bottleneck), images)
    for tap, found in zip(bottleneck.taps, outputs, strict=True):
        expected = golden_feature("resnet18", taps, tap.layer, tap.pooling, size)
        assert_agree(np.asarray(found), expected, 1e-5, tap.layer)


def test_random_clip_knows_where_a_patch_is() -> None:
    """Without positions a class token sees the same in any order of the patches."""
    tiny = NETWORKS["clip"]
    images = images_of(*tiny.image_size)
    turned = np.roll(images, tiny.arguments["patch_size"], axis=1)
    model = assemble(bottleneck_of(spec_of("clip"), "random", [("block_4", "cls")]))
    one, other = (np.asarray(outputs_of(model, pixels)[0]) for pixels in (images, turned))
    assert np.abs(one - other).max() > 1e-4 * np.abs(one).max()
