"""The training loop: phases of epochs, early stopping, best weights, a checkpoint each epoch."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.common.progress import progress
from headstart.common.tensorflow_runtime import keras
from headstart.finetuning.batches import Batches, BatchSource, only_gpu, shuffled
from headstart.finetuning.checkpoint import Arrays, Checkpoint, TrainingState
from headstart.finetuning.optimizers import make_optimizer
from headstart.finetuning.options import FinetuneOptions
from headstart.scoring.calibration import losses_at
from headstart.scoring.choosing import BestEpochs, HeldOut

# Steps that a GPU takes without Python, which needs longer to start one than the GPU for it. On
# the CPU a step takes so long that between two of them is where Ctrl-C is heard.
_GPU_STEPS = 16


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Epochs during which one part of the model learns.

    Attributes:
        epochs: How many at most.
        source: The inputs of `model`.
        model: From them to logits.
        enter: Makes the variables trainable that learn now, and no others.
        factors: What the learning rate of each of them, by path, is multiplied with.
    """

    epochs: int
    source: BatchSource
    model: keras.Model
    enter: Callable[[], None]
    factors: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Examples:
    """What is trained and validated on, by row of the feature file.

    Attributes:
        train: Rows of the training images and their views.
        validation: Rows of the validation images; may be empty.
        targets: (n_rows, n_classes) one-hot.
        weights: (n_rows,) sample weights.
        held_out: The validation images, as they choose the best epoch.
        log_prior: (n_classes,) what the loss adds to the logits; 0 adjusts nothing.
    """

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    targets: NDArray[np.float32]
    weights: NDArray[np.float32]
    held_out: HeldOut
    log_prior: NDArray[np.float32]


def train(
    phases: Sequence[Phase],
    variables: Sequence[Any],
    examples: Examples,
    options: FinetuneOptions,
    checkpoint: Checkpoint,
    *,
    loss_scaling: bool = False,
    start_counts: bool = True,
) -> TrainingState:
    """Run the phases one after the other and leave the best weights in `variables`.

    Training that never improves the validation log loss of the start, weighted as classes are,
    changes nothing. Without validation images the last weights are kept.

    Args:
        phases: In the order of running.
        variables: All that any phase may change, states of random generators included.
        examples: Rows, targets and weights.
        options: Optimizer, schedule, patience, seed, batch size.
        checkpoint: Where the state goes after each epoch; a state found there is taken up.
        loss_scaling: Whether gradients are computed in float16.
        start_counts: Whether the weights at the start may be the best; random ones, which say
            nothing, are not compared with.

    Returns:
        The state after the last epoch.
    """
    state = checkpoint.load()
    fair = BestEpochs(examples.held_out, examples.targets.shape[1])
    if state is not None:
        fair.logits, fair.losses = state.fair_logits, state.fair_losses
    for index, phase in enumerate(phases):
        if state is not None and index < state.phase:
            continue
        phase.enter()
        _compile(phase, options, examples, loss_scaling=loss_scaling)
        if state is None:
            start = _values(variables)
            state = TrainingState(
                phase=0,
                epoch=0,
                current=start,
                optimizer=[],
                best=start,
                best_log_loss=_loss_at_start(phase, examples, options, fair, counts=start_counts),
                best_epoch=0,
                waited=0,
                fair_logits=fair.logits,
                fair_losses=fair.losses,
            )
        _assign(variables, state.current)
        if state.optimizer:
            _assign(phase.model.optimizer.variables, state.optimizer)
        _run_phase(phase, state, variables, examples, options, checkpoint, fair)
        if index + 1 < len(phases):
            state.current, state.optimizer = state.best, []
            state.phase, state.epoch, state.waited = index + 1, 0, 0
    assert state is not None, "there is at least one phase"
    _assign(variables, state.best)
    return state


def _loss_at_start(
    phase: Phase, examples: Examples, options: FinetuneOptions, fair: BestEpochs, *, counts: bool
) -> float | None:
    if not len(examples.validation):
        return None
    return fair.offer(_validation_logits(phase, examples, options)) if counts else math.inf


def predict(
    model: keras.Model, source: BatchSource, rows: NDArray[np.int64], batch_size: int
) -> NDArray[np.float64]:
    """Return the logits of rows that are images themselves, (n_rows, n_classes)."""
    batches = Batches(
        source,
        rows,
        np.zeros((int(rows.max()) + 1, 1), np.float32),
        np.zeros(int(rows.max()) + 1, np.float32),
        batch_size=batch_size,
    )
    with batches.unwrapped_errors():
        logits = model.predict(batches.dataset, steps=batches.steps, verbose=0)
    return np.asarray(logits, np.float64)


class _AdjustedCrossEntropy(keras.losses.CategoricalCrossentropy):  # type: ignore[misc]  # Keras ships no types.
    """Cross-entropy of logits and the classes' log shares together.

    Source: see `headstart.heads.losses.CrossEntropy`.
    """

    def __init__(self, log_prior: NDArray[np.float32], label_smoothing: float) -> None:
        super().__init__(from_logits=True, label_smoothing=label_smoothing)
        self._log_prior = log_prior

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the losses, (batch,)."""
        return super().call(y_true, y_pred + self._log_prior)


def _compile(
    phase: Phase, options: FinetuneOptions, examples: Examples, *, loss_scaling: bool
) -> None:
    steps = phase.epochs * math.ceil(len(examples.train) / options.batch_size)
    optimizer = make_optimizer(options, steps, phase.factors, loss_scaling=loss_scaling)
    phase.model.compile(
        optimizer=optimizer,
        loss=_AdjustedCrossEntropy(examples.log_prior, options.label_smoothing),
        # Beside the loss, which regularization and smoothing blur; unweighted.
        metrics=[
            keras.metrics.CategoricalCrossentropy(from_logits=True, name="log_loss"),
            keras.metrics.CategoricalAccuracy(name="accuracy"),
        ],
        steps_per_execution=1 if only_gpu() is None else _GPU_STEPS,
    )
    # Now rather than in the first step, so that a stored state has variables to go to.
    optimizer.build(phase.model.trainable_variables)


def _run_phase(
    phase: Phase,
    state: TrainingState,
    variables: Sequence[Any],
    examples: Examples,
    options: FinetuneOptions,
    checkpoint: Checkpoint,
    fair: BestEpochs,
) -> None:
    batches = Batches(
        phase.source,
        examples.train,
        examples.targets,
        examples.weights,
        batch_size=options.batch_size,
    )
    steps = batches.steps
    with progress(total=phase.epochs * steps, desc="fine-tuning", unit="batch") as bar:
        bar.update(state.epoch * steps)
        while state.epoch < phase.epochs and state.waited < options.patience:
            started = time.perf_counter()
            done = len(state.history)
            batches.rows = shuffled(examples.train, options.seed, done)
            batches.epoch = done
            with batches.unwrapped_errors():
                log = phase.model.fit(
                    batches.dataset,
                    steps_per_epoch=steps,
                    shuffle=False,
                    verbose=0,
                    callbacks=[_Advance(bar, state.epoch * steps, steps)],
                ).history
            row = {
                "epoch": done + 1,
                "train_loss": float(log["log_loss"][0]),
                "train_accuracy": float(log["accuracy"][0]),
            }
            loss = None
            if len(examples.validation):
                logits = _validation_logits(phase, examples, options)
                loss = fair.offer(logits)
                labels = examples.held_out.label
                row |= {
                    "validation_loss": float(losses_at(1.0, logits, labels).mean()),
                    "validation_accuracy": float((logits.argmax(axis=1) == labels).mean()),
                }
            state.history.append(row)
            state.epoch += 1
            state.current = _values(variables)
            state.optimizer = _values(phase.model.optimizer.variables)
            _keep_the_best(state, loss)
            state.seconds += time.perf_counter() - started
            checkpoint.save(state)


class _Advance(keras.callbacks.Callback):  # type: ignore[misc]  # Keras ships no types.
    """Draws the bar of an epoch.

    Keras calls it in a thread of its own: else each step would wait for the scores of the last.
    """

    async_safe = True

    def __init__(self, bar: Any, begun: int, steps: int) -> None:
        super().__init__()
        self._bar, self._begun, self._steps = bar, begun, steps

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Draw where the epoch is; `batch` is the last of several that ran at once."""
        self._bar.update(self._begun + min(batch + 1, self._steps) - self._bar.n)


def _keep_the_best(state: TrainingState, loss: float | None) -> None:
    if loss is not None and state.best_log_loss is not None:
        # Written so that a log loss of NaN counts as worse.
        if not loss < state.best_log_loss:
            state.waited += 1
            return
        state.best_log_loss = loss
    state.best, state.best_epoch, state.waited = state.current, len(state.history), 0


def _validation_logits(
    phase: Phase, examples: Examples, options: FinetuneOptions
) -> NDArray[np.float64]:
    return predict(phase.model, phase.source, examples.validation, options.batch_size)


def _values(variables: Sequence[Any]) -> Arrays:
    return [keras.ops.convert_to_numpy(variable).copy() for variable in variables]


def _assign(variables: Sequence[Any], values: Arrays) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
