"""Choosing a setting on held-out images, and the heads that have a path of settings."""

import sys
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from headstart.common.hdf5 import write_hdf5
from headstart.common.seal import open_h5
from headstart.common.threads import in_order, one_thread_each
from headstart.features.matrix import Matrix, matrix_bytes
from headstart.heads.base import FitReport, Head, HeadCard
from headstart.heads.data import TrainingData, describe_bytes
from headstart.heads.folds import Rows
from headstart.scoring.calibration import cautious_losses, fit_temperature, losses_at
from headstart.scoring.choosing import HeldOut, best_of, contenders, temperature_of

# Logits of settings that are kept while a path is tried; beyond it, those of the settings alone
# that its end would choose if it were now.
_KEPT = 2**25
# Of more logits, a temperature takes longer than the fit that it would be told of.
_TOLD = 2**22

_LARGE = 2**34
"""Products of a pass over the training features, about a second's, above which a path that has no
patience gets `_PATIENCE`: its weakest penalties take most of the time, and are chosen least."""

_PATIENCE = 8


class FittedModel(Protocol):
    """Fitted weights of one setting."""

    def logits(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.floating[Any]]:
        """Return (n_samples, n_classes) of raw features."""
        ...

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What has to be kept to build it again: its constructor's arguments."""
        ...

    @property
    def parameters(self) -> int:
        """Number of learned values."""
        ...


class SettingFit(NamedTuple):
    """One setting's fit on one fold.

    Attributes:
        setting: Its value; None where there is nothing to choose.
        logits: (n_held_out, n_classes) of the fold's held-out images.
        model: The weights.
    """

    setting: float | None
    logits: npt.NDArray[np.floating[Any]]
    model: FittedModel


@dataclass(frozen=True, slots=True)
class ChosenSetting:
    """The setting that did best on the held-out images.

    Attributes:
        setting: Its value; None where there was nothing to choose.
        curve: Scores of every setting tried, in the order of the path.
        temperature: What makes its logits most likely; None where they cannot tell.
        models: Its weights, one per fold.
        logits: (n_held_out, n_classes), folds one after the other; those of each part of the
            images are of the setting that the other parts choose.
        temperatures: (n_held_out, 1), which make the other parts most likely.
    """

    setting: float | None
    curve: list[dict[str, float]]
    temperature: float | None
    models: tuple[FittedModel, ...]
    logits: npt.NDArray[np.floating[Any]]
    temperatures: npt.NDArray[np.float64]


def logits_of(model: FittedModel, matrix: Matrix, n_classes: int) -> npt.NDArray[np.float32]:
    """Return (n_rows, n_classes) logits of a matrix of raw features."""
    logits = np.empty((matrix.shape[0], n_classes), np.float32)

    def fill(place: slice, block: npt.NDArray[np.float32]) -> None:
        logits[place] = model.logits(block)

    for _ in matrix.map(fill):
        pass
    return logits


@dataclass(frozen=True)
class _Candidate:
    """A setting that was tried.

    Attributes:
        setting: Its value.
        models: Its weights, one per fold.
        logits: (n_held_out, n_classes).
        held_out: The images.
        right: (n_units,) weighted number of images that it got right.
    """

    setting: float | None
    models: tuple[FittedModel, ...]
    logits: npt.NDArray[np.floating[Any]]
    held_out: HeldOut
    right: npt.NDArray[np.float64]

    @classmethod
    def of(cls, fits: Sequence[SettingFit], held_out: HeldOut) -> "_Candidate":
        # Of one fold there is nothing to join, and no copy to make.
        logits = fits[0].logits if len(fits) == 1 else np.concatenate([one.logits for one in fits])
        right = held_out.by_unit(logits.argmax(axis=1) == held_out.label)
        return cls(fits[0].setting, tuple(fit.model for fit in fits), logits, held_out, right)

    @cached_property
    def temperature(self) -> float | None:
        """What makes the logits most likely; None where they cannot tell."""
        return fit_temperature(self.logits, self.held_out.label, self.held_out.unit)

    @cached_property
    def loss(self) -> npt.NDArray[np.float64]:
        """(n_units,) weighted sum of the images' log losses."""
        logits, labels = self.logits, self.held_out.label
        if self.temperature is None:
            return self.held_out.by_unit(cautious_losses(logits, labels))
        return self.held_out.by_unit(losses_at(self.temperature, logits, labels))


def choose(
    steps: Iterable[Sequence[SettingFit]],
    held_out: HeldOut,
    name: str,
    patience: int | None,
) -> ChosenSetting:
    """Keep the setting that does best on all held-out images, as `best_of` says.

    What it is worth on new images tell its logits and temperatures: those of each part of the
    images are of the setting that the others choose. Log losses are at each setting's own
    temperature, or the cautious ones where that cannot be told. Of many logits a temperature is
    fitted only where it may decide; the curve then has no log loss.

    Args:
        steps: For each setting of the path its fits on all folds.
        held_out: The folds' held-out images, one fold after the other.
        name: What a setting is called in the curve.
        patience: Stop after this many settings in a row without a better one; None never stops.
    """
    total = held_out.unit_weight.sum()
    choosing = [np.ones(len(held_out.unit_weight), bool)]
    choosing += [held_out.units_of(others) for _, others in held_out.splits()]
    kept: list[_Candidate] = []
    best: _Candidate | None = None
    curve: list[dict[str, float]] = []
    worse = 0
    for fits in steps:
        kept.append(candidate := _Candidate.of(fits, held_out))
        if candidate.setting is not None:
            point = {name: candidate.setting, "accuracy": float(candidate.right.sum() / total)}
            if candidate.logits.size <= _TOLD:
                point["log_loss"] = float(candidate.loss.sum() / total)
            curve.append(point)
        if best is None or _is_better(candidate, best):
            best, worse = candidate, 0
        else:
            worse += 1
        if candidate.logits.size * len(kept) > _KEPT:
            chosen = {_chosen(kept, units, held_out.unit_weight) for units in choosing}
            kept = [kept[index] for index in sorted(chosen)]
        if patience is not None and worse >= patience:
            break
    if not kept:
        raise ValueError("the path of settings is empty")
    whole, *by_part = [kept[_chosen(kept, units, held_out.unit_weight)] for units in choosing]
    logits = np.empty_like(whole.logits)
    temperatures = np.empty((len(logits), 1))
    for (own, others), candidate in zip(held_out.splits(), by_part, strict=True):
        logits[own] = candidate.logits[own]
        fitted = temperature_of(candidate.logits, held_out, others)
        temperatures[own] = fitted or candidate.temperature or 1.0
    return ChosenSetting(
        setting=whole.setting,
        curve=curve,
        temperature=whole.temperature,
        models=whole.models,
        logits=logits,
        temperatures=temperatures,
    )


def _is_better(one: _Candidate, other: _Candidate) -> bool:
    """Return whether one has more right than the other, or as much at a lower log loss."""
    rights = float(one.right.sum()), float(other.right.sum())
    if rights[0] != rights[1]:
        return rights[0] > rights[1]
    return float(one.loss.sum()) < float(other.loss.sum())


def _chosen(
    candidates: Sequence[_Candidate],
    units: npt.NDArray[np.bool_],
    weight: npt.NDArray[np.float64],
) -> int:
    """Return which candidate some of the units choose."""
    right = np.stack([one.right[units] for one in candidates])
    able = contenders(right, weight[units])
    if len(able) == 1:
        return int(able[0])
    loss = np.stack([candidates[index].loss[units] for index in able])
    return int(able[best_of(right[able], loss, weight[units])])


def _in_step(
    paths: Sequence[Iterator[SettingFit]],
) -> Iterator[tuple[SettingFit, ...]]:
    """Advance all folds' paths together, side by side as far as there are cores."""
    while True:
        step = list(in_order(lambda path: next(path, None), paths))
        found = tuple(candidate for candidate in step if candidate is not None)
        if len(found) < len(paths):
            return
        yield found


class PathHead(Head):
    """A head that is fitted at a number of settings, of which held-out images choose one.

    Attributes:
        setting_name: What a setting is called in params.yaml and in the curve.
        patience: Settings in a row without a better one after which the path ends; None = never,
            unless a pass takes seconds.
        stride: Only every stride-th setting is tried; more than 1 gives a rough answer.
        default_setting: What is taken where nothing can be held out to choose on.
    """

    stride = 1
    setting_name: ClassVar[str] = ""
    patience: ClassVar[int | None] = None
    default_setting: ClassVar[float | None] = None
    model_type: ClassVar[type[Any]]

    _model: FittedModel

    @abstractmethod
    def _settings(self, data: TrainingData) -> tuple[float | None, ...]:
        """Return the settings to try, in order."""

    @abstractmethod
    def _path(
        self, data: TrainingData, train: Rows, held_out: Rows, settings: Sequence[float | None]
    ) -> Iterator[SettingFit]:
        """Fit to the rows `train` at each setting and score the rows `held_out`."""

    def fit(self, data: TrainingData, *, refit: bool = False) -> FitReport:
        """See `Head.fit`."""
        needed = matrix_bytes(data.features, data.train)
        self._announce(data, needed)
        settings = self._settings(data)[:: self.stride]
        patience = self.patience
        if patience is None and data.n_classes * needed // 4 > _LARGE:
            patience = _PATIENCE
        # Of settings further apart, fewer show that the curve has turned.
        patience = patience and max(2, patience // self.stride)
        folds = data.folds(cheap=True)
        selected_by = data.selected_by(cheap=True)
        with one_thread_each():
            if folds:
                paths = [self._path(data, fold.train, fold.held_out, settings) for fold in folds]
                held_out = data.held_out(folds)
                choice = choose(_in_step(paths), held_out, self.setting_name, patience)
            else:
                choice = self._default_choice(data, settings)
            if refit:
                self._model = self._fit_at(data, data.everything, choice.setting)
            elif selected_by == "validation":
                (self._model,) = choice.models
            else:
                self._model = self._fit_at(data, data.train, choice.setting)
        self._card = HeadCard(
            kind=self.kind,
            options=self.options.model_dump(),
            class_names=data.class_names,
            identity=data.header.identity,
            feature_shape=data.header.feature_shape,
            training=data.settings,
            data_digest=data.digest,
            selected_by=selected_by,
            setting={} if choice.setting is None else {self.setting_name: choice.setting},
            curve=choice.curve,
            temperature=choice.temperature or 1.0,
            refit=refit,
            parameters=self._model.parameters,
        )
        return FitReport(
            held_out=np.concatenate([data.train[:0], *(fold.held_out for fold in folds)]),
            logits=choice.logits,
            temperatures=choice.temperatures,
            calibrated=choice.temperature is not None,
            folds=max(1, len(folds)),
        )

    def _default_choice(
        self, data: TrainingData, settings: Sequence[float | None]
    ) -> ChosenSetting:
        """Take the setting that is given, or else the default, where nothing can be held out."""
        (setting,) = settings if len(settings) == 1 else (self.default_setting,)
        nothing = np.empty((0, data.n_classes))
        return ChosenSetting(setting, [], None, (), nothing, np.empty((0, 1)))

    def _fit_at(self, data: TrainingData, rows: Rows, setting: float | None) -> FittedModel:
        (candidate,) = self._path(data, rows, rows[:0], (setting,))
        return candidate.model

    def _announce(self, data: TrainingData, needed: int) -> None:
        """Say what a large fit would need before it needs it."""
        if needed > data.streaming_above:
            print(
                f"{self.kind}: the training features are {describe_bytes(needed)}, more than "
                f"train.streaming_above = {describe_bytes(data.streaming_above)}: reading them "
                "block by block at every step",
                file=sys.stderr,
            )

    def logits(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.floating[Any]]:
        """See `Head.logits`."""
        return self._model.logits(features)

    def _save_weights(self, path: Path) -> None:
        with write_hdf5(path) as file:
            for name, values in self._model.arrays().items():
                self.check_finite(name, values)
                file.create_dataset(name, data=values, track_times=False)

    def _load_weights(self, path: Path) -> None:
        with open_h5(path) as file:
            self._model = self.model_type(**{name: file[name][()] for name in file})
