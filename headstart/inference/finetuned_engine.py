"""Running the fine-tuned model with TensorFlow."""

from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.common.tensorflow_runtime import tf
from headstart.finetuning.saving import load_finetuned


class FinetunedEngine:
    """See `headstart.extraction.engines.Engine`; its one output is logits, (batch_size, n_classes).

    Args:
        folder: Of the model.
    """

    batch_size = 32
    workers = 1

    def __init__(self, folder: Path) -> None:
        finetuned = load_finetuned(folder)
        model = finetuned.assembly.logits_from(None, images=True)
        size = finetuned.card.head.identity.image_size
        # One shape, compiled once: a batch's shape may decide a result's last bits.
        signature = [tf.TensorSpec((self.batch_size, *size, 3), tf.uint8)]
        self._run = tf.function(lambda x: model(x, training=False), input_signature=signature)
        self.feature_shapes = ((len(finetuned.card.head.class_names),),)
        self.versions = {name: version(name) for name in ("keras", "tensorflow")}

    def __call__(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
        """Compute one batch; see `headstart.extraction.engines.Engine`."""
        return (np.asarray(self._run(images), np.float32),)
