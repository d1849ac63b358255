"""What the advice needs to know of a backbone: its cuts, its cost and its ImageNet classifier.

Found out once per backbone, image size and machine, with TensorFlow, and kept beside the feature
store; later calls import none.
"""

import os
import platform
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from headstart.catalog.spec import PackageWeights
from headstart.commands.advise.facts import CutFacts, NetworkFacts, TrainingTime
from headstart.common.cache import Keep
from headstart.common.code import digest_of_code
from headstart.common.files import digest_of
from headstart.common.hdf5 import open_hdf5
from headstart.extraction.bottleneck import Bottleneck
from headstart.extraction.store import FeatureStore
from headstart.scoring.calibration import softmax

_CLASSIFIER = "classifier.h5"


def network_facts(bottleneck: Bottleneck, store: FeatureStore) -> NetworkFacts:
    """Return the facts of a bottleneck's backbone, measured now if they are not kept yet."""
    keep = Keep("advice", store.root)
    key = _key(bottleneck)
    content = keep.get(key)
    if content is None:
        # Here, because importing TensorFlow takes seconds.
        from headstart.commands.advise.measuring import measure

        content = asdict(measure(bottleneck))
        keep.put(key, content)
    blocks = tuple(CutFacts(**cut) for cut in content.pop("blocks"))
    return NetworkFacts(blocks=blocks, **content)


def training_time(
    bottleneck: Bottleneck, layer: str, unfreeze: str, store: FeatureStore
) -> TrainingTime:
    """Return how long training takes, measured now if it is not kept yet.

    Args:
        bottleneck: The backbone.
        layer: Where the features are taken.
        unfreeze: What learns, as in params.yaml.
        store: What is measured is kept beside it.
    """
    keep = Keep("advice", store.root)
    key = {**_key(bottleneck), "layer": layer, "unfreeze": unfreeze}
    content = keep.get(key)
    if content is None:
        from headstart.commands.advise.measuring import measure_training

        content = asdict(measure_training(bottleneck, layer, unfreeze))
        keep.put(key, content)
    return TrainingTime(**content)


def _key(bottleneck: Bottleneck) -> dict[str, Any]:
    return {
        "backbone": bottleneck.spec.name,
        "image_size": list(bottleneck.image_size),
        "machine": [platform.node(), platform.machine(), os.cpu_count()],
        "versions": {name: version(name) for name in ("keras", "tensorflow")},
        "code": digest_of_code(["catalog", "finetuning", "commands/advise/measuring.py"]),
    }


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
    keep = Keep("advice", store.root)
    code = digest_of_code(["catalog"])
    digest = digest_of([bottleneck.spec.name, bottleneck.weights.sha256, code])
    folder = keep.find(digest)
    if folder is None:
        from headstart.commands.advise.measuring import classifier

        kernel, bias = classifier(bottleneck)
        with keep.create(digest) as new, open_hdf5(new / _CLASSIFIER) as file:
            file.create_dataset("kernel", data=kernel, track_times=False)
            file.create_dataset("bias", data=bias, track_times=False)
        folder = keep.root / digest
    with h5py.File(folder / _CLASSIFIER, "r") as file:
        logits = features.astype(np.float64) @ file["kernel"][:] + file["bias"][:]
    return softmax(logits)
