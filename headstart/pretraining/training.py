"""Training a backbone on a source: the loop, its batches and what it reports."""

import math
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.catalog.spec import BackboneSpec
from headstart.common.errors import InputError
from headstart.common.progress import progress
from headstart.common.tensorflow_runtime import keras, seed_everything
from headstart.common.vocabulary import Sizing
from headstart.images import augmentation
from headstart.pretraining import networks
from headstart.pretraining.data import SourceImages
from headstart.pretraining.options import PretrainRun

_CELLS = 8
"""Rows and columns of the grid whose cells are erased from an image to be reconstructed."""
_ERASED = 127
_CLIP = 1.0
"""Largest norm of the gradient: AlexNet and GoogLeNet have no normalization to tame it."""


@dataclass(frozen=True, slots=True)
class Pretrained:
    """What training left.

    Attributes:
        backbone: With the weights of the best epoch.
        best_epoch: Counted from 1.
        history: Per epoch: train_loss, validation_loss and, for classify, both accuracies.
        scores: Of the best weights on the validation images (on the training images when there
            are none), beside what needs no training: for classify, accuracy and
            chance_accuracy (always the commonest class); for reconstruct, mean_squared_error and
            mean_image_error (always the mean training image), values in [0, 1].
    """

    backbone: keras.Model
    best_epoch: int
    history: list[dict[str, float]]
    scores: dict[str, float]


def pretrain(key: str, run: PretrainRun, spec: BackboneSpec, source: SourceImages) -> Pretrained:
    """Train a backbone from random weights and keep the best epoch's.

    Args:
        key: Where in params.yaml the run stands, for errors.
        run: Objective, optimization and seed.
        spec: The backbone.
        source: The images, at the size that the backbone sees.

    Raises:
        InputError: training diverged.
    """
    # Another run in this process must neither change what comes out nor fill the memory.
    keras.utils.clear_session()
    seed_everything(run.seed)
    height, width = source.pixels.shape[1:3]
    if run.objective == "classify":
        n_classes = len(source.class_names)
        backbone, model = networks.classifier(spec, (height, width), n_classes, run.seed)
        loss: Any = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        metrics = ["accuracy"]
    else:
        backbone, model = networks.autoencoder(spec, (height, width), run.seed)
        loss, metrics = keras.losses.MeanSquaredError(), []
    model.compile(
        keras.optimizers.Adam(run.learning_rate, clipnorm=_CLIP),
        loss,
        metrics=metrics,
        # XLA on a processor runs depthwise convolutions an order of magnitude slower.
        jit_compile=False,
    )
    batches = _Batches(source, source.train, run, spec, training=True)
    held_out = _Batches(source, source.validation, run, spec) if len(source.validation) else None
    monitor = "val_loss" if held_out else "loss"
    steps = len(batches)
    with progress(total=run.epochs * steps, desc="Pretraining", unit="batch") as bar:
        stopping = keras.callbacks.EarlyStopping(
            monitor, patience=run.patience, restore_best_weights=True
        )
        advance = keras.callbacks.LambdaCallback(on_train_batch_end=lambda *_, **__: bar.update())
        log = model.fit(
            batches,
            validation_data=held_out,
            epochs=run.epochs,
            verbose=0,
            shuffle=False,
            callbacks=[stopping, advance, keras.callbacks.TerminateOnNaN()],
        ).history
    if not all(map(math.isfinite, log["loss"])):
        raise InputError(
            f"{key}.learning_rate: training diverged in epoch {len(log['loss'])} (the loss is no "
            f"number any more); use a smaller one than {run.learning_rate:g}"
        )
    best = int(np.argmin(log[monitor]))
    evaluated = held_out or _Batches(source, source.train, run, spec)
    found = model.evaluate(evaluated, verbose=0, return_dict=True)
    return Pretrained(backbone, best + 1, _history(log), _scores(run, source, evaluated, found))


class _Batches(keras.utils.PyDataset):  # type: ignore[misc]  # Keras ships no types.
    """Batches of (images, targets); the last is shorter and not dropped.

    For training, order and views are new in each epoch; otherwise both stay the same.
    """

    def __init__(
        self,
        source: SourceImages,
        rows: NDArray[np.int64],
        run: PretrainRun,
        spec: BackboneSpec,
        *,
        training: bool = False,
    ) -> None:
        # Threads, which keep the order; only rendering views takes long enough to be worth them.
        renders = training and run.augment != type(run.augment)()
        super().__init__(workers=os.cpu_count() or 1 if renders else 1)
        self.rows = rows
        self._source, self._run, self._spec = source, run, spec
        self._recipe = run.augment.model_copy(update={"seed": run.seed}) if renders else None
        self._training, self._epoch = training, 0
        self._order = self._shuffled()

    def __len__(self) -> int:
        return math.ceil(len(self.rows) / self._run.batch_size)

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], NDArray[Any]]:
        size = self._run.batch_size
        rows = self._order[index * size : (index + 1) * size]
        images = self._images(rows)
        if self._run.objective == "classify":
            return images, self._source.labels[rows]
        return self._erase(images, index), self.targets(images)

    def on_epoch_end(self) -> None:
        """Draw the next epoch's order, which depends on seed and epoch alone."""
        self._epoch += self._training
        self._order = self._shuffled()

    def targets(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Return images in [0, 1] with the channels that the network takes."""
        scaled = images.astype(np.float32) / np.float32(255)
        if self._spec.channels < 3:
            matrix, _ = self._spec.preprocessing.affine()
            scaled = (scaled @ (matrix / matrix.sum())).astype(np.float32)
        return scaled

    def _images(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        pixels, digests = self._source.pixels, self._source.sha256
        if self._recipe is None:
            return pixels[rows]
        height, width = pixels.shape[1:3]
        sizing = Sizing((height, width), interpolation=self._spec.interpolation)
        view = self._epoch + 1
        return np.stack(
            [
                augmentation.views(pixels[row], digests[row], [view], self._recipe, sizing)[0]
                for row in rows
            ]
        )

    def _shuffled(self) -> NDArray[np.int64]:
        if not self._training:
            return self.rows
        return np.random.default_rng([self._run.seed, self._epoch]).permutation(self.rows)

    def _erase(self, images: NDArray[np.uint8], index: int) -> NDArray[np.uint8]:
        """Erase cells of a grid, so that copying (through U-Net's skips) is not enough."""
        height, width = images.shape[1:3]
        rng = np.random.default_rng([self._run.seed, self._epoch, index])
        erased = rng.random((len(images), _CELLS, _CELLS)) < self._run.erase
        down, across = (np.arange(side) * _CELLS // side for side in (height, width))
        mask = erased[:, down][:, :, across]
        return np.where(mask[..., None], np.uint8(_ERASED), images)


def _history(log: dict[str, list[float]]) -> list[dict[str, float]]:
    names = {
        "loss": "train_loss",
        "accuracy": "train_accuracy",
        "val_loss": "validation_loss",
        "val_accuracy": "validation_accuracy",
    }
    return [
        {"epoch": epoch + 1, **{names[key]: float(log[key][epoch]) for key in names if key in log}}
        for epoch in range(len(log["loss"]))
    ]


def _scores(
    run: PretrainRun, source: SourceImages, evaluated: _Batches, found: dict[str, float]
) -> dict[str, float]:
    if run.objective == "classify":
        counts = np.bincount(source.labels[source.train])
        chance = np.mean(source.labels[evaluated.rows] == counts.argmax())
        return {"accuracy": float(found["accuracy"]), "chance_accuracy": float(chance)}
    mean = evaluated.targets(_mean(source.pixels, source.train))
    errors = [
        np.square(evaluated.targets(source.pixels[row]) - mean).mean() for row in evaluated.rows
    ]
    return {
        "mean_squared_error": float(found["loss"]),
        "mean_image_error": float(np.mean(errors)),
    }


def _mean(pixels: NDArray[np.uint8], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    total = np.zeros(pixels.shape[1:])
    for row in rows:
        total += pixels[row]
    mean: NDArray[np.float64] = total / len(rows)
    return mean
