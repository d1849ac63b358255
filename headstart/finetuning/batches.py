"""Batches for training: cached activations, or images decoded and augmented on the way."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from headstart.common.errors import InputError
from headstart.common.tensorflow_runtime import tf


class BatchSource(Protocol):
    """Where a model's inputs come from, by row of the feature file.

    Attributes:
        shape: Of one input.
        dtype: Of the inputs.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def read(self, rows: NDArray[np.int64], epoch: int, batch_size: int) -> Iterator[NDArray[Any]]:
        """Yield the inputs of `rows` in that order, (batch, *shape), the last batch shorter.

        Args:
            rows: Rows of the feature file.
            epoch: Number of epochs before this one; augmented views may differ between epochs.
            batch_size: Of all batches but the last.
        """
        ...


class CachedActivations:
    """Activations at a cut, in a file that is mapped, never loaded whole."""

    def __init__(self, activations: NDArray[np.float32]) -> None:
        self._activations = activations
        self.shape: tuple[int, ...] = activations.shape[1:]
        self.dtype: np.dtype[Any] = np.dtype(np.float32)

    def read(self, rows: NDArray[np.int64], epoch: int, batch_size: int) -> Iterator[NDArray[Any]]:
        """Yield activations; those of the cached views are the same in each epoch."""
        for start in range(0, len(rows), batch_size):
            yield self._activations[rows[start : start + batch_size]]


def only_gpu() -> str | None:
    """Return TensorFlow's name of the GPU; None without one, or where several share each batch."""
    gpus = tf.config.list_logical_devices("GPU")
    return gpus[0].name if len(gpus) == 1 else None


class Batches:
    """Batches of (inputs, targets, sample weights) for Keras.

    Building the dataset takes longer than some epochs: one serves all, and each pass over it reads
    `rows` and `epoch` anew.

    Args:
        source: Gives the inputs.
        rows: Rows of the feature file, in the order of training.
        targets: (n_rows_of_the_file, n_classes), one-hot.
        weights: (n_rows_of_the_file,) sample weights.
        batch_size: Of all batches but the last, which is shorter and is not dropped.

    Attributes:
        rows: As given; others of the same number may be set between two passes.
        epoch: Number of epochs before the next pass.
        dataset: A tf.data.Dataset.
        steps: Number of batches.
    """

    def __init__(
        self,
        source: BatchSource,
        rows: NDArray[np.int64],
        targets: NDArray[np.float32],
        weights: NDArray[np.float32],
        *,
        batch_size: int,
    ) -> None:
        self.rows = rows
        self.epoch = 0
        self._failure: InputError | None = None

        def generate() -> Iterator[tuple[NDArray[Any], ...]]:
            start = 0
            rows = self.rows
            try:
                for inputs in source.read(rows, self.epoch, batch_size):
                    batch = rows[start : start + len(inputs)]
                    start += len(inputs)
                    yield inputs, targets[batch], weights[batch]
            except InputError as error:
                self._failure = error
                raise

        signature = (
            tf.TensorSpec((None, *source.shape), source.dtype),
            tf.TensorSpec((None, targets.shape[1]), tf.float32),
            tf.TensorSpec((None,), tf.float32),
        )
        batches = tf.data.Dataset.from_generator(generate, output_signature=signature)
        self.steps = math.ceil(len(rows) / batch_size)
        counted = batches.apply(tf.data.experimental.assert_cardinality(self.steps))
        gpu = only_gpu()
        # One batch is fetched while another trains: hides the reading and bounds the memory. On a
        # GPU one more is copied there.
        self.dataset: tf.data.Dataset = (
            counted.prefetch(1)
            if gpu is None
            else counted.apply(tf.data.experimental.prefetch_to_device(gpu, 2))
        )

    @contextmanager
    def unwrapped_errors(self) -> Iterator[None]:
        """Raise what a source raised while Keras was reading from it, not TensorFlow's wrapping."""
        try:
            yield
        except tf.errors.OpError:
            if self._failure is not None:
                raise self._failure from None
            raise


def shuffled(rows: NDArray[np.int64], seed: int, epoch: int) -> NDArray[np.int64]:
    """Return `rows` in an order that depends on the seed and the epoch alone."""
    return np.random.default_rng([seed, epoch]).permutation(rows)
