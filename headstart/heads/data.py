"""What a head learns from: rows of the feature file, who may see which, and their weights."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from headstart.common.errors import InputError
from headstart.features.file import FeatureFile, Header
from headstart.features.text import Texts
from headstart.heads.folds import FOLDS, NEVER, Fold, Rows, stratified_folds
from headstart.scoring.calibration import FEWEST_UNITS
from headstart.scoring.choosing import HeldOut, dealt
from headstart.scoring.intervals import units

SelectedBy = Literal["validation", "cross-validation", "default"]
ClassWeight = Literal["none", "balanced", "logit_adjusted"] | Mapping[str, float]

STREAMING_ABOVE = 10**9
"""As `TrainingData.streaming_above`, where no option says."""

MOST_HELD_OUT = 50_000
"""Images that judge settings, at most: so many tell shares 0.3 points apart, and of a thousand
classes the scores of ten times as many would be more than all features."""

_DEARER = 5
"""By how much fewer validation units heads that are trained in epochs are cross-validated."""


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """Features of the training and validation images; the test images are out of reach.

    Attributes:
        header: Of the feature file.
        features: (n_rows, *feature_shape) float32, usually a map of the file.
        label: (n_rows,) class indices.
        view: (n_rows,) 0 for the image itself.
        unit: (n_rows,) rows of one image or of one group share a number; never torn apart.
        sha256: (n_rows,) content digests of the images.
        train: Rows of the training split, views included.
        validation: Rows of the validation split, images themselves only.
        class_weight: (n_classes,) what an image of a class counts, in the choice of settings and
            in losses that are not adjusted.
        log_prior: (n_classes,) what a cross-entropy adds to the logits while it trains, the log
            shares of the classes; 0 where it adjusts nothing.
        shots: Training images per class, if only so many are used. Nothing else then teaches or
            chooses: validation images are only judged by.
        min_validation: Fewer validation units per class than this mean cross-validation.
        folds_below: Fewer validation units in all than this mean cross-validation; for heads
            that are trained in epochs a fifth of it.
        streaming_above: Bytes of training features above which they are read block by block.
        seed: Of the folds and of what a head draws.
        texts: Text vectors of the classes, or why there are none.
        settings: The arguments of `from_file`, with which the same rows can be taken again.
    """

    header: Header
    features: npt.NDArray[np.float32]
    label: npt.NDArray[np.int64]
    view: npt.NDArray[np.int32]
    unit: npt.NDArray[np.int64]
    sha256: npt.NDArray[np.str_]
    train: Rows
    validation: Rows
    class_weight: npt.NDArray[np.float64]
    log_prior: npt.NDArray[np.float64]
    shots: int | None
    min_validation: int
    folds_below: int
    streaming_above: int
    seed: int
    texts: Texts
    settings: dict[str, Any]

    @classmethod
    def from_file(
        cls,
        file: FeatureFile,
        *,
        class_weight: ClassWeight = "none",
        min_validation: int,
        folds_below: int,
        streaming_above: int,
        seed: int,
        shots: int | None = None,
    ) -> "TrainingData":
        """Take the training and validation rows of a feature file.

        Args:
            file: The features.
            class_weight: What an image of a class counts; "logit_adjusted" counts classes evenly
                where settings are chosen, and lets each cross-entropy adjust its logits instead of
                weighing its images.
            min_validation: See the class, as for the other two limits.
            folds_below: See the class.
            streaming_above: See the class.
            seed: Of the folds, and of which images `shots` keeps.
            shots: Training images per class to keep; None for all.

        Raises:
            InputError: fewer than two classes, a class without a training image, or a weight for
                a class that does not exist.
        """
        train = file.rows("train", views=True)
        class_names = file.header.class_names
        counts = np.bincount(file.label[file.rows("train")], minlength=len(class_names))
        if len(class_names) < 2:
            raise InputError(
                f"{file.path}: expected at least two classes to tell apart, received "
                f"{', '.join(class_names)}: add images of another class to prepare.source"
            )
        if not counts.all():
            empty = ", ".join(np.array(class_names)[counts == 0])
            raise InputError(
                f"{file.path}: no training image of the class {empty}: add images, or lower "
                "prepare.validation and prepare.test in params.yaml"
            )
        data = cls(
            header=file.header,
            features=file.features,
            label=file.label,
            view=file.view,
            unit=units_of(file),
            sha256=file.sha256,
            train=train,
            validation=file.rows("validation"),
            class_weight=np.ones(len(class_names)),
            log_prior=np.zeros(len(class_names)),
            shots=shots,
            min_validation=min_validation,
            folds_below=folds_below,
            streaming_above=streaming_above,
            seed=seed,
            texts=file.texts,
            settings={
                "class_weight": class_weight if isinstance(class_weight, str) else {**class_weight},
                "min_validation": min_validation,
                "folds_below": folds_below,
                "streaming_above": streaming_above,
                "seed": seed,
                "shots": shots,
            },
        )
        return (data if shots is None else data.few(shots, seed)).weighed(class_weight)

    def weighed(self, wanted: ClassWeight) -> "TrainingData":
        """Set what classes count."""
        counts = np.bincount(self.label[self.train_images], minlength=self.n_classes)
        weights = class_weights(wanted, self.class_names, counts)
        if wanted != "logit_adjusted":
            return replace(self, class_weight=weights)
        return replace(self, class_weight=weights, log_prior=np.log(counts / counts.sum()))

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names by class index."""
        return self.header.class_names

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.header.class_names)

    @cached_property
    def digest(self) -> str:
        """Digest of which images are trained on and which ones choose."""
        parts = ["train", *sorted(self.sha256[self.train_images])]
        parts += ["validation", *sorted(self.sha256[self.validation])]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    @property
    def train_images(self) -> Rows:
        """Training rows, images themselves only."""
        return np.asarray(self.train[self.view[self.train] == 0])

    @property
    def everything(self) -> Rows:
        """Rows that may teach: of training and validation, views of the training images included.

        Of a few shots these alone.
        """
        if self.shots is not None:
            return self.train
        return np.sort(np.concatenate([self.train, self.validation]))

    def weights(self, rows: Rows) -> npt.NDArray[np.float64]:
        """(len(rows),) what each row counts."""
        return np.asarray(self.class_weight[self.label[rows]])

    @property
    def loss_weight(self) -> npt.NDArray[np.float64]:
        """(n_classes,) what an image of a class counts in a loss that is adjusted, if any is."""
        return np.ones(self.n_classes) if self.log_prior.any() else self.class_weight

    @cached_property
    def validation_suffices(self) -> bool:
        """Whether validation images may choose, and every class has `min_validation` units."""
        enough = self._validation_units.min() >= self.min_validation
        return self.shots is None and bool(enough)

    @cached_property
    def validation_stops(self) -> bool:
        """Whether validation images may end a training: of every class, and not too few in all."""
        enough = self._validation_units_in_all >= FEWEST_UNITS
        return self.shots is None and enough and bool(self._validation_units.min() > 0)

    @cached_property
    def _validation_units(self) -> npt.NDArray[np.int64]:
        """(n_classes,) units that a class has among the validation images."""
        return _units_per_class(self.label, self.unit, self.validation, self.n_classes)

    @property
    def train_units(self) -> npt.NDArray[np.int64]:
        """(n_classes,) units that a class has among the training images."""
        return _units_per_class(self.label, self.unit, self.train_images, self.n_classes)

    @cached_property
    def _fold_of_unit(self) -> Rows:
        """Fold by number of the unit."""
        rows = self.everything
        images = rows[self.view[rows] == 0]
        folds = np.full(int(self.unit.max()) + 1, NEVER)
        folds[self.unit[images]] = stratified_folds(
            self.label[images], self.unit[images], FOLDS, self.seed
        )
        return folds

    def selected_by(self, *, cheap: bool) -> SelectedBy:
        """Return what settings are chosen on: the validation images, folds, or nothing.

        A few hundred validation images rank neighboring settings by luck; folds of
        training and validation images together are several times as many. Where validation images
        are too few and no class has two units, one to learn from and one to hold out, settings
        are the default.

        Args:
            cheap: Whether the head takes a moment to fit, so that folds cost little.
        """
        wanted = self.folds_below if cheap else self.folds_below / _DEARER
        if self.validation_suffices and self._validation_units_in_all >= wanted:
            return "validation"
        if self._fold_of_unit.max() > NEVER:
            return "cross-validation"
        return "validation" if self.validation_suffices else "default"

    @cached_property
    def _validation_units_in_all(self) -> int:
        return len(np.unique(self.unit[self.validation]))

    def folds(self, *, cheap: bool) -> tuple[Fold, ...]:
        """Return what settings are chosen on; one fold where the validation images suffice.

        Cross-validation covers training and validation images; each is held out once at most,
        with its unit, and its views leave the training side with it. Every class is on the
        training side of every fold. There is no fold where nothing can be held out. Of more than
        `MOST_HELD_OUT` images a part of each class judges.

        Args:
            cheap: As for `selected_by`.
        """
        selected_by = self.selected_by(cheap=cheap)
        if selected_by == "default":
            return ()
        if selected_by == "validation":
            return (Fold(self.train, some_of_each(self.validation, self.label, MOST_HELD_OUT)),)
        rows = self.everything
        is_image = self.view[rows] == 0
        fold_of = self._fold_of_unit[self.unit[rows]]
        n_folds = int(fold_of.max()) + 1
        return tuple(
            Fold(
                rows[fold_of != index],
                some_of_each(
                    rows[(fold_of == index) & is_image], self.label, MOST_HELD_OUT // n_folds
                ),
            )
            for index in range(n_folds)
        )

    def held_out(self, folds: Sequence[Fold]) -> HeldOut:
        """Return the images that folds hold out, one fold after the other.

        The parts are the folds; a single one is dealt into parts.
        """
        rows = np.concatenate([self.train[:0], *(fold.held_out for fold in folds)])
        label, unit = self.label[rows], self.unit[rows]
        if len(folds) == 1:
            part = dealt(label, unit, self.seed)
        else:
            part = np.repeat(np.arange(len(folds)), [len(fold.held_out) for fold in folds])
        return HeldOut(label=label, unit=unit, part=part, weight=self.weights(rows))

    def few(self, shots: int, seed: int) -> "TrainingData":
        """Keep at most `shots` training images per class; fewer shots take a subset of more.

        A second image of a unit is taken only once every unit of the class has given one.
        """
        images = self.train_images
        drawn = images[np.random.default_rng(seed).permutation(len(images))]
        of_class = [drawn[self.label[drawn] == index] for index in range(self.n_classes)]
        kept = np.concatenate(
            [own[np.argsort(_turns(self.unit[own]), kind="stable")][:shots] for own in of_class]
        )
        # Views follow their image: between two images themselves stand the views of the first.
        image_of = np.maximum.accumulate(np.where(self.view[self.train] == 0, self.train, -1))
        chosen = np.isin(image_of, kept)
        return replace(self, train=self.train[chosen])


def some_of_each(rows: Rows, label: npt.NDArray[np.int64], most: int) -> Rows:
    """Return about so many rows at most, in order: of each class its share, and at least one.

    Args:
        rows: (n_rows,) ascending.
        label: (n_all_rows,) class indices.
        most: How many, beside the first of each class.
    """
    if len(rows) <= most:
        return rows
    ordered = rows[np.argsort(label[rows], kind="stable")]
    chosen = np.linspace(0, len(rows) - 1, most).astype(np.int64)
    first = np.unique(label[ordered], return_index=True)[1]
    return np.sort(ordered[np.union1d(chosen, first)])


def units_of(file: FeatureFile) -> Rows:
    """Return the unit of each row, (n_rows,): rows of one image or of one group share a number."""
    groups = np.where(file.group >= 0, file.group + int(file.image.max()) + 1, file.image)
    return units(groups)


def class_weights(
    wanted: ClassWeight,
    class_names: tuple[str, ...],
    counts: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """Return what an image of each class counts, (n_classes,).

    Args:
        wanted: See `TrainingData.from_file`.
        class_names: One per class.
        counts: (n_classes,) training images of each, at least 1.

    Raises:
        InputError: a weight is given for a class that does not exist.
    """
    if wanted == "none":
        return np.ones(len(class_names))
    if wanted in ("balanced", "logit_adjusted"):
        # Source: scikit-learn's class_weight="balanced".
        return np.asarray(counts.sum() / (len(class_names) * counts))
    assert not isinstance(wanted, str)
    unknown = sorted(set(wanted) - set(class_names))
    if unknown:
        raise InputError(
            f"params.yaml: train.class_weight: no class is called {', '.join(unknown)}; "
            f"the classes are {', '.join(class_names)}"
        )
    return np.array([wanted.get(name, 1.0) for name in class_names], dtype=np.float64)


def _units_per_class(
    labels: npt.NDArray[np.int64], unit: npt.NDArray[np.int64], rows: Rows, n_classes: int
) -> npt.NDArray[np.int64]:
    """Return of how many units each class has images among `rows`, (n_classes,)."""
    pairs = np.unique(np.stack([labels[rows], unit[rows]]), axis=1)
    return np.bincount(pairs[0], minlength=n_classes)


def _turns(unit: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return how many earlier positions have the same unit, (n,)."""
    order = np.argsort(unit, kind="stable")
    _, first, index = np.unique(unit[order], return_index=True, return_inverse=True)
    turns = np.empty(len(unit), np.int64)
    turns[order] = np.arange(len(unit)) - first[index]
    return turns


def describe_bytes(count: float) -> str:
    """Return a number of bytes for people."""
    power = min(int(np.log10(max(count, 1))) // 3, 4)
    return f"{count / 1000**power:.3g} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"
