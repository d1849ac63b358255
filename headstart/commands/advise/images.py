"""The images that the advice looks at: training and validation, never test."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from headstart.common.errors import InputError
from headstart.common.vocabulary import Pooling
from headstart.dataset.manifest import Manifest
from headstart.extraction.bottleneck import Bottleneck, identify
from headstart.extraction.options import ExtractOptions
from headstart.extraction.requests import Request, requests_of
from headstart.features.file import FeatureFile
from headstart.heads.data import TrainingData
from headstart.heads.folds import Fold
from headstart.heads.options import TrainOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """Training and validation images without their views, numbered from 0.

    Attributes:
        file: The cached features of all images.
        manifest: Theirs.
        rows: (n_images,) rows of the file.
        data: The same images; its rows are positions in `rows`.
        requests: Theirs, to ask for features at other cuts.
        folds: What is learned from and judged on, the same for all that is compared.
        bottleneck: The backbone.
        seed: Of what is drawn.
    """

    file: FeatureFile
    manifest: Manifest
    rows: npt.NDArray[np.int64]
    data: TrainingData
    requests: list[Request]
    folds: tuple[Fold, ...]
    bottleneck: Bottleneck
    seed: int

    def tapped(self, cuts: Iterable[str]) -> Bottleneck:
        """Return the backbone with features at cuts, averaged, or with class tokens.

        Class tokens are where the user has them. Those of the last four blocks (pooling last4) are
        of the last layer alone; elsewhere it is the cut's own.
        """
        return self.bottleneck.tapped((cut, self._pooling(cut)) for cut in cuts)

    def _pooling(self, cut: str) -> Pooling:
        spec, own = self.bottleneck.spec, self.bottleneck.taps[0].pooling
        match own:
            case "cls" | "cls+avg":
                return own
            case "last4":
                return own if cut == spec.feature_layer else "cls+avg"
        return "avg"

    @classmethod
    def of(
        cls,
        file: FeatureFile,
        manifest: Manifest,
        extracting: ExtractOptions,
        training: TrainOptions,
    ) -> "Images":
        """Take them.

        Args:
            file: The cached features, which name the engine.
            manifest: Their images.
            extracting: The section `extract`.
            training: The section `train`.

        Raises:
            InputError: no image can be held out.
        """
        whole = TrainingData.from_file(
            file,
            class_weight=training.class_weight,
            min_validation=training.min_validation,
            folds_below=training.folds_below,
            streaming_above=training.streaming_above,
            seed=training.seed,
        )
        rows = np.sort(np.concatenate([whole.train_images, whole.validation]))
        data = replace(
            whole,
            label=whole.label[rows],
            view=whole.view[rows],
            unit=whole.unit[rows],
            sha256=whole.sha256[rows],
            train=np.searchsorted(rows, whole.train_images),
            validation=np.searchsorted(rows, whole.validation),
        )
        folds = data.folds(cheap=True)
        if not folds:
            raise InputError(
                f"{file.path}: advise compares cuts on images that are held out, and of no class "
                "can one be: expected a class with two units (images that belong together count "
                "once), received one unit of each. Add images or groups to prepare.source"
            )
        return cls(
            file=file,
            manifest=manifest,
            rows=rows,
            data=data,
            requests=requests_of(file, manifest, rows),
            folds=folds,
            bottleneck=identify(extracting, file.header.identity.engine),
            seed=training.seed,
        )
