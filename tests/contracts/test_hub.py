"""Features of KerasHub's backbones, through the whole extractor, against golden forward passes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from headstart.common.vocabulary import Pooling
from headstart.extraction.model import assemble, outputs_of
from tests.golden_transformers import Taps, final_norm, golden
from tests.hub_arrays import NETWORKS, TRANSFORMERS
from tests.hub_presets import MEAN, STD
from tests.hub_specs import bottleneck_of, spec_of

pytest.importorskip("keras_hub", reason="hub backbones need the extra: headstart[hub]")

Folder = Callable[[str, str], Path]
Features = list[tuple[str, str, NDArray[np.float32]]]

LAYOUTS = [
    *(("transformers", name) for name in TRANSFORMERS),
    *(("keras_hub", name) for name in NETWORKS),
]


def images_of(height: int, width: int) -> list[NDArray[np.uint8]]:
    """Two images of that size, so that nothing is resized."""
    rng = np.random.default_rng(3)
    return list(rng.integers(0, 256, (2, height, width, 3), dtype=np.uint8))


def expected_taps(name: str, images: list[NDArray[np.uint8]]) -> Taps:
    """The golden network on the images, normalized as its presets say."""
    tiny = NETWORKS[name]
    pixels = (np.stack(images) / 255 - np.array(MEAN)) / np.array(STD)
    return golden(tiny, tiny.arrays(), pixels.astype(np.float32))


def pooled(name: str, taps: Taps, layer: str, pooling: str) -> NDArray[np.float64]:
    """The paper's readout of a golden layer."""
    tiny, x = NETWORKS[name], taps[layer]
    if x.ndim == 2:
        return x
    if tiny.prefix_tokens is None:
        axes = (1, 2)
        return {"avg": x.mean(axes), "max": x.max(axes), "none": x}[pooling]
    patches = x[:, tiny.prefix_tokens :]
    mean = patches.mean(axis=1)
    if pooling == "last4":
        blocks = [taps[f"block_{tiny.depth - back}"][:, 0] for back in (3, 2, 1, 0)]
        arrays = tiny.arrays()
        return np.concatenate([*(final_norm(tiny, arrays, one) for one in blocks), mean], axis=-1)
    if pooling == "none":
        return patches.reshape(len(x), *grid_of(name, layer, taps), -1)
    ways = {
        "avg": mean,
        "max": patches.max(axis=1),
        "cls": x[:, 0],
        "cls+avg": np.concatenate([x[:, 0], mean], axis=-1),
    }
    return ways[pooling]


def grid_of(name: str, layer: str, taps: Taps) -> tuple[int, int]:
    """Height and width in patches, which Swin's merges halve."""
    tiny = NETWORKS[name]
    before = list(taps)[: list(taps).index(layer) + 1]
    side = tiny.arguments["patch_size"] * 2 ** sum("merge" in one for one in before)
    return tiny.image_size[0] // side, tiny.image_size[1] // side


def agree(found: Any, expected: Any, tolerance: float, what: str) -> None:
    """Compare relative to the largest number."""
    assert found.shape == expected.shape, what
    difference = np.abs(found - expected).max() / np.abs(expected).max()
    assert difference <= tolerance, f"{what}: {difference:.1e}"


def ways_of(name: str, taps: Taps) -> list[tuple[str, Pooling]]:
    """Every layer in every pooling that users may choose there."""
    spec = spec_of(name)
    return [
        (layer, pooling)
        for layer, values in taps.items()
        for pooling in (spec.poolings if values.ndim > 2 else ("avg",))
        if pooling != "last4" or layer == "norm"
    ]


@pytest.mark.parametrize(("layout", "name"), LAYOUTS)
def test_features_at_every_layer_in_every_pooling(
    layout: str, name: str, hub_folder: Folder
) -> None:
    images = images_of(*NETWORKS[name].image_size)
    taps = expected_taps(name, images)
    ways = ways_of(name, taps)
    bottleneck = bottleneck_of(spec_of(name), hub_folder(layout, name), ways)
    outputs = outputs_of(assemble(bottleneck), np.stack(images))
    for (layer, pooling), found in zip(ways, outputs, strict=True):
        expected = pooled(name, taps, layer, pooling)
        agree(np.asarray(found), expected, 1e-5, f"{layer}, {pooling}")
