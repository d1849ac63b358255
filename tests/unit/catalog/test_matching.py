"""Weights of strangers: the architecture of a backbone, under other names."""

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from headstart import catalog
from headstart.catalog import loading
from headstart.catalog.building import build, build_architecture
from headstart.catalog.weights import resolve
from headstart.common.errors import InputError
from headstart.common.tensorflow_runtime import keras
from tests.unit.catalog.test_loading import LENET, SAVED, arrays, assert_same_weights, lenet, load

layers = keras.layers


def renamed(model: Any, names: Callable[[Any], str] = lambda layer: f"their_{layer.name}") -> Any:
    """The same model with other names, as a stranger's code would have built it."""
    clone = keras.models.clone_model(
        model,
        clone_function=lambda layer: type(layer).from_config(
            {**layer.get_config(), "name": names(layer)}
        ),
    )
    clone.set_weights(model.get_weights())
    return clone


@pytest.mark.parametrize("name", SAVED)
def test_a_network_under_other_names_computes_the_same(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = catalog.get("MobileNetV2")
    mine = build_architecture(spec, (32, 32), seed=1)
    rng = np.random.default_rng(0)
    mine.set_weights([rng.uniform(0.5, 1.5, one.shape) * one + 0.01 for one in arrays(mine)])
    SAVED[name](renamed(mine), tmp_path / name)
    again = build(spec, (32, 32), resolve(spec, str(tmp_path / name), 0))
    image = rng.uniform(-1, 1, (2, 32, 32, 3)).astype(np.float32)
    np.testing.assert_array_equal(np.asarray(again(image)), np.asarray(mine(image)))
    # A .weights.h5 holds classes and numbers, no names.
    told = "104 layers by name" if name.endswith(".weights.h5") else "0 layers by name, 104 by"
    assert f"weights from {tmp_path / name}: {told}" in capsys.readouterr().err


def chain(*units: tuple[str, int, int], size: int = 32, channels: int = 1) -> Any:
    """Convolutions of (name, filters, side), one after the other."""
    return keras.Sequential(
        [
            keras.Input((size, size, channels)),
            *(layers.Conv2D(filters, side, name=name) for name, filters, side in units),
        ]
    )


LENET_UNITS = (("their_c1", 6, 5), ("their_c3", 16, 5), ("their_c5", 120, 5))


def values_of(model: Any, names: Sequence[str]) -> list[np.ndarray]:
    return [one for name in names for one in model.get_layer(name).get_weights()]


@pytest.mark.parametrize("wrapped", [False, True], ids=["flat", "wrapped"])
@pytest.mark.parametrize("name", SAVED)
def test_layers_before_and_after_are_passed_over(tmp_path: Path, name: str, wrapped: bool) -> None:
    """A learned preprocessing in front, and a classifier behind."""
    first, last = ("gray", 1, 1), ("more", 8, 1)
    if wrapped:
        inner = chain(*LENET_UNITS)
        saved = keras.Sequential([chain(first), inner, chain(last, size=20, channels=120)])
    else:
        saved = inner = chain(first, *LENET_UNITS, last)
    model = lenet(2)
    SAVED[name](saved, tmp_path / name)
    load(tmp_path / name, model)
    expected = values_of(inner, [unit[0] for unit in LENET_UNITS])
    for one, other in zip(arrays(model), expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["legacy-model.h5", "legacy-weights.h5", "x.keras"])
def test_what_has_its_name_keeps_it_and_the_rest_goes_by_order(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = renamed(lenet(1), lambda layer: "other" if layer.name == "c3" else layer.name)
    SAVED[name](saved, tmp_path / name)
    model = lenet(2)
    load(tmp_path / name, model)
    assert_same_weights(model, lenet(1))
    assert "2 layers by name, 1 by order and shape" in capsys.readouterr().err


class Attributes(keras.Model):
    """A stranger's class, whose layers are attributes; Keras keeps no order between those."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.names = names
        for name, (_, filters, side) in zip(names, LENET_UNITS, strict=True):
            setattr(self, name, layers.Conv2D(filters, side))
        self.top = layers.Dense(3)

    def call(self, x: Any) -> Any:
        for name in self.names:
            x = getattr(self, name)(x)
        return self.top(x)


@pytest.mark.parametrize("names", [("c1", "c3", "c5"), ("conv8", "conv9", "conv10")])
def test_attributes_of_a_class_are_matched(tmp_path: Path, names: Sequence[str]) -> None:
    saved = Attributes(*names)
    saved(np.zeros((1, 32, 32, 1)))
    saved.save_weights(tmp_path / "x.weights.h5")
    model = lenet(2)
    load(tmp_path / "x.weights.h5", model)
    for one, name in zip(("c1", "c3", "c5"), names, strict=True):
        expected = getattr(saved, name).get_weights()[0]
        np.testing.assert_array_equal(model.get_layer(one).get_weights()[0], expected)


def tower(kinds: str, prefix: str = "") -> Any:
    """Convolutions (c) and normalizations (n) of the same width."""
    inputs = x = keras.Input((8, 8, 4))
    for number, kind in enumerate(kinds):
        made = {"c": lambda **k: layers.Conv2D(4, 1, **k), "n": layers.BatchNormalization}[kind]
        x = made(name=f"{prefix}{kind}_at_{number}")(x)
    return keras.Model(inputs, x)


def load_into(model: Any, path: Path) -> None:
    loading.load(model, LENET, resolve(LENET, str(path), 0))


def refused(saved: Any, model: Any, path: Path, message: str) -> None:
    SAVED[path.name](saved, path)
    before = arrays(model)
    with pytest.raises(InputError, match=message):
        load_into(model, path)
    for one, other in zip(arrays(model), before, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["legacy-model.h5", "legacy-weights.h5", "x.keras"])
@pytest.mark.parametrize("kinds", ["ccnn", "cnnc", "cnccn", "cnc"])
def test_the_same_shapes_in_another_order_are_refused(
    tmp_path: Path, name: str, kinds: str
) -> None:
    message = r"layers are missing from the file: .*; nor do they fit by order and shape"
    refused(tower(kinds, "their_"), tower("cncn"), tmp_path / name, message)


@pytest.mark.parametrize("name", ["legacy-model.h5", "legacy-weights.h5", "x.keras"])
def test_names_that_contradict_the_order_are_refused(tmp_path: Path, name: str) -> None:
    names = {"c_at_0": "c_at_2", "n_at_1": "n_at_3"}
    saved = renamed(tower("cncn"), lambda layer: names.get(layer.name, f"their_{layer.name}"))
    refused(saved, tower("cncn"), tmp_path / name, "nor do they fit by order and shape")


@pytest.mark.parametrize("name", SAVED)
def test_what_would_fit_in_several_ways_is_refused(tmp_path: Path, name: str) -> None:
    mine = chain(("a", 4, 1), ("b", 4, 1), channels=4)
    saved = chain(("v", 4, 3), ("x", 4, 1), ("y", 4, 1), ("z", 4, 1), channels=4)
    message = (
        r"expected weights of LeNet5, received a file that has no single layer a "
        r"\(1x1x4x4 \+ 4\), and whose order and shapes leave several places for it; name a file"
    )
    refused(saved, mine, tmp_path / name, message)


@pytest.mark.parametrize("name", ["legacy-model.h5", "legacy-weights.h5", "x.keras"])
def test_a_name_that_two_layers_have_tells_neither(tmp_path: Path, name: str) -> None:
    saved = keras.Sequential([tower("c"), tower("c")])
    refused(saved, tower("c"), tmp_path / name, "has no single layer c_at_0")


def test_a_description_that_cannot_be_read_leaves_class_and_number(tmp_path: Path) -> None:
    renamed(lenet(1)).save(tmp_path / "whole.keras")
    for number, config in enumerate(("{", "[" * 100_000, '{"config": {"layers": [3, {}]}}')):
        path = tmp_path / f"{number}.keras"
        with (
            zipfile.ZipFile(tmp_path / "whole.keras") as whole,
            zipfile.ZipFile(path, "w") as archive,
        ):
            archive.writestr("model.weights.h5", whole.read("model.weights.h5"))
            archive.writestr("config.json", config)
        model = lenet(2)
        load(path, model)
        assert_same_weights(model, lenet(1))


def test_a_file_that_is_damaged_within_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.weights.h5"
    lenet(1).save_weights(path)
    with h5py.File(path, "r+") as file:
        group = file["layers/conv2d_2/vars"]
        values = group["0"][()]
        del group["0"]
        checked = group.create_dataset("0", data=values, chunks=values.shape, fletcher32=True)
        file.flush()
        place = checked.id.get_chunk_info(0).byte_offset
    with path.open("r+b") as raw:
        raw.seek(place)
        raw.write(b"damage")
    model = lenet(2)
    with pytest.raises(InputError, match=r"x\.weights\.h5: expected Keras weights .* cannot be"):
        load(path, model)
    assert_same_weights(model, lenet(2))


def test_texts_are_no_weights(tmp_path: Path) -> None:
    path = tmp_path / "x.weights.h5"
    lenet(1).save_weights(path)
    with h5py.File(path, "r+") as file:
        del file["layers/conv2d_2/vars/1"]
        file["layers/conv2d_2/vars/1"] = ["text"] * 120
    model = lenet(2)
    with pytest.raises(
        InputError, match=r"1 of 3 differ in shape: c5 \(expected 5x5x16x120 \+ 120"
    ):
        load(path, model)
    assert_same_weights(model, lenet(2))
