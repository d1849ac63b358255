"""The map before the pooling comes from the model that pools it, the same to the bit."""

import sys
from pathlib import Path

import numpy as np
import pytest

from headstart.common.vocabulary import Pooling
from headstart.extraction import engines
from headstart.extraction.bottleneck import Bottleneck, identify
from headstart.extraction.engines import openvino_models
from headstart.extraction.options import ExtractOptions
from headstart.extraction.store import FeatureStore
from headstart.images.options import AugmentOptions
from tests.hub_presets import transformers_folder
from tests.hub_specs import bottleneck_of, spec_of

CONVERSION = "headstart.extraction.engines.openvino_conversion"


def bottleneck(*cuts: tuple[str, Pooling]) -> Bottleneck:
    options = {
        "backbone": "LeNet5", "weights": "random", "seed": 0, "image_size": 32, "layer": "auto",
        "resize": "stretch", "pooling": "avg", "engine": "openvino", "precision": "float32",
        "augment": AugmentOptions(views=0, seed=0),
    }  # fmt: skip
    return identify(ExtractOptions(**options), "openvino").tapped(cuts)


@pytest.fixture
def stores(tmp_path: Path) -> tuple[FeatureStore, FeatureStore]:
    return FeatureStore(tmp_path / "one"), FeatureStore(tmp_path / "other")


def outputs(wanted: Bottleneck, store: FeatureStore) -> tuple[np.ndarray, ...]:
    image = np.random.default_rng(1).integers(0, 256, (1, *wanted.image_size, 3), dtype=np.uint8)
    return engines.load(wanted, store)(image)


@pytest.mark.parametrize("pooled", [[("s4", "avg")], [("s4", "max"), ("s2", "max")]])
def test_a_map_needs_no_second_conversion_and_is_the_same(
    pooled: list[tuple[str, Pooling]],
    stores: tuple[FeatureStore, FeatureStore],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    maps = bottleneck(*((layer, "none") for layer, _ in pooled))
    expected = outputs(maps, stores[1])
    averages = outputs(bottleneck(*pooled), stores[0])
    monkeypatch.setitem(sys.modules, CONVERSION, None)
    found = outputs(maps, stores[0])
    for one, other, vector, (_, pooling) in zip(found, expected, averages, pooled, strict=True):
        np.testing.assert_array_equal(one, other)
        reduced = one.mean(axis=(1, 2)) if pooling == "avg" else one.max(axis=(1, 2))
        np.testing.assert_allclose(vector, reduced, rtol=1e-4, atol=1e-6)
    folders = {openvino_models.obtain(maps, store).model.parent for store in stores}
    assert len({folder.name for folder in folders}) == 1


@pytest.mark.parametrize("pooling", ["avg", "max", "cls+avg", "last4"])
def test_so_do_the_patches_of_a_transformer(
    pooling: Pooling,
    stores: tuple[FeatureStore, FeatureStore],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("keras_hub", reason="the extra hub is not installed")
    transformers_folder("deit", tmp_path / "weights")
    spec, weights = spec_of("deit"), tmp_path / "weights"
    patches = bottleneck_of(spec, weights, [("norm", "none")], engine="openvino")
    (expected,) = outputs(patches, stores[1])
    (vector,) = outputs(patches.tapped([("norm", pooling)]), stores[0])
    monkeypatch.setitem(sys.modules, CONVERSION, None)
    (found,) = outputs(patches, stores[0])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert found.shape == (1, 4, 4, 24)
    reduced = found.max(axis=(1, 2)) if pooling == "max" else found.mean(axis=(1, 2))
    np.testing.assert_allclose(vector[:, -24:], reduced, rtol=1e-4, atol=1e-5)


def test_where_nothing_is_said_of_the_pooling_the_model_is_converted_anew(
    stores: tuple[FeatureStore, FeatureStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an older release; or the layer gives a vector, however the network came to it."""
    with monkeypatch.context() as patch:
        patch.setattr(f"{CONVERSION}.mark_pooled", lambda *_: None)
        engines.load(bottleneck(("s4", "avg")), stores[0])
    monkeypatch.setattr(f"{CONVERSION}.convert", refuse)
    with pytest.raises(AssertionError, match="converted"):
        engines.load(bottleneck(("s4", "none")), stores[0])


def refuse(*_: object) -> None:
    raise AssertionError("converted")
