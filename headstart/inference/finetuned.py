"""The fine-tuned model as an engine whose features are its logits.

So they are kept in the feature store like any features, and a second prediction needs neither the
network nor TensorFlow.
"""

from dataclasses import replace
from pathlib import Path

from headstart.catalog.weights import WeightsIdentity
from headstart.common.errors import InputError
from headstart.common.files import sha256_of
from headstart.common.hardware import has_gpu
from headstart.extraction.bottleneck import Bottleneck, recover_spec
from headstart.extraction.engines import Engine
from headstart.extraction.extract import Load
from headstart.extraction.store import FeatureStore
from headstart.features.identity import FeatureIdentity
from headstart.heads.finetuned_card import WEIGHTS_FILE, FinetunedCard, read_finetuned_card

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


def recover(identity: FeatureIdentity) -> tuple[Bottleneck, Load]:
    """Return what computes the logits of an identity of `as_bottleneck`, on another machine.

    Raises:
        InputError: the model is not there, or is another by now.
    """
    folder = Path(identity.weights).parent
    bottleneck = as_bottleneck(folder, read_finetuned_card(folder))
    if bottleneck.weights.sha256 != identity.weights_sha256:
        raise InputError(
            f"{identity.weights}: expected the fine-tuned weights that were asked for (sha256 "
            f"{identity.weights_sha256[:12]}...), received others (sha256 "
            f"{bottleneck.weights.sha256[:12]}...); copy the model there"
        )
    return bottleneck, load_engine


def load_engine(bottleneck: Bottleneck, store: FeatureStore) -> Engine:
    """Load the model of `as_bottleneck`; imports TensorFlow."""
    del store  # nothing is converted
    if bottleneck.weights.path is None:
        raise ValueError("a fine-tuned model has a weights file")
    from headstart.inference.finetuned_engine import FinetunedEngine

    return FinetunedEngine(bottleneck.weights.path.parent)
