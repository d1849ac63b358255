"""Every backbone of the catalog against Keras' own models: shapes, features, sizes, weights.

The golden numbers come from Keras alone (golden/make_backbones.py); those of the networks that
Keras lacks guard against change, and tests of their own compare them with the published counts.
"""

import gc
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headstart import catalog
from headstart.catalog import alexnet, googlenet, lenet, unet
from headstart.catalog.building import build_architecture
from headstart.catalog.cuts import find_cuts
from headstart.catalog.spec import BackboneSpec, DownloadWeights
from headstart.common.errors import InputError
from headstart.extraction.bottleneck import Bottleneck, identify
from headstart.extraction.model import assemble, outputs_of
from headstart.extraction.options import ExtractOptions
from headstart.images import decoding
from headstart.images.options import AugmentOptions

GOLDEN = json.loads((Path(__file__).parent / "golden" / "backbones.json").read_text())
KERAS = GOLDEN["backbones"]
SEED = GOLDEN["seed"]


def _parameters() -> Iterator[Any]:
    """One backbone of each family always, the others marked as slow.

    Those of KerasHub have tests of their own: many have hundreds of millions of parameters, and
    every size is the same layers again.
    """
    families = set()
    own = [spec for spec in catalog.specs() if spec.network is None]
    for spec in sorted(own, key=lambda spec: spec.parameters):
        slow = () if spec.family not in families else (pytest.mark.slow,)
        families.add(spec.family)
        yield pytest.param(spec, id=spec.name, marks=slow)


@pytest.fixture(autouse=True)
def _free_memory() -> Iterator[None]:
    yield
    # Models are cycles; the largest take more than a gigabyte.
    gc.collect()


def bottleneck(spec: BackboneSpec, image_size: list[int], **changes: Any) -> Bottleneck:
    options = {
        "backbone": spec.name,
        "weights": "random",
        "seed": SEED,
        "image_size": image_size,
        "resize": "stretch",
        "layer": "auto",
        "pooling": "avg",
        "engine": "tensorflow",
        "precision": "float32",
        "augment": AugmentOptions(views=0, seed=0),
    }
    return identify(ExtractOptions(**{**options, **changes}), "tensorflow")


def image_of(size: list[int]) -> np.ndarray:
    return np.random.default_rng(SEED).integers(0, 256, (*size, 3), dtype=np.uint8)


def features_of(
    spec: BackboneSpec, size: list[int], dtype: str = "float32"
) -> dict[str, np.ndarray]:
    """Return the features of one image, pooled in each way, through the whole extractor."""
    from headstart.common.tensorflow_runtime import dtype_policy

    ways = bottleneck(spec, size).tapped([("auto", "avg"), ("auto", "max"), ("auto", "none")])
    with dtype_policy(dtype):
        outputs = outputs_of(assemble(ways), image_of(size)[None])
    return dict(
        zip(("avg", "max", "none"), (np.asarray(output)[0] for output in outputs), strict=True)
    )


def _keras_maps(spec: BackboneSpec, size: list[int], dtype: str) -> np.ndarray:
    """Return what Keras' own network, with the same random weights, makes of the image."""
    from headstart.common.tensorflow_runtime import dtype_policy, keras

    with dtype_policy(dtype):
        random.seed(SEED)
        model = getattr(keras.applications, spec.name)(
            weights=None, include_top=False, input_shape=(*size, 3)
        )
        # The EfficientNets scale their input themselves.
        return np.asarray(model(image_of(size)[None].astype(dtype), training=False))[0]


@pytest.mark.parametrize("spec", [entry for entry in _parameters() if entry.id in KERAS])
def test_features_are_those_of_keras(spec: BackboneSpec) -> None:
    golden = KERAS[spec.name]
    features = features_of(spec, golden["image_size"], golden["dtype"])
    assert list(features["none"].shape) == golden["shape"]
    assert features["avg"].shape == features["max"].shape == (spec.feature_dim,)
    if golden["dtype"] == "float64":
        # So far apart are CPUs on this one that only Keras itself, here and now, can be compared.
        maps = _keras_maps(spec, golden["image_size"], golden["dtype"])
        np.testing.assert_allclose(features["avg"], maps.mean((0, 1)), rtol=1e-5)
        np.testing.assert_allclose(features["max"], maps.max((0, 1)), rtol=1e-5)
        return
    for pooling in ("avg", "max"):
        expected, received = golden[pooling], features[pooling].astype(np.float64)
        norm = expected["norm"]
        assert norm > 0
        assert np.linalg.norm(received) == pytest.approx(norm, rel=1e-5)
        assert received[:4] == pytest.approx(expected["first"], rel=1e-5, abs=1e-5 * norm)
        projection = received @ np.cos(np.arange(spec.feature_dim))
        assert projection == pytest.approx(expected["projection"], rel=1e-5, abs=1e-5 * norm)


@pytest.mark.parametrize("name", KERAS)
def test_the_table_says_what_keras_says(name: str) -> None:
    spec, golden = catalog.get(name), KERAS[name]
    assert spec.feature_layer == golden["layer"]
    assert spec.feature_dim == golden["shape"][-1]
    assert spec.parameters == golden["parameters"]
    assert list(spec.default_size) == golden["default_size"]
    assert isinstance(spec.pretrained, DownloadWeights)
    weights = {
        "file": spec.pretrained.file,
        "url": spec.pretrained.url,
        "digest": spec.pretrained.digest,
    }
    assert weights == golden["weights"]
    # MobileNetV3 alone checks no more than 32 in Keras; the others refuse what is smaller.
    assert spec.min_size == golden["minimum"]


def test_all_of_keras_applications_is_in_the_table() -> None:
    from headstart.common.tensorflow_runtime import keras

    builders = {name for name in dir(keras.applications) if name[0].isupper()}
    assert builders == set(KERAS) == {spec.name for spec in catalog.specs()} & builders


# Average-pooled features: the first three and the norm.
OWN = {
    "AlexNet": ([0.0, 0.4882636, 0.9707399], 12.72057),
    "EfficientNetLite0": ([8.404641e-14, 5.687411e-13, 9.502191e-13], 3.1932973e-11),
    "EfficientNetLite1": ([8.714936e-14, 3.632229e-15, 1.210336e-12], 3.4097737e-11),
    "EfficientNetLite2": ([6.449553e-14, 2.576502e-13, 2.226107e-13], 3.1708659e-11),
    "GoogLeNet": ([0.7886743, 0.0, 0.0], 18.75479),
    "LeNet5": ([-0.005603698, 0.00047538, -0.003224235], 0.035451273),
    "UNet": ([0.1114001, 0.2045016, 0.3429766], 21.039669),
}


@pytest.mark.parametrize("spec", [entry for entry in _parameters() if entry.id not in KERAS])
def test_networks_that_keras_lacks_keep_their_features(spec: BackboneSpec) -> None:
    size = [spec.min_size + 16, spec.min_size + 48]
    features = features_of(spec, size)
    assert features["none"].shape[-1] == spec.feature_dim
    assert features["avg"].shape == features["max"].shape == (spec.feature_dim,)
    first, norm = OWN[spec.name]
    np.testing.assert_allclose(features["none"].mean((0, 1)), features["avg"], atol=1e-6 * norm)
    np.testing.assert_array_equal(features["none"].max((0, 1)), features["max"])
    assert np.linalg.norm(features["avg"]) == pytest.approx(norm, rel=1e-5)
    assert features["avg"][:3] == pytest.approx(first, rel=1e-5, abs=1e-5 * norm)


@pytest.mark.parametrize(
    ("name", "build", "channels", "classes", "published"),
    [
        # LeCun et al. 1998 as taught; Caffe's bvlc_alexnet and bvlc_googlenet, which follow the
        # papers; Ronneberger et al.'s one channel in, two classes out.
        ("LeNet5", lenet.build, 1, 10, 61_706),
        ("AlexNet", alexnet.build, 3, 1000, 60_965_224),
        ("GoogLeNet", googlenet.build, 3, 1000, 6_998_552),
        ("UNet", unet.build, 1, 2, 31_030_658),
    ],
)
def test_parameter_counts_are_the_published_ones(
    name: str, build: Callable[..., Any], channels: int, classes: int, published: int
) -> None:
    spec = catalog.get(name)
    model = build((*spec.default_size, channels), True, classes)
    assert model.count_params() == published
    if channels == spec.channels:
        assert spec.parameters == published


@pytest.mark.parametrize("name", ["LeNet5", "GoogLeNet", "UNet", "MobileNetV3Small"])
def test_the_default_size_and_the_smallest_work(name: str) -> None:
    spec = catalog.get(name)
    for size in (list(spec.default_size), [spec.min_size, spec.min_size]):
        pooled, spatial = outputs_of(
            assemble(bottleneck(spec, size).tapped([("auto", "avg"), ("auto", "none")])),
            image_of(size)[None],
        )
        assert pooled.shape == (1, spec.feature_dim)
        assert spatial.shape[-1] == spec.feature_dim
        assert np.isfinite(np.asarray(pooled)).all()


@pytest.mark.parametrize("spec", [entry for entry in _parameters() if not entry.marks])
def test_a_smaller_image_than_permitted_is_refused(spec: BackboneSpec) -> None:
    with pytest.raises(InputError, match=rf"{spec.name} takes images .* at least {spec.min_size}"):
        bottleneck(spec, [spec.min_size - 1, spec.min_size])


@pytest.mark.parametrize("name", ["LeNet5", "EfficientNetLite0"])
@pytest.mark.parametrize("mode", ["L", "RGBA", "P"])
def test_gray_and_transparent_images_become_what_the_backbone_needs(name: str, mode: str) -> None:
    import io

    from PIL import Image

    spec = catalog.get(name)
    file = io.BytesIO()
    Image.fromarray(image_of([40, 48])).convert(mode).save(file, "png")
    pixels = decoding.decode(file.getvalue())
    model = assemble(bottleneck(spec, [40, 48]))
    assert outputs_of(model, pixels[None])[0].shape == (1, spec.feature_dim)


def test_every_cut_can_be_extracted_at() -> None:
    spec = catalog.get("GoogLeNet")
    cuts = find_cuts(build_architecture(spec, (64, 64), seed=SEED))
    ways = bottleneck(spec, [64, 64]).tapped([(cut.name, "none") for cut in cuts])
    outputs = outputs_of(assemble(ways), image_of([64, 64])[None])
    assert [tuple(output.shape[1:]) for output in outputs] == [cut.shape for cut in cuts]
