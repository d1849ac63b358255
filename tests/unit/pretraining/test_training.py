import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headstart import catalog
from headstart.common.errors import InputError
from headstart.common.tensorflow_runtime import keras
from headstart.pretraining import networks
from headstart.pretraining.data import SourceImages
from headstart.pretraining.options import PretrainRun
from headstart.pretraining.training import _Batches, pretrain

LENET = catalog.get("LeNet5")


def run(**changes: Any) -> PretrainRun:
    return PretrainRun(**{"backbone": "LeNet5", "seed": 0, "epochs": 6, "batch_size": 8, **changes})


def bars_at(places: list[int]) -> SourceImages:
    """Upright and lying bars: 80 to train on, 20 to validate on."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 60, (100, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(100) % 2
    for image, label, place in zip(pixels, labels, rng.choice(places, 100), strict=True):
        band = image if label else image.swapaxes(0, 1)
        band[place : place + 4] = 230
    digests = tuple(f"{index:064x}" for index in range(100))
    classes = ("lying", "upright")
    return SourceImages(pixels, digests, labels, classes, np.arange(80), np.arange(80, 100), 0)


@pytest.fixture(scope="module")
def bars() -> SourceImages:
    return bars_at(list(range(2, 26)))


def test_classifying_learns_and_keeps_the_best_epoch(bars: SourceImages) -> None:
    trained = pretrain("pretrain.runs.x", run(), LENET, bars)
    assert trained.scores["accuracy"] >= 0.9
    assert trained.scores["chance_accuracy"] == 0.5
    losses = [epoch["validation_loss"] for epoch in trained.history]
    assert trained.best_epoch == np.argmin(losses) + 1
    assert set(trained.history[0]) == {
        "epoch",
        "train_loss",
        "train_accuracy",
        "validation_loss",
        "validation_accuracy",
    }


def test_reconstructing_learns_more_than_the_mean_image() -> None:
    chosen = run(objective="reconstruct", erase=0.1, learning_rate=5e-3)
    trained = pretrain("pretrain.runs.x", chosen, LENET, bars_at([14]))
    assert trained.scores["mean_squared_error"] < 0.3 * trained.scores["mean_image_error"]


def test_without_validation_images_the_training_images_are_scored(bars: SourceImages) -> None:
    import dataclasses

    alone = dataclasses.replace(bars, validation=np.array([], np.int64))
    trained = pretrain("pretrain.runs.x", run(epochs=2), LENET, alone)
    assert set(trained.history[0]) == {"epoch", "train_loss", "train_accuracy"}
    assert trained.scores["accuracy"] > 0.5


def test_training_that_diverges_is_told(bars: SourceImages) -> None:
    message = (
        r"pretrain\.runs\.x\.learning_rate: training diverged in epoch 1 .* smaller one than 1e\+38"
    )
    with pytest.raises(InputError, match=message):
        pretrain("pretrain.runs.x", run(learning_rate=1e38), LENET, bars)


def test_batches_hold_each_row_once_and_change_with_the_epoch(bars: SourceImages) -> None:
    batches = _Batches(bars, bars.train, run(batch_size=32), LENET, training=True)
    assert [len(batches[index][0]) for index in range(len(batches))] == [32, 32, 16]
    first = np.concatenate([batches[index][0] for index in range(3)])
    batches.on_epoch_end()
    second = np.concatenate([batches[index][0] for index in range(3)])
    assert not np.array_equal(first, second)
    for order in (first, second):
        seen = np.sort(order.reshape(80, -1).sum(axis=1))
        np.testing.assert_array_equal(seen, np.sort(bars.pixels[:80].reshape(80, -1).sum(axis=1)))


def test_augmented_views_are_new_in_each_epoch_and_for_training_only(bars: SourceImages) -> None:
    chosen = run(augment={"shift": 0.2}, batch_size=100)
    batches = _Batches(bars, bars.train, chosen, LENET, training=True)
    assert batches.workers == os.cpu_count()
    order = np.argsort(batches._order)
    first, labels = batches[0]
    np.testing.assert_array_equal(labels[order], bars.labels[:80])
    assert (first[order] != bars.pixels[:80]).any(axis=(1, 2, 3)).mean() > 0.9
    batches.on_epoch_end()
    assert not np.array_equal(batches[0][0][np.argsort(batches._order)], first[order])
    held_out = _Batches(bars, bars.train, chosen, LENET)
    np.testing.assert_array_equal(held_out[0][0], bars.pixels[:80])


def test_a_share_of_each_image_is_erased_and_the_target_is_whole(bars: SourceImages) -> None:
    chosen = run(objective="reconstruct", erase=0.25, batch_size=80)
    unet = catalog.get("UNet")
    held_out = _Batches(bars, bars.train, chosen, unet)
    images, targets = held_out[0]
    assert (images == 127).all(axis=-1).mean() == pytest.approx(0.25, abs=0.02)
    np.testing.assert_allclose(targets, bars.pixels[:80] / 255, rtol=1e-6)
    # What is validated on stays the same from epoch to epoch.
    held_out.on_epoch_end()
    np.testing.assert_array_equal(held_out[0][0], images)
    whole, _ = _Batches(bars, bars.train, run(objective="reconstruct", erase=0.0), unet)[0]
    np.testing.assert_array_equal(whole, bars.pixels[:8])


def test_a_gray_network_reconstructs_gray(bars: SourceImages) -> None:
    _, targets = _Batches(bars, bars.train, run(objective="reconstruct"), LENET)[0]
    expected = bars.pixels[:8] @ np.array([0.299, 0.587, 0.114]) / 255
    np.testing.assert_allclose(targets[..., 0], expected, rtol=1e-5)


@pytest.mark.parametrize(("name", "size"), [("GoogLeNet", (40, 72)), ("UNet", (32, 48))])
def test_decoders_give_images_of_the_input_size(name: str, size: tuple[int, int]) -> None:
    keras.utils.set_random_seed(0)
    backbone, model = networks.autoencoder(catalog.get(name), size, 0)
    image = np.zeros((1, *size, 3), np.uint8)
    assert model(image).shape == (1, *size, 3)
    # The backbone's variables are the autoencoder's own, so training the one trains the other.
    shared = {id(variable) for variable in model.trainable_variables}
    assert {id(variable) for variable in backbone.trainable_variables} <= shared


def test_the_unet_decoder_has_the_papers_skips() -> None:
    from headstart.catalog import unet
    from headstart.catalog.building import build_architecture

    encoder = build_architecture(catalog.get("UNet"), (32, 32), seed=0)
    decoder = keras.Model(encoder.input, unet.expand(encoder))
    for level in range(1, 5):
        joined = decoder.get_layer(f"decoder{level}_concat").input
        assert joined[0] is encoder.get_layer(f"encoder{level}_conv2").output


def test_saved_weights_are_those_that_extract_names(bars: SourceImages, tmp_path: Path) -> None:
    from headstart.catalog.building import build
    from headstart.catalog.loading import save
    from headstart.catalog.weights import resolve

    trained = pretrain("pretrain.runs.x", run(epochs=1), LENET, bars)
    path = tmp_path / "x.weights.h5"
    save(trained.backbone, path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.weights.h5"]
    model = build(LENET, (48, 40), resolve(LENET, str(path), 0))
    for one, other in zip(model.get_weights(), trained.backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
