"""The class whose name is nearest by cosine: for backbones that are paired with text."""

from collections.abc import Iterator, Sequence

import numpy as np

from headstart.features.matrix import Matrix
from headstart.features.text import required
from headstart.heads.data import TrainingData
from headstart.heads.folds import Rows
from headstart.heads.options import ZeroShotOptions
from headstart.heads.prototype import CosineHead, Prototypes
from headstart.heads.selection import SettingFit, logits_of


class ZeroShotHead(CosineHead):
    """Cosines of features and text vectors of the class names, times the model's own scale.

    No image teaches it anything; held-out ones say how sure it may be, and what it is worth.

    Source: Radford et al., Learning Transferable Visual Models From Natural Language Supervision,
        ICML 2021, section 3.1.
    """

    kind = "zero_shot"
    options_type = ZeroShotOptions

    def _path(
        self, data: TrainingData, train: Rows, held_out: Rows, settings: Sequence[float | None]
    ) -> Iterator[SettingFit]:
        texts = required(
            data.texts, f"train.heads: kind {self.kind}", data.header.identity.backbone
        )
        # The model's bias is the same for all classes: it moves no probability.
        model = Prototypes(
            mean=np.zeros(texts.vectors.shape[1], np.float32),
            prototypes=np.float32(texts.scale) * texts.vectors.T,
            bias=np.zeros(data.n_classes, np.float32),
        )
        judged = Matrix(data.features, held_out, data.streaming_above)
        yield SettingFit(None, logits_of(model, judged, data.n_classes), model)
