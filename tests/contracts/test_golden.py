"""The golden networks agree with keras-hub's own, so that either would betray the other's error."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.golden_transformers import golden
from tests.hub_arrays import ALL, NETWORKS, TRANSFORMERS, Arrays

pytest.importorskip("keras_hub", reason="hub backbones need the extra: headstart[hub]")

FOLDERS = [
    *(("transformers", name) for name in TRANSFORMERS),
    *(("keras_hub", name) for name in ("clip", "siglip", "resnet")),
    ("timm", "resnet18"),
]


def _pixels(height: int, width: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=(2, height, width, 3)).astype(np.float32)


def _agree(name: str, backbone: Any, height: int, width: int) -> None:
    from tests.hub_keras import listen

    tiny, pixels = ALL[name], _pixels(height, width)
    heard, expected = listen(tiny, backbone, pixels), golden(tiny, tiny.arrays(), pixels)
    assert heard.keys() == expected.keys()
    for tap, values in expected.items():
        np.testing.assert_allclose(
            heard[tap], values, rtol=0, atol=1e-5 * np.abs(values).max(), err_msg=tap
        )


@pytest.mark.parametrize(("layout", "name"), FOLDERS)
def test_agrees_with_keras_hub_at_every_layer(
    layout: str, name: str, hub_folder: Callable[[str, str], Path]
) -> None:
    import keras_hub

    backbone = keras_hub.models.Backbone.from_preset(str(hub_folder(layout, name)))
    _agree(name, backbone, *ALL[name].image_size)


# Of the ratios of 7 patches, 2 and 4/7 are those that TensorFlow's table of 1,024 cubic weights
# holds exactly; it takes part where there is no antialiasing.
@pytest.mark.parametrize(
    ("name", "height", "width"),
    [
        ("dinov2", 56, 56),
        ("dinov2", 16, 16),
        ("dinov2_registers", 36, 36),
        ("dinov3", 24, 40),
    ],
)
def test_agrees_at_another_image_size(
    name: str, height: int, width: int, hub_folder: Callable[[str, str], Path]
) -> None:
    import keras_hub

    backbone = keras_hub.models.Backbone.from_preset(
        str(hub_folder("transformers", name)), image_shape=(height, width, 3)
    )
    _agree(name, backbone, height, width)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_array_matters(name: str) -> None:
    """An array that is forgotten or swapped must show in the features."""
    tiny = NETWORKS[name]
    size = tiny.image_size if tiny.prefix_tokens is not None else (16, 16)
    pixels, arrays = _pixels(*size)[:1], tiny.arrays()
    expected = golden(tiny, arrays, pixels)
    last = list(expected)[-1]
    # A key's bias shifts all of a query's logits alike; masks and classifiers take no part.
    idle = ("key.bias", "k_proj.bias", "mask_token")
    for key, array in arrays.items():
        if key.endswith(idle) or key.startswith(("classifier", "fc")):
            continue
        step = np.linspace(0.1, 0.3, array.size, dtype=np.float32).reshape(array.shape)
        other: Arrays = {**arrays, key: array + step}
        changed = np.abs(golden(tiny, other, pixels)[last] - expected[last]).max()
        assert changed > 1e-3 * np.abs(expected[last]).max(), key
