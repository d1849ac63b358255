"""The state of a training run after an epoch, kept so that a killed run goes on from there."""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.common.progress import notify
from headstart.common.seal import BrokenSeal, check_seal, create_sealed_h5, open_h5

KIND = "checkpoint 3"
_FILE = "checkpoint.h5"
_FAIR = ("fair_logits", "fair_losses")

Arrays = list[NDArray[Any]]


@dataclass(kw_only=True)
class TrainingState:
    """Everything that decides how a run goes on.

    Attributes:
        phase: Index of the phase that is running.
        epoch: Epochs finished in it.
        current: Values of all variables that any phase may change, in the model's order; states
            of random generators included.
        optimizer: Values of the optimizer's variables; empty at the start of a phase.
        best: As `current`, at the best epoch so far of the whole run.
        best_log_loss: Its validation log loss; None without validation images.
        best_epoch: How many epochs had been finished then, counted over all phases.
        waited: Epochs without a better one in this phase.
        fair_logits: (n_validation, n_classes) as of `BestEpochs`, and
        fair_losses: (n_parts,) too.
        history: One row of scores per finished epoch.
        seconds: Time that the epochs took, validation included.
    """

    phase: int
    epoch: int
    current: Arrays
    optimizer: Arrays
    best: Arrays
    best_log_loss: float | None
    best_epoch: int
    waited: int
    fair_logits: NDArray[np.float32]
    fair_losses: NDArray[np.float64]
    history: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0


class Checkpoint:
    """A folder that holds the state of one run.

    Attributes:
        folder: Named after a digest of everything that decides the run, so that a state is never
            taken up by another.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, state: TrainingState) -> None:
        """Replace the stored state; a kill leaves the old one or the new one."""
        content = dict(vars(state))
        with create_sealed_h5(self.folder / _FILE, KIND) as file:
            for name in _FAIR:
                file.create_dataset(name, data=content.pop(name), track_times=False)
            best = content.pop("best")
            for name, arrays in (
                ("current", content.pop("current")),
                ("optimizer", content.pop("optimizer")),
                # Mostly the last epoch was the best: written once, under both names.
                *([] if best is state.current else [("best", best)]),
            ):
                group = file.create_group(name)
                for position, array in enumerate(arrays):
                    group.create_dataset(str(position), data=array, track_times=False)
            if best is state.current:
                file["best"] = file["current"]
            file.attrs["state"] = json.dumps(content)

    def load(self) -> TrainingState | None:
        """Return the stored state; None when there is none, or, with a message, a damaged one.

        Raises:
            InputError: it is open for writing in another program.
        """
        path = self.folder / _FILE
        try:
            check_seal(path, KIND)
        except FileNotFoundError:
            return None
        except BrokenSeal as broken:
            # Written whole or not at all, so this is a damaged disk.
            notify(f"warning: {path}: {broken}; the run starts anew")
            return None
        with open_h5(path) as file:
            arrays: dict[str, Any] = {
                name: [np.asarray(file[name][str(i)][()]) for i in range(len(file[name]))]
                for name in ("current", "optimizer", "best")
            }
            fair = {name: file[name][()] for name in _FAIR}
            return TrainingState(**arrays, **fair, **json.loads(file.attrs["state"]))

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
