import dataclasses
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import h5py
import numpy as np
import pytest

from headstart import catalog
from headstart.catalog import loading
from headstart.catalog.building import build, build_architecture
from headstart.catalog.spec import BackboneSpec, DownloadWeights
from headstart.catalog.weights import resolve
from headstart.common.errors import InputError
from headstart.common.tensorflow_runtime import keras

layers = keras.layers
LENET = catalog.get("LeNet5")


def arrays(model: Any) -> list[np.ndarray]:
    return [np.asarray(weight) for weight in model.get_weights()]


def assert_same_weights(received: Any, expected: Any) -> None:
    assert len(received.weights) == len(expected.weights)
    for one, other in zip(arrays(received), arrays(expected), strict=True):
        np.testing.assert_array_equal(one, other)


def load(path: Path, model: Any, spec: BackboneSpec = LENET) -> None:
    loading.load(model, spec, resolve(spec, str(path), 0))


def lenet(seed: int, *, include_top: bool = False) -> Any:
    return build_architecture(LENET, (32, 32), seed=seed, include_top=include_top, classes=10)


def save_legacy_weights(model: Any, path: Path) -> None:
    """Write what Keras 2's save_weights("x.h5") wrote, by Keras' own legacy code."""
    from keras.src.legacy.saving import legacy_h5_format

    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)


SAVED: dict[str, Callable[[Any, Path], object]] = {
    "x.weights.h5": lambda model, path: model.save_weights(path),
    "legacy-model.h5": lambda model, path: model.save(path),
    "legacy-weights.h5": save_legacy_weights,
    "x.keras": lambda model, path: model.save(path),
}


@pytest.mark.parametrize("include_top", [False, True], ids=["no-top", "top"])
@pytest.mark.parametrize("name", SAVED)
def test_every_format_is_read_with_or_without_top(
    tmp_path: Path, name: str, include_top: bool
) -> None:
    path = tmp_path / name
    SAVED[name](lenet(1, include_top=include_top), path)
    model = build(LENET, (32, 32), resolve(LENET, str(path), 0))
    assert_same_weights(model, lenet(1))


@pytest.mark.parametrize("name", SAVED)
def test_a_backbone_inside_a_classifier_is_found(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    head = [layers.GlobalAveragePooling2D(), layers.Dense(4), layers.Dense(3)]
    SAVED[name](keras.Sequential([lenet(1), *head]), path)
    model = lenet(2)
    load(path, model)
    assert_same_weights(model, lenet(1))


def branching(*, shifted: bool) -> Any:
    """A network of automatic names whose branches have the same shapes, as in Inception."""
    if shifted:
        layers.Conv2D(1, 1), layers.BatchNormalization()
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, padding="same")(inputs)
    branches = [
        layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same")(x)) for _ in range(3)
    ]
    x = layers.Concatenate()(branches)
    return keras.Model(inputs, layers.SeparableConv2D(5, 3, name="named")(x))


@pytest.mark.parametrize("name", SAVED)
def test_automatic_names_may_be_numbered_otherwise(tmp_path: Path, name: str) -> None:
    saved = branching(shifted=True)
    for index, variable in enumerate(saved.weights):
        variable.assign(np.full(variable.shape, index + 1.0))
    SAVED[name](saved, tmp_path / name)
    model = branching(shifted=False)
    load(tmp_path / name, model)
    assert_same_weights(model, saved)


@pytest.mark.parametrize("name", SAVED)
def test_nested_layers_are_read(tmp_path: Path, name: str) -> None:
    """ConvNeXt keeps its stem and its downsampling in Sequential models."""
    from keras.src.applications import convnext

    def tiny() -> Any:
        return convnext.ConvNeXt(
            [1, 1, 1, 1], [4, 6, 8, 10], include_top=False, input_shape=(32, 32, 3), name="tiny"
        )

    saved = tiny()
    saved.set_weights([np.full(array.shape, i + 1.0) for i, array in enumerate(arrays(saved))])
    SAVED[name](saved, tmp_path / name)
    model = tiny()
    load(tmp_path / name, model, catalog.get("ConvNeXtTiny"))
    assert_same_weights(model, saved)


def set_normalization(model: Any, mean: list[float], variance: list[float]) -> None:
    layer = model.get_layer("normalization")
    layer.set_weights([np.array(mean), np.array(variance), np.array(0)])
    layer.finalize_state()


def test_published_efficientnet_weights_give_keras_own_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keras' `weights="imagenet"` builds one more Rescaling; the features must not miss it."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "models").mkdir()
    shape = (32, 40, 3)
    keras.backend.clear_session()  # Keras numbers the names of layers through
    published = keras.applications.EfficientNetB0(
        weights=None, include_top=False, input_shape=shape
    )
    # What Keras' file holds: the deviations where the layer expects their squares.
    mean, deviation = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    set_normalization(published, mean, deviation)
    spec = catalog.get("EfficientNetB0")
    assert isinstance(spec.pretrained, DownloadWeights)
    file = tmp_path / "models" / spec.pretrained.file
    save_legacy_weights(published, file)
    with mock.patch("keras.src.utils.file_utils.get_file", return_value=str(file)):
        expected = keras.applications.EfficientNetB0(
            weights="imagenet", include_top=False, input_shape=shape
        )
    image = np.random.default_rng(0).integers(0, 256, (1, *shape)).astype(np.float32)
    features = np.asarray(expected(image))

    unchecked = dataclasses.replace(spec.pretrained, digest=None)
    spec = dataclasses.replace(spec, pretrained=unchecked)
    for weights in ("pretrained", str(file)):
        model = build(spec, shape[:2], resolve(spec, weights, 0))
        scale = np.abs(features).max()
        np.testing.assert_allclose(np.asarray(model(image)), features, atol=1e-5 * scale)
    assert not np.allclose(np.asarray(published(image)), features, rtol=1e-2)


def test_efficientnet_weights_with_a_true_variance_are_kept(tmp_path: Path) -> None:
    spec = catalog.get("EfficientNetB0")
    model = build_architecture(spec, (32, 32), seed=0)
    set_normalization(model, [0.0] * 3, [0.25] * 3)
    model.save_weights(tmp_path / "x.weights.h5")
    again = build(spec, (32, 32), resolve(spec, str(tmp_path / "x.weights.h5"), 0))
    np.testing.assert_array_equal(again.get_layer("normalization").get_weights()[1], 0.25)


def test_random_weights_depend_on_the_seed_alone() -> None:
    built = [build(LENET, (32, 32), resolve(LENET, "random", seed)) for seed in (1, 1, 2)]
    assert_same_weights(built[1], built[0])
    assert not np.array_equal(arrays(built[2])[0], arrays(built[0])[0])


def test_random_weights_leave_other_randomness_alone() -> None:
    import random

    random.seed(5)
    expected = random.random()
    random.seed(5)
    lenet(1)
    assert random.random() == expected


@pytest.mark.parametrize("name", SAVED)
def test_missing_layers_are_named(tmp_path: Path, name: str) -> None:
    whole = lenet(1)
    part = keras.Model(whole.input, whole.get_layer("c3").output)
    SAVED[name](part, tmp_path / name)
    message = (
        rf"{name}: expected weights of LeNet5; 1 of 3 layers are missing from the file: c5; nor"
    )
    with pytest.raises(InputError, match=message):
        load(tmp_path / name, lenet(2))


@pytest.mark.parametrize("name", SAVED)
def test_differing_layers_are_named_with_both_shapes(tmp_path: Path, name: str) -> None:
    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(6, 5, name="c1")(inputs)
    x = layers.Conv2D(16, 5, name="c3")(x)
    SAVED[name](keras.Model(inputs, layers.Conv2D(99, 3, name="c5")(x)), tmp_path / name)
    model = lenet(2)
    message = (
        r"2 of 3 differ in shape: c1 \(expected 5x5x1x6 \+ 6, received 5x5x3x6 \+ 6\), "
        r"c5 \(expected 5x5x16x120 \+ 120, received 3x3x16x99 \+ 99\)"
    )
    with pytest.raises(InputError, match=message):
        load(tmp_path / name, model)
    assert_same_weights(model, lenet(2))


def test_many_missing_layers_are_counted(tmp_path: Path) -> None:
    lenet(1).save(tmp_path / "x.h5")
    spec = catalog.get("MobileNetV3Small")
    with pytest.raises(
        InputError, match=r"layers are missing from the file: conv, conv_bn, .* and 81 more"
    ):
        load(tmp_path / "x.h5", build_architecture(spec, (32, 32), seed=0), spec)


class Doubled(layers.Layer):
    """A layer that only this module knows."""

    def call(self, x: Any) -> Any:
        return x * 2


def never(x: Any) -> Any:
    raise AssertionError("code of the file was run")


@pytest.mark.parametrize(
    "layer", [lambda: layers.Lambda(never, lambda shape: shape), Doubled], ids=["lambda", "custom"]
)
def test_code_in_the_file_is_not_run(tmp_path: Path, layer: Callable[[], Any]) -> None:
    keras.Sequential([lenet(1), layer()]).save(tmp_path / "x.keras")
    model = lenet(2)
    load(tmp_path / "x.keras", model)
    assert_same_weights(model, lenet(1))


def test_what_is_no_weights_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "text.h5").write_text("no weights")
    lenet(1).save_weights(tmp_path / "cut.weights.h5")
    content = (tmp_path / "cut.weights.h5").read_bytes()
    (tmp_path / "cut.weights.h5").write_bytes(content[: len(content) // 2])
    for name in ("text.h5", "cut.weights.h5"):
        with pytest.raises(InputError, match=rf"{name}: expected Keras weights .* cannot be read"):
            load(tmp_path / name, lenet(2))
    with h5py.File(tmp_path / "table.h5", "w") as file:
        file["features"] = np.zeros(3)
    with pytest.raises(InputError, match=r"table\.h5: .* without any \(it holds features\)"):
        load(tmp_path / "table.h5", lenet(2))
    with zipfile.ZipFile(tmp_path / "x.keras", "w") as archive:
        archive.writestr("readme.txt", "")
    with pytest.raises(InputError, match=r"received a zip with readme\.txt"):
        load(tmp_path / "x.keras", lenet(2))
    with zipfile.ZipFile(tmp_path / "y.keras", "w") as archive:
        archive.writestr("model.weights.h5", "")
    with pytest.raises(InputError, match=r"y\.keras: expected Keras weights .* cannot be read"):
        load(tmp_path / "y.keras", lenet(2))


def test_links_out_of_the_file_are_not_followed(tmp_path: Path) -> None:
    lenet(1).save_weights(tmp_path / "other.weights.h5")
    with h5py.File(tmp_path / "link.weights.h5", "w") as file:
        file.create_group("layers/conv2d/vars")
        file["layers/conv2d/vars/0"] = h5py.ExternalLink("other.weights.h5", "layers/conv2d/vars/0")
    with pytest.raises(InputError, match="received an HDF5 file without any"):
        load(tmp_path / "link.weights.h5", lenet(2))
    save_legacy_weights(lenet(1), tmp_path / "legacy.h5")
    with h5py.File(tmp_path / "legacy.h5", "r+") as file:
        del file["c1"]
        file["c1"] = h5py.ExternalLink("other.weights.h5", "layers/conv2d")
    with pytest.raises(InputError, match="1 of 3 layers are missing from the file: c1"):
        load(tmp_path / "legacy.h5", lenet(2))


@pytest.mark.parametrize("number", [0, 1, 2])
def test_efficientnet_lite_recognizes_a_cat_and_a_coffee(number: int) -> None:
    from PIL import Image
    from skimage import data

    spec = catalog.get(f"EfficientNetLite{number}")
    weights = resolve(spec, "pretrained", 0)
    model = build(spec, spec.default_size, weights, include_top=True)
    assert model.count_params() == spec.parameters
    height, width = spec.default_size
    for photo, expected in ((data.chelsea(), 285), (data.coffee(), 967)):
        resized = Image.fromarray(photo).resize((width, height), Image.Resampling.BICUBIC)
        probabilities = np.asarray(model(spec.preprocessing(np.asarray(resized))[None]))[0]
        assert probabilities.argmax() == expected
        assert probabilities[expected] > 0.65
