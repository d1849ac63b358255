"""Pilots: short fine-tuning runs on a fold, judged on the images that it holds out."""

import contextlib
import io
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from headstart.commands.advise.facts import NetworkFacts, TrainingTime
from headstart.commands.advise.images import Images
from headstart.commands.advise.network import training_time
from headstart.commands.advise.quality import quality
from headstart.commands.advise.search import Judged
from headstart.commands.advise.strategies import Arm, Size, finetuning_of, full_size
from headstart.common.cache import Keep, changing
from headstart.common.code import digest_of_code
from headstart.common.files import digest_of
from headstart.common.hdf5 import open_hdf5
from headstart.common.temporaries import temporary_folder
from headstart.extraction.extract import Extraction, extract
from headstart.extraction.store import FeatureStore
from headstart.features.file import Columns, FeatureFile
from headstart.finetuning.options import FinetuneOptions
from headstart.heads import create
from headstart.heads.base import Head
from headstart.heads.data import TrainingData
from headstart.heads.options import LogisticOptions
from headstart.scoring.choosing import dealt

MOST_JUDGED = 1000
"""Images that judge a pilot at most: they tell half a point of difference apart."""

_KEPT = "pilot.h5"
_CODE = ("catalog", "extraction", "finetuning", "heads", "scoring", "commands/advise/pilots.py")

Rows = npt.NDArray[np.int64]


class Pilots:
    """Runs pilots and keeps what they say in the user's cache.

    Args:
        images: What is learned from and judged on.
        options: The section `finetune`; what a way of fine-tuning leaves open is taken from it.
        reference: The cut and the penalty of the frozen head that gains are measured against.
        network: The backbone.
        store: The feature store; what is kept lies beside it.
    """

    def __init__(
        self,
        images: Images,
        options: FinetuneOptions,
        reference: tuple[str, float],
        network: NetworkFacts,
        store: FeatureStore,
    ) -> None:
        self._images = images
        self._options = options
        self._reference = reference
        self._network = network
        self._store = store
        self._keep = Keep("advice", store.root)

    def training_time(self, arm: Arm) -> TrainingTime:
        """Return how long a way of fine-tuning takes, measured once per machine."""
        return training_time(self._images.bottleneck, arm.cut, arm.unfreeze, self._store)

    def full_size(self, arm: Arm) -> Size:
        """See `search.Lab`."""
        n_train = min(len(_images_of(fold.train, self._images.data)) for fold in self._images.folds)
        return full_size(arm.unfreeze, n_train, self._options.batch_size)

    def seconds(self, arm: Arm, size: Size) -> float:
        """See `search.Lab`."""
        return run_seconds(
            self.training_time(arm), self._network, size, size.images + self._judged(0)
        )

    def _judged(self, fold: int) -> int:
        return min(len(self._images.folds[fold].held_out), MOST_JUDGED)

    def pilot(self, arm: Arm, size: Size, fold: int) -> Judged:
        """See `search.Lab`."""
        data, chosen = self._images.data, self._images.folds[fold]
        train = _drawn(_images_of(chosen.train, data), size.images, data, self._images.seed)
        order = np.random.default_rng(self._images.seed).permutation(len(chosen.held_out))
        judged = np.sort(chosen.held_out[order[: self._judged(fold)]])
        logits, seconds = self._logits(arm, size, train, judged)
        labels, units = data.label[judged], data.unit[judged]
        frozen = quality(self._frozen(train, judged), labels, units)
        tuned = quality(logits, labels, units)
        weights = data.weights(judged)
        return Judged(
            gains=(tuned.score - frozen.score) * weights / weights.mean(),
            right=tuned.right,
            losses=tuned.loss,
            units=units,
            seconds=seconds,
        )

    def _frozen(self, train: Rows, judged: Rows) -> npt.NDArray[np.float64]:
        """Return the reference's logits, (n_judged, n_classes), from the same training images.

        It learns from those, too, that stop fine-tuning: as `train.refit` has it.
        """
        cut, l2 = self._reference
        rows = np.concatenate([train, judged])
        extraction = self._extraction(cut, rows)
        with self._data(extraction, rows, len(train)) as (_, data):
            head = _fitted(data, l2, self._images.seed)
            return head.predict_logits(data.features, np.arange(len(train), len(rows)))

    def _logits(
        self, arm: Arm, size: Size, train: Rows, judged: Rows
    ) -> tuple[npt.NDArray[np.float64], float]:
        options = FinetuneOptions.model_validate(
            {**self._options.model_dump(), **finetuning_of(arm, size), "trunk": "cached"}
        )
        rows = np.concatenate([train, judged])
        extraction = self._extraction(arm.cut, rows)
        data = self._images.data
        digest = digest_of(
            {
                "extractor": self._images.tapped([arm.cut]).taps[0].fingerprint,
                "images": data.sha256[rows].tolist(),
                "labels": data.label[rows].tolist(),
                "units": data.unit[rows].tolist(),
                "train": len(train),
                "class_weight": data.class_weight.tolist(),
                "log_prior": data.log_prior.tolist(),
                "options": options.model_dump(mode="json"),
                "l2": arm.l2,
                "seed": self._images.seed,
                "code": digest_of_code(_CODE),
                "versions": {name: version(name) for name in ("keras", "tensorflow", "numpy")},
            }
        )
        kept = self._keep.find(digest)
        if kept is None:
            with self._keep.create_if_possible(digest) as folder:
                stops = _stops(train, data, self._images.seed)
                with self._data(extraction, rows, len(train), stops) as (file, own):
                    head = _fitted(own, arm.l2, self._images.seed)
                    logits, seconds = self._run(file, own, head, options)
                    judgement = logits[len(train) :]
                with open_hdf5(folder / _KEPT) as opened:
                    opened.create_dataset("logits", data=judgement, track_times=False)
                    opened.attrs["seconds"] = seconds
            return judgement, seconds
        with h5py.File(kept / _KEPT, "r") as opened:
            return opened["logits"][:], float(opened.attrs["seconds"])

    def _run(
        self, file: FeatureFile, data: TrainingData, head: Head, options: FinetuneOptions
    ) -> tuple[npt.NDArray[np.float64], float]:
        """Fine-tune; return the logits of all rows of a file, and the seconds it took.

        As in a whole run, validation images choose the epoch; those that judge have no say.
        """
        started = time.perf_counter()
        # Here, because importing TensorFlow takes seconds.
        from headstart.finetuning.finetune import FinetuneRun, finetune

        with temporary_folder(self._store.runs) as folder:
            head.save(folder / "start")
            run = FinetuneRun(
                file=file,
                manifest=self._images.manifest,
                data=data,
                head=head,
                head_folder=folder / "start",
                options=options,
                store=self._store,
            )
            # It says what it caches, and that very few images cannot stop it, which here goes
            # without saying; what goes wrong is raised.
            with (
                contextlib.redirect_stdout(io.StringIO()),
                contextlib.redirect_stderr(io.StringIO()),
            ):
                result = finetune(run, folder / "model")
        # A run that went on from where it was interrupted took longer than what is measured now.
        return result.logits, max(time.perf_counter() - started, result.seconds)

    def _extraction(self, cut: str, rows: Rows) -> Extraction:
        requests = [self._images.requests[row] for row in rows.tolist()]
        return extract(self._images.tapped([cut]), requests, store=self._store)

    @contextlib.contextmanager
    def _data(
        self,
        extraction: Extraction,
        rows: Rows,
        n_train: int,
        stops: npt.NDArray[np.bool_] | None = None,
    ) -> Iterator[tuple[FeatureFile, TrainingData]]:
        """Give a file of some images' features.

        Args:
            extraction: Theirs.
            rows: Which images.
            n_train: The first of them are to learn from; the others judge.
            stops: (n_train,) which of the first say when to stop instead; none without.
        """
        stops = np.zeros(n_train, np.bool_) if stops is None else stops
        file, data = self._images.file, self._images.data
        own = self._images.rows[rows]
        columns = Columns(
            label=file.label[own],
            split=np.where(np.arange(len(rows)) < n_train, "train", "validation"),
            sha256=file.sha256[own],
            view=file.view[own],
            group=file.group[own],
            image=file.image[own],
        )
        with changing(self._store.root), temporary_folder(self._store.runs) as folder:
            path = Path(folder) / "features.h5"
            extraction.write(path, file.header.class_names, columns)
            written = FeatureFile.open(path)
            yield (
                written,
                replace(
                    data,
                    header=written.header,
                    features=written.features,
                    label=columns.label,
                    view=columns.view,
                    unit=data.unit[rows],
                    sha256=columns.sha256,
                    train=np.flatnonzero(~stops),
                    validation=np.flatnonzero(stops),
                ),
            )


def run_seconds(training: TrainingTime, network: NetworkFacts, size: Size, n_images: int) -> float:
    """Return how long a run takes: one pass of all images, and the training steps."""
    passes = network.forward_seconds * n_images
    return training.start_seconds + passes + training.image_seconds * size.passes


def _fitted(data: TrainingData, l2: float, seed: int) -> Head:
    head = create(LogisticOptions(kind="logistic", l2=l2), seed)
    head.fit(data)
    return head


def _images_of(rows: Rows, data: TrainingData) -> Rows:
    return np.asarray(rows[data.view[rows] == 0])


def _stops(train: Rows, data: TrainingData, seed: int) -> npt.NDArray[np.bool_]:
    """Return which training images say when to stop: a part of them, as in a whole run.

    None where a class would have no image left to learn from.
    """
    labels = data.label[train]
    stops: npt.NDArray[np.bool_] = dealt(labels, data.unit[train], seed) == 0
    if set(labels[~stops]) != set(labels):
        return np.zeros(len(train), np.bool_)
    return stops


def _drawn(rows: Rows, count: int, data: TrainingData, seed: int) -> Rows:
    """Return some of the rows, at random, one of each class at least."""
    if count >= len(rows):
        return rows
    drawn = rows[np.random.default_rng(seed).permutation(len(rows))]
    _, first = np.unique(data.label[drawn], return_index=True)
    rest = np.delete(drawn, first)
    return np.sort(np.concatenate([drawn[first], rest[: max(count - len(first), 0)]]))
