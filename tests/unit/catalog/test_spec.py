import dataclasses
import importlib
import subprocess
import sys

import numpy as np
import pytest

from headstart import catalog
from headstart.catalog.spec import (
    CAFFE,
    CLIP,
    GRAY,
    LITE,
    NONE,
    SATELLITE,
    TF,
    TORCH,
    Preprocessing,
)
from headstart.common.errors import InputError

RULES = [TF, TORCH, CAFFE, NONE, LITE, GRAY, CLIP, SATELLITE]
IMAGE = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)


@pytest.mark.parametrize(("rule", "mode"), [(TF, "tf"), (TORCH, "torch"), (CAFFE, "caffe")])
def test_the_rules_are_those_of_keras(rule: Preprocessing, mode: str) -> None:
    imagenet_utils = importlib.import_module("keras.applications.imagenet_utils")
    expected = imagenet_utils.preprocess_input(IMAGE.astype(np.float32), mode=mode)
    np.testing.assert_allclose(rule(IMAGE), expected, rtol=1e-6, atol=1e-5)


def test_none_keeps_and_lite_centers_the_pixels() -> None:
    np.testing.assert_array_equal(NONE(IMAGE), IMAGE.astype(np.float32))
    np.testing.assert_allclose(LITE(IMAGE), (IMAGE - 127.0) / 128.0, rtol=1e-6)


def test_gray_is_the_luma_that_pillow_computes() -> None:
    from PIL import Image

    expected = np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in IMAGE])
    received = (GRAY(IMAGE)[..., 0] + 1) * 127.5
    assert GRAY(IMAGE).shape == (2, 5, 7, 1)
    # Pillow rounds to whole values.
    np.testing.assert_allclose(received, expected, atol=0.51)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_the_affine_form_and_the_graph_form_equal_the_rule(rule: Preprocessing) -> None:
    from headstart.catalog.building import preprocess

    matrix, offset = rule.affine()
    affine = IMAGE.astype(np.float32) @ matrix + offset
    np.testing.assert_allclose(affine, rule(IMAGE), rtol=1e-5, atol=2e-5)
    graph = np.asarray(preprocess(IMAGE.astype(np.float32), rule))
    np.testing.assert_allclose(graph, rule(IMAGE), rtol=1e-5, atol=2e-5)


def test_a_rule_leaves_the_array_it_is_given_alone() -> None:
    pixels = IMAGE.astype(np.float32)
    TORCH(pixels)
    np.testing.assert_array_equal(pixels, IMAGE)


def test_the_digest_names_the_rule_and_not_its_label() -> None:
    assert dataclasses.replace(TF, name="other").digest == TF.digest
    assert len({rule.digest for rule in RULES}) == len(RULES)


def test_the_catalog_has_every_name_once_and_needs_no_tensorflow() -> None:
    names = [spec.name for spec in catalog.specs()]
    assert len(names) == len(set(names)) == 120
    code = (
        "import sys; from headstart import catalog; catalog.get('VGG16'); "
        "from headstart.catalog import weights; "
        "weights.resolve(catalog.get('VGG16'), 'random', 0); "
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("EficientNetB0", "EfficientNetB0"),
        ("vgg-16", "VGG16"),
        ("resnet_50", "ResNet50"),
        ("U-Net", "UNet"),
        ("googlenet", "GoogLeNet"),
    ],
)
def test_a_misspelt_name_is_answered_with_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(InputError, match=rf"no '{name}' in the catalog; did you mean.*{nearest}"):
        catalog.get(name)


def test_a_name_like_no_other_is_answered_without_a_guess() -> None:
    with pytest.raises(InputError, match=r"no 'xyz' in the catalog; `headstart backbones` lists"):
        catalog.get("xyz")


def test_image_sizes_are_the_default_a_side_or_height_and_width() -> None:
    spec = catalog.get("Xception")
    assert spec.image_size("auto") == (299, 299)
    assert spec.image_size(71) == (71, 71)
    assert spec.image_size([96, 128]) == (96, 128)


@pytest.mark.parametrize(
    ("name", "wanted", "message"),
    [
        (
            "InceptionV3",
            74,
            r"InceptionV3 takes .* at least 75 pixels, received 74 x 74; use .* 75",
        ),
        ("VGG16", [224, 31], r"at least 32 pixels, received 224 x 31"),
        ("UNet", 100, r"at least 32 and a multiple of 16 pixels, .* use for example 112"),
    ],
)
def test_other_image_sizes_are_refused(name: str, wanted: int | list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        catalog.get(name).image_size(wanted)
