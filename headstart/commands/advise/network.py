"""What the advice needs to know of a backbone: its cuts, its cost and its ImageNet classifier.

Found out once per backbone, image size and machine, with TensorFlow, and kept beside the feature
store; later calls import none.
"""

import json
import os
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from headstart.backbones.spec import PackageWeights
from headstart.common.files import atomic_write, digest_of, write_json
from headstart.common.vocabulary import NUMERICS
from headstart.extraction.bottleneck import Bottleneck
from headstart.extraction.store import FeatureStore

CLASSIFIER_CLASSES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class CutFacts:
    """A place where features can be taken or training can begin.

    Attributes:
        name: Of the cut.
        multiply_adds_below: Per image, up to the cut.
        parameters_above: Of the layers after it.
    """

    name: str
    multiply_adds_below: int
    parameters_above: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkFacts:
    """A backbone at one image size.

    Attributes:
        multiply_adds: Per image, of the whole.
        parameters: Of the whole.
        blocks: Where its blocks begin, from the top down.
        last: The last feature layer.
        forward_seconds: Of one image through all of it, in training's batches.
        last_block_seconds: Of one image's training step of the last block and a linear head.
        all_seconds: Of one image's training step of everything.
    """

    multiply_adds: int
    parameters: int
    blocks: tuple[CutFacts, ...]
    last: str
    forward_seconds: float
    last_block_seconds: float
    all_seconds: float

    def probed(self, shares: tuple[float, ...]) -> tuple[str, ...]:
        """Return the last layer and the block starts nearest to shares of the multiply-adds."""
        names = [self.last]
        for share in shares:
            wanted = share * self.multiply_adds
            nearest = min(
                self.blocks, key=lambda cut: abs(cut.multiply_adds_below - wanted), default=None
            )
            if nearest is not None:
                names.append(nearest.name)
        return tuple(dict.fromkeys(names))


def network_facts(bottleneck: Bottleneck, store: FeatureStore) -> NetworkFacts:
    """Return the facts of a bottleneck's backbone, measured now if they are not kept yet."""
    spec, size = bottleneck.spec, bottleneck.image_size
    machine = [platform.node(), platform.machine(), os.cpu_count()]
    libraries = [version("keras"), version("tensorflow"), NUMERICS]
    key = digest_of([spec.name, list(size), *machine, *libraries])
    path = _folder(store) / f"{key}.json"
    content = _load(path)
    if content is None:
        # Here, because importing TensorFlow takes seconds.
        from headstart.commands.advise.measuring import measure

        content = asdict(measure(bottleneck))
        write_json(path, content)
    blocks = tuple(CutFacts(**cut) for cut in content.pop("blocks"))
    return NetworkFacts(blocks=blocks, **content)


def imagenet_probabilities(
    bottleneck: Bottleneck, features: npt.NDArray[np.float32], store: FeatureStore
) -> npt.NDArray[np.float64] | None:
    """Return what the backbone's own classifier says, (n_samples, 1000).

    Args:
        bottleneck: The backbone.
        features: (n_samples, feature_dim) its last features, averaged.
        store: The classifier is kept beside it.

    Returns:
        None where the weights come without a classifier, as Keras' downloads do.
    """
    published = isinstance(bottleneck.spec.pretrained, PackageWeights)
    if bottleneck.weights.kind != "pretrained" or not published:
        return None
    path = _folder(store) / f"classifier-{bottleneck.weights.sha256}.h5"
    if not path.is_file():
        from headstart.commands.advise.measuring import classifier

        kernel, bias = classifier(bottleneck)
        with atomic_write(path) as temporary, h5py.File(temporary, "w") as file:
            file.create_dataset("kernel", data=kernel, track_times=False)
            file.create_dataset("bias", data=bias, track_times=False)
    with h5py.File(path, "r") as file:
        logits = features.astype(np.float64) @ file["kernel"][:] + file["bias"][:]
    logits -= logits.max(axis=1, keepdims=True)
    odds = np.exp(logits)
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def _folder(store: FeatureStore) -> Path:
    return store.root / "advice"


def _load(path: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError):
        return None
