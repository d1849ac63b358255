"""What every head is: fitted on cached features, gives probabilities, kept without pickle."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt

from headstart.common import places
from headstart.common.errors import InputError
from headstart.common.files import sha256_of
from headstart.common.params import Section
from headstart.common.seal import (
    read_sealed_json,
    require_digest,
    require_finite,
    write_sealed_json,
)
from headstart.features.file import Header
from headstart.features.identity import FeatureIdentity
from headstart.features.matrix import block_rows
from headstart.heads.data import SelectedBy, TrainingData
from headstart.scoring.calibration import softmax

CARD_FILE = "head.json"
HELD_OUT_FILE = "held_out.h5"
"""Probabilities of images that the weights were not fitted to; beside the card."""

FORMAT = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadCard:
    """What is known of a fitted head besides its weights; models/heads/<name>/head.json.

    Attributes:
        kind: Which class of head, such as "logistic".
        options: Its section of params.yaml.
        class_names: One per column of the probabilities.
        identity: The extractor whose features it was made for.
        feature_shape: Of one row of features.
        training: Which rows of the features it was trained on; see `TrainingData.settings`.
        data_digest: Digest of which images trained it and which ones chose.
        selected_by: On what the setting was chosen; "default" where nothing could be held out.
        setting: What was chosen, such as {"l2": 0.01}; empty where nothing is to choose.
        curve: Held-out scores of every setting tried.
        temperature: What logits are divided by before the softmax.
        refit: Whether the weights are of training and validation images together.
        parameters: Number of learned values.
    """

    kind: str
    options: dict[str, Any]
    class_names: tuple[str, ...]
    identity: FeatureIdentity
    feature_shape: tuple[int, ...]
    training: dict[str, Any]
    data_digest: str
    selected_by: SelectedBy
    setting: dict[str, float]
    curve: list[dict[str, float]]
    temperature: float
    refit: bool
    parameters: int

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types, with the digests that tell features apart."""
        return {
            **asdict(self),
            "identity": self.identity.as_dict(),
            "feature_digest": self.identity.feature_digest,
            "preprocessing_digest": self.identity.preprocessing_digest,
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "HeadCard":
        """Undo `as_dict`; keys that are not fields are left alone."""
        fields = {name: content[name] for name in cls.__dataclass_fields__}
        fields["identity"] = FeatureIdentity.from_dict(fields["identity"])
        fields["class_names"] = tuple(fields["class_names"])
        fields["feature_shape"] = tuple(fields["feature_shape"])
        return cls(**fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class FitReport:
    """What a fit leaves besides the head itself.

    Attributes:
        held_out: (n_held_out,) rows of the images that chose setting and temperature.
        logits: (n_held_out, n_classes) theirs, from weights that never saw them, at the setting
            that others of them choose.
        temperatures: (n_held_out, 1) that others of them make likely.
        calibrated: Whether they gave the temperature, which is 1 otherwise.
        folds: Into how many folds they fall; 1 where they are the validation images, or none.
        history: One entry per epoch of a head that is trained in epochs.
    """

    held_out: npt.NDArray[np.int64]
    logits: npt.NDArray[np.floating[Any]]
    temperatures: npt.NDArray[np.float64]
    calibrated: bool = True
    folds: int = 1
    history: list[dict[str, float]] = field(default_factory=list)

    @property
    def probabilities(self) -> npt.NDArray[np.float64]:
        """(n_held_out, n_classes) of these logits at these temperatures."""
        return softmax(self.logits, self.temperatures)


class Head(ABC):
    """A classifier on bottleneck features.

    Args:
        options: Its section of params.yaml.
        seed: Of everything it draws.

    Attributes:
        kind: Its name in the registry.
        weights_file: Name of its weights' file within its folder.
        card: What is known of it, once fitted or loaded.
    """

    kind: ClassVar[str]
    options_type: ClassVar[type[Section]]
    weights_file: ClassVar[str] = "weights.h5"

    def __init__(self, options: Section, seed: int) -> None:
        self.options = options
        self.seed = seed
        self._card: HeadCard | None = None

    @property
    def card(self) -> HeadCard:
        """What is known of the head.

        Raises:
            ValueError: it is not fitted yet.
        """
        if self._card is None:
            raise ValueError(f"{self.kind}: fit or load the head first")
        return self._card

    @abstractmethod
    def fit(self, data: TrainingData, *, refit: bool = False) -> FitReport:
        """Choose the setting, fit to the training images, and calibrate.

        Args:
            data: What to learn from.
            refit: Whether to fit the chosen setting once more on training and validation images.

        Raises:
            InputError: training diverged.
        """

    @abstractmethod
    def logits(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.floating[Any]]:
        """Return scores (n_samples, n_classes) whose softmax at the card's temperature is p.

        Args:
            features: (n_samples, *feature_shape) raw bottleneck features.
        """

    @abstractmethod
    def _save_weights(self, path: Path) -> None:
        """Write the weights, the same bytes for the same weights.

        Raises:
            InputError: one of them is not finite.
        """

    @abstractmethod
    def _load_weights(self, path: Path) -> None:
        """Read what `_save_weights` wrote; the card is set already."""

    def predict_proba(
        self,
        features: npt.NDArray[np.float32],
        rows: npt.NDArray[np.int64] | None = None,
        dtype: type[np.floating[Any]] = np.float64,
    ) -> npt.NDArray[Any]:
        """Return calibrated probabilities, (n_samples, n_classes), rows summing to 1.

        Args:
            features: (n_samples, *feature_shape) raw bottleneck features, or a map of many.
            rows: Which of them, if not all; read block by block.
            dtype: What they are rounded to.
        """
        probabilities = self._nothing(features, rows, dtype)
        for place, logits in self._by_blocks(features, rows):
            probabilities[place] = softmax(logits, self.card.temperature)
        return probabilities

    def predict_logits(
        self, features: npt.NDArray[np.float32], rows: npt.NDArray[np.int64] | None = None
    ) -> npt.NDArray[np.float64]:
        """Return `logits` of many rows, block by block."""
        found = self._nothing(features, rows, np.float64)
        for place, logits in self._by_blocks(features, rows):
            found[place] = logits
        return found

    def _nothing(
        self,
        features: npt.NDArray[np.float32],
        rows: npt.NDArray[np.int64] | None,
        dtype: type[np.floating[Any]],
    ) -> npt.NDArray[Any]:
        count = len(features) if rows is None else len(rows)
        return np.empty((count, len(self.card.class_names)), dtype)

    def _by_blocks(
        self, features: npt.NDArray[np.float32], rows: npt.NDArray[np.int64] | None
    ) -> Iterator[tuple[slice, npt.NDArray[np.floating[Any]]]]:
        rows = np.arange(len(features)) if rows is None else rows
        # Of few columns and many classes the logits are what is large.
        step = min(block_rows(features.shape[1:]), block_rows((len(self.card.class_names),)))
        for start in range(0, len(rows), step):
            place = slice(start, start + step)
            yield place, self.logits(np.asarray(features[rows[place]]))

    def check_features(self, header: Header, source: object) -> None:
        """Refuse features that the head was not made for.

        Args:
            header: Of the features.
            source: What to call them in the message, such as the file's path.

        Raises:
            InputError: another extractor, shape or other classes; the message says which differ.
        """
        made, given = self.card.identity, header.identity
        differences = []
        if made.feature_digest != given.feature_digest:
            one, other = made.as_dict(), given.as_dict()
            differences = [
                f"{name}: expected {one[name]}, received {other[name]}"
                for name in one
                if one[name] != other[name]
            ]
        for name in ("feature_shape", "class_names"):
            if getattr(self.card, name) != getattr(header, name):
                differences.append(
                    f"{name}: expected {getattr(self.card, name)}, received {getattr(header, name)}"
                )
        if differences:
            raise InputError(
                f"{source}: not the features that this {self.kind} head was trained on: "
                f"{'; '.join(differences)}. To train on these, run `dvc repro`"
            )

    def save(self, folder: Path) -> None:
        """Write weights and card into `folder`; a kill in between leaves a folder that is refused.

        The card is written last and names the digest of the weights it belongs to.

        Raises:
            InputError: training has diverged: a weight or the temperature is not finite.
        """
        self.check_finite("temperature", self.card.temperature)
        folder.mkdir(parents=True, exist_ok=True)
        weights = folder / self.weights_file
        self._save_weights(weights)
        content = {
            "format": FORMAT,
            **self.card.as_dict(),
            "seed": self.seed,
            "weights_file": self.weights_file,
            "weights_file_sha256": sha256_of(weights),
        }
        write_sealed_json(folder / CARD_FILE, content)

    def check_finite(self, name: str, values: npt.ArrayLike) -> None:
        """Refuse what training that diverged leaves.

        Args:
            name: What the values are called in the message.
            values: Of any shape.
        """
        remedy = "training diverged; use a smaller learning rate or more regularization"
        require_finite(f"{self.kind}: {name}", values, remedy)

    @classmethod
    def load(cls, folder: Path, content: dict[str, Any]) -> Self:
        """Build the head that `save` wrote; see `headstart.heads.load`."""
        weights = folder / cls.weights_file
        card = folder / CARD_FILE
        require_digest(weights, content["weights_file_sha256"], card, remedy_for(folder))
        head = cls(cls.options_type.model_validate(content["options"]), content["seed"])
        head._card = HeadCard.from_dict(content)
        head._load_weights(weights)
        return head


def repeat_folder(folder: Path, repeat: int) -> Path:
    """Return where the further fits of a head lie, each with another seed.

    Args:
        folder: Of the head.
        repeat: From 1; the head itself is the one before.
    """
    return folder / "repeats" / f"{repeat:03}"


def repeat_folders(folder: Path) -> list[Path]:
    """Return the folders of a head's further fits, in order."""
    return sorted(path.parent for path in folder.glob(f"repeats/*/{CARD_FILE}"))


def origin_of_predictions(folder: Path, images: Literal["held-out", "test"]) -> str:
    """Return what tells a saved model's predictions of some images from all others."""
    return f"{images} {read_card(folder)['weights_file_sha256']}"


def read_card(folder: Path) -> dict[str, Any]:
    """Read a head's head.json, once it has proved to be as it was written.

    Raises:
        InputError: it is missing, damaged, of another format, or its temperature cannot be one.
    """
    path = folder / CARD_FILE
    content = read_sealed_json(path, remedy_for(folder))
    if content.get("format") != FORMAT:
        raise InputError(
            f"{path}: expected a head of format {FORMAT}, received "
            f"{content.get('format', 'none')}: {remedy_for(folder)}"
        )
    temperature = content["temperature"]
    if not (math.isfinite(temperature) and temperature > 0):
        raise InputError(
            f"{path}: temperature: expected a positive number, received {temperature}: "
            f"{remedy_for(folder)}"
        )
    return content


def remedy_for(folder: Path) -> str:
    """Return what to do if the model in a folder cannot be used."""
    stage = "finetune" if folder.absolute().name == places.FINETUNED.name else "train"
    return f"run `dvc repro {stage}` to train it again"
