"""Heads trained in epochs: the same numbers as Keras, and what early stopping keeps."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headstart import heads
from headstart.heads.dense import DenseHead
from headstart.heads.layers import Network
from headstart.heads.optimizers import optimizer_for
from headstart.heads.options import DenseOptions
from tests.feature_files import blobs, write_project

N_COLUMNS, N_CLASSES, N_STEPS, BATCH = 12, 3, 12, 16

CASES: dict[str, dict[str, Any]] = {
    "adam": {},
    "sgd": {"optimizer": "sgd"},
    "rmsprop": {"optimizer": "rmsprop"},
    "adamw": {"optimizer": "adamw", "weight_decay": 0.05},
    "sgd with decay": {"optimizer": "sgd", "weight_decay": 0.05},
    "cosine": {"schedule": "cosine"},
    "l2": {"l2": 0.02},
    "label smoothing": {"label_smoothing": 0.2},
    "batch normalization": {"batch_normalization": True, "units": [8, 5]},
    "two layers": {"units": [8, 5]},
    "no hidden layer": {"units": []},
    "gelu": {"activation": "gelu"},
    "selu": {"activation": "selu"},
    "tanh": {"activation": "tanh"},
    "swish": {"activation": "swish", "batch_normalization": True, "optimizer": "adamw",
              "weight_decay": 0.01},
}  # fmt: skip


def _in_keras(options: DenseOptions, start: list[Any], batches: list[Any]) -> tuple[Any, Any]:
    """Return the weights after the batches and the logits of the first one, as Keras has them."""
    from headstart.common.tensorflow_runtime import keras
    from headstart.finetuning.head_layers import empty_layers

    model = empty_layers(DenseHead(options, 0), (N_COLUMNS,), N_CLASSES)
    model.set_weights(start)
    rate: Any = options.learning_rate
    if options.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, N_STEPS)
    decay = {"weight_decay": options.weight_decay or None}
    optimizer = {
        "adam": lambda: keras.optimizers.Adam(rate, **decay),
        "adamw": lambda: keras.optimizers.AdamW(rate, **decay),
        "sgd": lambda: keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, **decay),
        "rmsprop": lambda: keras.optimizers.RMSprop(rate, **decay),
    }[options.optimizer]()
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    loss = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=options.label_smoothing
    )
    model.compile(optimizer, loss, run_eagerly=True)
    for x, labels, weights in batches:
        model.train_on_batch(x, np.eye(N_CLASSES, dtype=np.float32)[labels], sample_weight=weights)
    return model.get_weights(), model(batches[0][0], training=False).numpy()


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_training_gives_the_weights_that_keras_gives(name: str) -> None:
    case = {"units": [8], "dropout": 0.0, "learning_rate": 0.01} | CASES[name]
    options = DenseOptions(kind="dense", **case)
    rng = np.random.default_rng(0)
    batches = [
        (
            rng.standard_normal((size, N_COLUMNS), np.float32),
            rng.integers(0, N_CLASSES, size),
            rng.uniform(0.5, 2, size).astype(np.float32),
        )
        # The last one is shorter.
        for size in [BATCH] * (N_STEPS - 1) + [BATCH // 2]
    ]
    network = Network(DenseHead(options, 0).layers(N_COLUMNS, N_CLASSES, rng))
    start = [values.copy() for values in network.arrays.values()]
    optimizer = optimizer_for(options, N_STEPS)
    no_prior = np.zeros(N_CLASSES, np.float32)
    exact = np.eye(N_CLASSES, dtype=np.float32)
    targets = exact * (1 - options.label_smoothing) + options.label_smoothing / N_CLASSES
    for x, labels, weights in batches:
        network.learn(x, targets[labels].astype(np.float32), weights, rng, no_prior)
        optimizer.step(network.trained())
    weights, logits = _in_keras(options, start, batches)
    for (where, own), theirs in zip(network.arrays.items(), weights, strict=True):
        np.testing.assert_allclose(own, theirs, rtol=2e-4, atol=2e-5, err_msg=where)
        assert own.dtype == np.float32
    np.testing.assert_allclose(network.logits(batches[0][0]), logits, rtol=2e-4, atol=2e-4)


def test_dropout_keeps_the_mean_and_only_acts_in_training() -> None:
    options = DenseOptions(kind="dense", units=[400], dropout=0.25)
    rng = np.random.default_rng(0)
    network = Network(DenseHead(options, 0).layers(N_COLUMNS, N_CLASSES, rng))
    x = rng.standard_normal((4, N_COLUMNS), np.float32)
    weights, targets = np.ones(4, np.float32), np.eye(N_CLASSES, dtype=np.float32)[[0, 1, 2, 0]]
    no_prior = np.zeros(N_CLASSES, np.float32)
    drawn = np.array([network.learn(x, targets, weights, rng, no_prior) for _ in range(400)])
    assert (drawn.std(axis=0) > 0).all()
    np.testing.assert_allclose(drawn.mean(axis=0), network.logits(x), atol=0.15)
    np.testing.assert_array_equal(network.logits(x), network.logits(x))


def test_early_stopping_keeps_the_best_epoch(tmp_path: Path) -> None:
    features, labels = blobs(40, 3, 8, gap=0.7)
    file = write_project(tmp_path, features, labels)
    data = heads.data.TrainingData.from_file(
        file, min_validation=1, folds_below=0, streaming_above=10**9, seed=0
    )
    options = DenseOptions(kind="dense", units=[64], learning_rate=0.05, epochs=60, patience=4)
    head = heads.create(options, seed=0)
    report = head.fit(data)
    losses = [entry["validation_loss"] for entry in report.history]
    best = int(np.argmin(losses))
    assert len(losses) == best + 1 + options.patience < options.epochs
    assert head.card.setting == {"epochs": best + 1}
    kept = -heads.layers.log_softmax(report.logits.astype(np.float32))
    own = kept[np.arange(len(report.held_out)), data.label[report.held_out]].mean()
    assert own == pytest.approx(losses[best], rel=1e-4)


def test_stacks_read_ahead_give_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features, labels = blobs(40, 3, 8)
    file = write_project(tmp_path, features, labels)
    data = heads.data.TrainingData.from_file(
        file, min_validation=1, folds_below=0, streaming_above=10**9, seed=0
    )
    found = []
    for rows in (10**6, 7):
        monkeypatch.setattr("headstart.heads.network.block_rows", lambda shape, rows=rows: rows)
        head = DenseHead(DenseOptions(kind="dense", units=[8], epochs=3, batch_size=5), 0)
        head.fit(data)
        found.append(head.arrays)
    for name, values in found[0].items():
        np.testing.assert_array_equal(values, found[1][name], err_msg=name)
