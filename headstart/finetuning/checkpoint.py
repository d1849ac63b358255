"""The state of a training run after an epoch, kept so that a killed run goes on from there."""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from headstart.common.files import write_hdf5

SCHEMA_VERSION = 1
_FILE = "checkpoint.h5"

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
        with write_hdf5(self.folder / _FILE) as file:
            file.attrs["schema_version"] = SCHEMA_VERSION
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
        """Return the stored state; None when there is none that can be read."""
        path = self.folder / _FILE
        if not path.is_file():
            return None
        try:
            with h5py.File(path, "r") as file:
                if file.attrs["schema_version"] != SCHEMA_VERSION:
                    return None
                arrays: dict[str, Any] = {
                    name: [np.asarray(file[name][str(i)][()]) for i in range(len(file[name]))]
                    for name in ("current", "optimizer", "best")
                }
                return TrainingState(**arrays, **json.loads(file.attrs["state"]))
        except (OSError, KeyError, ValueError, TypeError):
            # Written whole or not at all, so this is a damaged disk; the run starts anew.
            return None

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
