"""Heads trained in epochs by Keras, reading the features from the file batch by batch."""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from headstart.common.files import atomic_write
from headstart.common.progress import progress
from headstart.common.tensorflow_runtime import keras, seed_everything, tf
from headstart.features.matrix import block_rows
from headstart.heads.base import FitReport, Head, HeadCard
from headstart.heads.data import Rows, TrainingData
from headstart.heads.options import DenseOptions, GapOptions, NetworkOptions
from headstart.scoring.calibration import fit_temperature

# Batches that TensorFlow runs between two looks at Python.
_STEPS_PER_EXECUTION = 64
# Batches cut out of their stack ahead; of spatial maps one can be ten megabytes.
_PREFETCHED = 8

History = list[dict[str, float]]


class NetworkHead(Head):
    """A small Keras network on the features, whose outputs are logits.

    Early stopping on the cross-entropy of held-out images keeps the weights of the best epoch.
    In a cross-validation that gives each fold's best epoch, and their median is trained. Where
    nothing can be held out, all epochs are.

    Attributes:
        network: Features (batch, *feature_shape) to logits (batch, n_classes).
    """

    weights_file = "head.weights.h5"
    options: DenseOptions | GapOptions
    network: Any

    @abstractmethod
    def build(self, feature_shape: tuple[int, ...], n_classes: int) -> Any:
        """Return the Keras model from features to logits."""

    def fit(self, data: TrainingData, *, refit: bool = False) -> FitReport:
        """See `Head.fit`."""
        logits, histories, best_epochs = [], [], []
        folds = data.folds(cheap=False)
        selected_by = data.selected_by(cheap=False)
        for fold in folds:
            history = self._train(data, fold.train, fold.held_out, self.options.epochs)
            histories.append(history)
            best_epochs.append(1 + int(np.argmin([e["validation_loss"] for e in history])))
            logits.append(self.predict_logits(data.features, fold.held_out))
        epochs = int(np.median(best_epochs)) if folds else self.options.epochs
        if refit or selected_by != "validation":
            rows = data.everything if refit else data.train
            last = self._train(data, rows, None, epochs)
        history = _mean_history(histories) if folds else last
        held_out = np.concatenate([data.train[:0], *(fold.held_out for fold in folds)])
        stacked = np.concatenate([np.empty((0, data.n_classes)), *logits])
        self.check_finite("logits", stacked)
        temperature = fit_temperature(stacked, data.label[held_out], data.unit[held_out])
        self._card = HeadCard(
            kind=self.kind,
            options=self.options.model_dump(),
            class_names=data.class_names,
            identity=data.header.identity,
            feature_shape=data.header.feature_shape,
            training=data.settings,
            data_digest=data.digest,
            selected_by=selected_by,
            setting={"epochs": epochs},
            curve=[
                {
                    "epochs": entry["epoch"],
                    "accuracy": entry["validation_accuracy"],
                    "log_loss": entry["validation_loss"],
                }
                for entry in history
                if folds
            ],
            temperature=temperature or 1.0,
            refit=refit,
            parameters=int(self.network.count_params()),
        )
        return FitReport(
            held_out=held_out,
            logits=stacked,
            calibrated=temperature is not None,
            history=history,
        )

    def _train(
        self, data: TrainingData, train: Rows, held_out: Rows | None, epochs: int
    ) -> History:
        """Train from new weights; with held-out rows, stop early and keep the best epoch's."""
        options = self.options
        seed_everything(self.seed)
        self.network = self.build(data.header.feature_shape, data.n_classes)
        steps = -(-len(train) // options.batch_size)
        self.network.compile(
            optimizer=_optimizer(options, steps * options.epochs),
            loss=keras.losses.CategoricalCrossentropy(
                from_logits=True, label_smoothing=options.label_smoothing
            ),
            metrics=[
                keras.metrics.CategoricalCrossentropy(name="cross_entropy", from_logits=True),
                keras.metrics.CategoricalAccuracy(name="accuracy"),
            ],
            steps_per_execution=min(steps, _STEPS_PER_EXECUTION),
        )
        judged = None
        callbacks = [_ProgressBar(epochs, self.kind)]
        if held_out is not None:
            judged = batches(data, held_out, 256, shuffle_seed=None)
            callbacks.append(
                keras.callbacks.EarlyStopping(
                    monitor="val_cross_entropy",
                    mode="min",
                    patience=options.patience,
                    restore_best_weights=True,
                )
            )
        log = self.network.fit(
            batches(data, train, options.batch_size, shuffle_seed=self.seed),
            validation_data=judged,
            epochs=epochs,
            shuffle=False,
            callbacks=callbacks,
            verbose=0,
        ).history
        names = {"train_loss": "cross_entropy", "train_accuracy": "accuracy"}
        if held_out is not None:
            names |= {
                "validation_loss": "val_cross_entropy",
                "validation_accuracy": "val_accuracy",
            }
        return [
            {"epoch": index + 1, **{name: float(log[key][index]) for name, key in names.items()}}
            for index in range(len(log["loss"]))
        ]

    def logits(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.floating[Any]]:
        """See `Head.logits`."""
        return np.asarray(self.network(features, training=False))

    def _save_weights(self, path: Path) -> None:
        weights = self.network.get_weights()
        for values in weights:
            self.check_finite("weights", values)
        # A model without an optimizer, whose state and running number would be kept too.
        bare = self.build(self.card.feature_shape, len(self.card.class_names))
        bare.set_weights(weights)
        with atomic_write(path, room=4 * bare.count_params()) as temporary:
            bare.save_weights(temporary)

    def _load_weights(self, path: Path) -> None:
        self.network = self.build(self.card.feature_shape, len(self.card.class_names))
        self.network.load_weights(path)


def batches(data: TrainingData, rows: Rows, batch_size: int, shuffle_seed: int | None) -> Any:
    """Return a tf.data.Dataset of (features, one-hot labels, weights), the last batch shorter.

    Several batches are gathered from the file at once while TensorFlow works on those before.

    Args:
        data: Where the features lie.
        rows: (n_rows,) to go through, once per epoch.
        batch_size: Rows per batch.
        shuffle_seed: Draws another order for every epoch; None keeps the order.
    """
    one_hot = np.eye(data.n_classes, dtype=np.float32)
    shape = data.header.feature_shape
    together = max(1, block_rows(shape) // batch_size)
    rng = None if shuffle_seed is None else np.random.default_rng(shuffle_seed)

    def stacks() -> Iterator[tuple[npt.NDArray[np.float32], ...]]:
        order = rows if rng is None else rng.permutation(rows)
        start = 0
        while start < len(order):
            count = min(together, (len(order) - start) // batch_size)
            # The last batch, if it is shorter, makes a stack of its own.
            stop = start + count * batch_size if count else len(order)
            chosen = order[start:stop]
            start = stop
            lead = (count, batch_size) if count else (1, len(chosen))
            labels = data.label[chosen]
            yield (
                np.asarray(data.features[chosen]).reshape(*lead, *shape),
                one_hot[labels].reshape(*lead, data.n_classes),
                data.weights(chosen).astype(np.float32).reshape(lead),
            )

    signature = tuple(
        tf.TensorSpec((None, None, *tail), tf.float32) for tail in (shape, (data.n_classes,), ())
    )
    stacked = tf.data.Dataset.from_generator(stacks, output_signature=signature)
    unstack: Callable[..., Any] = tf.data.Dataset.from_tensor_slices
    flat = stacked.prefetch(1).flat_map(lambda *arrays: unstack(arrays))
    steps = -(-len(rows) // batch_size)
    known = flat.apply(tf.data.experimental.assert_cardinality(steps))
    # While a step computes, the next ones are cut out of their stack.
    return known.prefetch(_PREFETCHED)


def _optimizer(options: NetworkOptions, total_steps: int) -> Any:
    rate: Any = options.learning_rate
    if options.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, total_steps)
    decay = {"weight_decay": options.weight_decay or None}
    match options.optimizer:
        case "adam" | "adamw":
            # Keras' Adam decays weights by the rule of AdamW.
            optimizer = keras.optimizers.Adam(rate, **decay)
        case "sgd":
            optimizer = keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, **decay)
        case "rmsprop":
            optimizer = keras.optimizers.RMSprop(rate, **decay)
    if options.weight_decay:
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def _mean_history(histories: list[History]) -> History:
    """Average the folds over the epochs that all of them reached."""
    return [
        {name: float(np.mean([entry[name] for entry in entries])) for name in entries[0]}
        for entries in zip(*histories, strict=False)
    ]


class _ProgressBar(keras.callbacks.Callback):  # type: ignore[misc]  # Keras is untyped
    """One step per epoch."""

    def __init__(self, epochs: int, name: str) -> None:
        super().__init__()
        self._bar = progress(total=epochs, desc=f"training {name}", unit="epoch")

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._bar.update()

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        self._bar.close()
