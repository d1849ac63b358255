"""The fine-tuned model as an engine whose features are its logits.

So they are kept in the feature store like any features, and a second prediction needs neither the
network nor TensorFlow.
"""

from dataclasses import replace
from pathlib import Path

from headstart.catalog.weights import WeightsIdentity
from headstart.common.files import sha256_of
from headstart.common.hardware import has_gpu
from headstart.extraction.bottleneck import Bottleneck, recover_spec
from headstart.extraction.engines import Engine
from headstart.extraction.store import FeatureStore
from headstart.heads.finetuned_card import WEIGHTS_FILE, FinetunedCard

LOGITS = "logits"
"""Layer of their identity; no backbone's layer is called so."""


def as_bottleneck(folder: Path, card: FinetunedCard) -> Bottleneck:
    """Return what a fine-tuned model computes: from images to logits.

    Args:
        folder: Of the model, such as models/finetuned.
        card: Read from it.
    """
    path = folder / WEIGHTS_FILE
    sha256 = sha256_of(path)
    identity = replace(
        card.head.identity,
        weights=str(path),
        weights_sha256=sha256,
        layer=LOGITS,
        precision="float32",
        engine="tensorflow-gpu" if has_gpu() else "tensorflow",
    )
    weights = WeightsIdentity(
        kind="file", path=path, sha256=sha256, seed=None, description=f"fine-tuned weights {path}"
    )
    return Bottleneck(spec=recover_spec(identity), weights=weights, taps=(identity,))


def load_engine(bottleneck: Bottleneck, store: FeatureStore) -> Engine:
    """Load the model of `as_bottleneck`; imports TensorFlow."""
    del store  # nothing is converted
    if bottleneck.weights.path is None:
        raise ValueError("a fine-tuned model has a weights file")
    from headstart.inference.finetuned_engine import FinetunedEngine

    return FinetunedEngine(bottleneck.weights.path.parent)
