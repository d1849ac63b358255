"""What a backbone learns of one task serves another: the README's example."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from headstart.common.files import sha256_of
from headstart.extraction import engines
from headstart.extraction.bottleneck import identify
from headstart.extraction.extract import extract
from headstart.extraction.options import ExtractOptions
from headstart.extraction.requests import Request
from headstart.extraction.store import FeatureStore
from headstart.images.options import AugmentOptions
from headstart.pretraining.options import PretrainOptions
from headstart.pretraining.runs import pretrain_runs
from headstart.samples import write_sample

pytestmark = pytest.mark.slow
SHOTS, DRAWS = 10, 15


def _features(weights: str, paths: list[Path], folder: Path) -> np.ndarray:
    options = ExtractOptions(
        backbone="LeNet5", weights=weights, seed=0, image_size="auto", resize="stretch",
        layer="s4", pooling="none", engine="auto", precision="float32",
        augment=AugmentOptions(views=0, seed=0),
    )  # fmt: skip
    requests = [Request(str(path), sha256_of(path)) for path in paths]
    bottleneck = identify(options, engines.resolve("auto", "float32"))
    return extract(bottleneck, requests, store=FeatureStore(folder)).array().reshape(len(paths), -1)


def test_lenet_that_read_0_to_4_reads_5_to_9_better_than_without(tmp_path: Path) -> None:
    digits = tmp_path / "digits"
    write_sample("digits", digits)
    lenet = {
        "classes": [0, 1, 2, 3, 4], "backbone": "LeNet5", "seed": 0, "epochs": 25,
        "augment": {"rotation": 25, "shift": 0.15, "zoom": 0.2, "shear": 20},
    }  # fmt: skip
    options = PretrainOptions.model_validate({"source": str(digits), "runs": {"lenet": lenet}})
    pretrain_runs(options, tmp_path / "pretrained")
    paths = [path for label in "56789" for path in sorted((digits / label).iterdir())]
    labels = np.array([int(path.parent.name) for path in paths])
    pictures = [np.asarray(Image.open(path), np.float64).ravel() for path in paths]
    inputs = [
        _features(str(tmp_path / "pretrained" / "lenet.weights.h5"), paths, tmp_path / "store"),
        _features("random", paths, tmp_path / "store"),
        np.stack(pictures),
    ]
    rng = np.random.default_rng(0)
    scores = np.empty((DRAWS, len(inputs)))
    for draw in range(DRAWS):
        classes = [rng.permutation(np.flatnonzero(labels == label)) for label in range(5, 10)]
        known = np.concatenate([rows[:SHOTS] for rows in classes])
        rest = np.concatenate([rows[SHOTS:] for rows in classes])
        for column, x in enumerate(inputs):
            head = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
            scores[draw, column] = head.fit(x[known], labels[known]).score(x[rest], labels[rest])
    learned, random, raw = scores.mean(axis=0)
    assert learned > random
    assert learned > raw
