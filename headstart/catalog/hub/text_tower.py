"""Sentences into the space that a backbone paired with text shares with its images."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.catalog.hub.folder import read_folder
from headstart.catalog.hub.loading import whole_model
from headstart.catalog.hub.tokens import Tokenizer
from headstart.catalog.spec import BackboneSpec
from headstart.common.tensorflow_runtime import keras

_BATCH = 8
"""Sentences at a time; always as many, since a vector's last bits depend on it."""


class TextTower:
    """Tokenizer and text tower of a preset.

    Args:
        spec: A backbone that is paired with text.
        path: The folder of its preset in KerasHub's layout, tokenizer included.

    Attributes:
        scale: What the model multiplies cosines with.
        bias: What it adds to that.

    Raises:
        InputError: the preset is of another network, incomplete or damaged, or KerasHub is not
            installed.
    """

    def __init__(self, spec: BackboneSpec, path: Path) -> None:
        assert spec.network is not None
        self._model = whole_model(spec, spec.default_size, read_folder(path))
        is_clip = spec.network.kind == "clip"
        head = self._model.clip_head if is_clip else self._model.siglip_head
        self.scale = float(np.exp(np.float64(keras.ops.convert_to_numpy(head.logit_scale))))
        self.bias = 0.0 if is_clip else float(keras.ops.convert_to_numpy(head.logit_bias))
        self._tokenizer = Tokenizer.load(path, self._model.text_encoder.max_sequence_length)

    def embed(self, sentences: Sequence[str]) -> Iterator[NDArray[np.float32]]:
        """Yield the vectors of sentences, some at a time, (n, dim) as the model has them."""
        for start in range(0, len(sentences), _BATCH):
            part = list(sentences[start : start + _BATCH])
            tokens = self._tokenizer(part + [""] * (_BATCH - len(part)))
            vectors = self._model.get_text_embeddings(keras.ops.convert_to_tensor(tokens))
            yield np.asarray(keras.ops.convert_to_numpy(vectors), np.float32)[: len(part)]
