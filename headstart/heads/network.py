"""Heads trained in epochs by gradient descent, reading the features stack by stack."""

from abc import abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from headstart.common.hdf5 import write_hdf5
from headstart.common.progress import progress
from headstart.common.seal import open_h5
from headstart.common.threads import WORKERS, one_thread_each
from headstart.features.matrix import block_rows
from headstart.heads.base import FitReport, Head, HeadCard
from headstart.heads.data import TrainingData
from headstart.heads.folds import Fold, Rows
from headstart.heads.layers import Floats, Layer, Network, log_softmax
from headstart.heads.optimizers import optimizer_for
from headstart.heads.options import DenseOptions, GapOptions
from headstart.scoring.calibration import fit_temperature
from headstart.scoring.choosing import BestEpochs, temperatures_across

LOGITS = "logits"
"""Name of the last layer."""

History = list[dict[str, float]]


@dataclass(frozen=True, slots=True)
class _Training:
    """What one training leaves: the weights of its best epoch, or of its last.

    Attributes:
        network: With these weights.
        history: One entry per epoch.
        best_epoch: Which epoch they are of, from 1.
        logits: (n_held_out, n_classes) of theirs.
        fair_logits: (n_held_out, n_classes); those of each part of the held-out images are of the
            epoch that the other parts find best.
    """

    network: Network
    history: History
    best_epoch: int
    logits: Floats
    fair_logits: Floats


class NetworkHead(Head):
    """A small network on the features, whose outputs are logits.

    Early stopping on the cross-entropy of held-out images, weighted as classes are, keeps the
    weights of the best epoch.
    In a cross-validation that gives each fold's best epoch, and their median is trained. Where
    nothing can be held out, all epochs are.
    """

    options: DenseOptions | GapOptions
    _network: Network

    @abstractmethod
    def columns(self, features: Floats) -> Floats:
        """Return (n, n_columns), what the layers see of (n, *feature_shape) features."""

    @abstractmethod
    def layers(self, n_columns: int, n_classes: int, rng: np.random.Generator) -> dict[str, Layer]:
        """Return new layers by name, from columns to logits.

        Args:
            n_columns: Of their input.
            n_classes: Columns of their output.
            rng: Draws their weights.
        """

    @property
    def arrays(self) -> dict[str, Floats]:
        """All weights by "layer/weight", in the order in which Keras keeps those of its layers."""
        return self._network.arrays

    def fit(self, data: TrainingData, *, refit: bool = False) -> FitReport:
        """See `Head.fit`."""
        folds = data.folds(cheap=False)
        selected_by = data.selected_by(cheap=False)
        total = len(folds) * self.options.epochs
        with (
            one_thread_each(),
            progress(total=total, desc=f"training {self.kind}", unit="epoch") as bar,
            ThreadPoolExecutor(min(WORKERS, len(folds)) or 1) as pool,
        ):
            judged = list(
                pool.map(
                    lambda fold: self._train(data, fold, self.options.epochs, bar),
                    folds,
                )
            )
            best_epochs = [training.best_epoch for training in judged]
            epochs = int(np.median(best_epochs)) if folds else self.options.epochs
            if refit or selected_by != "validation":
                rows = data.everything if refit else data.train
                final = self._train(data, Fold(rows, rows[:0]), epochs, bar)
            else:
                (final,) = judged
        self._network = final.network
        history = _mean_history([one.history for one in judged]) if folds else final.history
        rows = np.concatenate([data.train[:0], *(fold.held_out for fold in folds)])
        held_out = data.held_out(folds)
        nothing = np.empty((0, data.n_classes))
        logits, fair = (
            np.concatenate([nothing, *(getattr(one, name) for one in judged)])
            for name in ("logits", "fair_logits")
        )
        self.check_finite("logits", logits)
        temperature = fit_temperature(logits, held_out.label, held_out.unit)
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
            parameters=sum(values.size for values in self.arrays.values()),
        )
        return FitReport(
            held_out=rows,
            logits=fair,
            temperatures=temperatures_across(fair, held_out, temperature),
            calibrated=temperature is not None,
            folds=max(1, len(folds)),
            history=history,
        )

    # A divergence is told once, when the fit ends.
    @np.errstate(over="ignore", invalid="ignore")
    def _train(self, data: TrainingData, fold: Fold, epochs: int, bar: Any) -> _Training:
        """Train from new weights; with held-out rows, stop early and keep the best epoch's."""
        options = self.options
        order = np.random.default_rng(self.seed)
        # Apart from the order, so that other layers see the batches in the same one.
        draws = np.random.default_rng([self.seed, 1])
        network = self._new_network(data.header.feature_shape, data.n_classes, draws)
        steps = -(-len(fold.train) // options.batch_size)
        optimizer = optimizer_for(options, steps * options.epochs)
        smoothed = _smoothed_one_hot(data.n_classes, options.label_smoothing)
        weights = data.loss_weight.astype(np.float32)
        log_prior = data.log_prior.astype(np.float32)
        fair = BestEpochs(data.held_out((fold,)), data.n_classes)
        history: History = []
        best: tuple[int, list[Floats], Floats] | None = None
        best_loss = np.inf
        for epoch in range(1, epochs + 1):
            seen = _Tally()
            rows = order.permutation(fold.train)
            start = 0
            for features in _stacks(data, rows, options.batch_size):
                columns = self.columns(features)
                for first in range(0, len(columns), options.batch_size):
                    batch = columns[first : first + options.batch_size]
                    labels = data.label[rows[start : start + len(batch)]]
                    start += len(batch)
                    logits = network.learn(
                        batch, smoothed[labels], weights[labels], draws, log_prior
                    )
                    optimizer.step(network.trained())
                    seen.add(logits, labels)
            entry = {"epoch": epoch, "train_loss": seen.loss, "train_accuracy": seen.accuracy}
            history.append(entry)
            bar.update()
            if not len(fold.held_out):
                continue
            logits = self._logits_of(network, data, fold.held_out)
            judged = _Tally()
            judged.add(logits, data.label[fold.held_out])
            entry |= {"validation_loss": judged.loss, "validation_accuracy": judged.accuracy}
            loss = fair.offer(logits)
            if loss < best_loss or best is None:
                best, best_loss = (epoch, _copies(network), logits), loss
            elif epoch - best[0] >= options.patience:
                break
        if best is None:
            return _Training(network, history, epochs, fair.logits, fair.logits)
        best_epoch, arrays, logits = best
        network.set_arrays(arrays)
        return _Training(network, history, best_epoch, logits, fair.logits)

    def _logits_of(self, network: Network, data: TrainingData, rows: Rows) -> Floats:
        stacks = [network.logits(self.columns(features)) for features in _stacks(data, rows, 1)]
        return np.concatenate(stacks)

    def _new_network(
        self, feature_shape: tuple[int, ...], n_classes: int, rng: np.random.Generator
    ) -> Network:
        n_columns = self.columns(np.zeros((1, *feature_shape), np.float32)).shape[1]
        return Network(self.layers(n_columns, n_classes, rng))

    def logits(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.floating[Any]]:
        """See `Head.logits`."""
        return self._network.logits(self.columns(features))

    def _save_weights(self, path: Path) -> None:
        with write_hdf5(path) as file:
            for name, values in self.arrays.items():
                self.check_finite(name, values)
                file.create_dataset(name, data=values, track_times=False)

    def _load_weights(self, path: Path) -> None:
        rng = np.random.default_rng(0)
        network = self._new_network(self.card.feature_shape, len(self.card.class_names), rng)
        with open_h5(path) as file:
            network.set_arrays([file[name][()] for name in network.arrays])
        self._network = network


@dataclass(slots=True)
class _Tally:
    """Mean cross-entropy in nats, and accuracy, over batches."""

    rows: int = 0
    total_loss: float = 0.0
    right: int = 0

    def add(self, logits: Floats, labels: npt.NDArray[np.int64]) -> None:
        own = log_softmax(logits)[np.arange(len(labels)), labels]
        self.rows += len(labels)
        self.total_loss -= float(own.sum(dtype=np.float64))
        self.right += int((logits.argmax(axis=1) == labels).sum())

    @property
    def loss(self) -> float:
        return self.total_loss / self.rows

    @property
    def accuracy(self) -> float:
        return self.right / self.rows


def _stacks(data: TrainingData, rows: Rows, multiple: int) -> Iterator[Floats]:
    """Yield the features of rows, some megabytes at a time, the next ones being read meanwhile.

    Args:
        data: Where the features lie.
        rows: (n_rows,) in the order in which they are wanted.
        multiple: All stacks but the last hold a multiple of so many rows.
    """
    step = max(1, block_rows(data.header.feature_shape) // multiple) * multiple
    parts = [rows[start : start + step] for start in range(0, len(rows), step)]
    if len(parts) == 1:
        yield np.asarray(data.features[rows])
        return
    reading = iter(parts)
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(data.features.__getitem__, next(reading))
        for part in reading:
            stack, coming = coming.result(), pool.submit(data.features.__getitem__, part)
            yield np.asarray(stack)
        yield np.asarray(coming.result())


def _smoothed_one_hot(n_classes: int, smoothing: float) -> Floats:
    """Return the target of each class, (n_classes, n_classes)."""
    exact = np.eye(n_classes, dtype=np.float32)
    return exact * np.float32(1 - smoothing) + np.float32(smoothing / n_classes)


def _copies(network: Network) -> list[Floats]:
    return [values.copy() for values in network.arrays.values()]


def _mean_history(histories: list[History]) -> History:
    """Average the folds over the epochs that all of them reached."""
    return [
        {name: float(np.mean([entry[name] for entry in entries])) for name in entries[0]}
        for entries in zip(*histories, strict=False)
    ]
