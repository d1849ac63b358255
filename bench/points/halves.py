"""Vectors kept as float16 (`extract.store_dtype`): what rounding them costs in scores."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.results import table
from bench.sets import Sets, SplitSet
from headstart.common.threads import one_thread_each
from headstart.features.file import Columns, FeatureFile, write_feature_file
from headstart.heads import create
from headstart.heads.options import LinearSVCOptions, LogisticOptions
from headstart.scoring.metrics import log_loss

HEADING = "Quality: vectors kept as float16"
KINDS: tuple[Any, ...] = (LogisticOptions(kind="logistic"), LinearSVCOptions(kind="linear_svc"))


def measure(sets: Sets) -> list[str]:
    """Fit heads to features as they are, and rounded."""
    rows = []
    for name in sets.names:
        for options in KINDS:
            found = []
            for seed in range(sets.seeds):
                split = sets.split(name, seed)
                with tempfile.TemporaryDirectory() as folder:
                    found.append(
                        [_judged(one, options) for one in (split, _rounded(split, folder))]
                    )
            wide, half = np.mean(found, axis=0)
            named = np.mean([one[1][2] == one[0][2] for one in found])
            rows.append(
                [
                    name, options.kind, f"{wide[0]:.4f}", f"{half[0]:.4f}",
                    f"{wide[1]:.5f}", f"{half[1]:.5f}", f"{named:.2f}",
                ]
            )  # fmt: skip
            print(*rows[-1], flush=True)
    header = [
        "set", "head", "accuracy, float32", "float16", "log loss, float32", "float16",
        "same setting chosen",
    ]  # fmt: skip
    return [
        f"Test scores, mean over {sets.seeds} splits, and the share of splits in which the same "
        "setting is chosen.",
        "",
        *table(header, rows),
    ]


def _rounded(split: SplitSet, folder: str) -> SplitSet:
    """Return the set with features as a store of float16 gives them back."""
    file, path = split.file, Path(folder, "bottleneck.h5")
    names = ("label", "split", "sha256", "view", "group", "image")
    columns = Columns(**{name: getattr(file, name) for name in names})
    features = np.asarray(file.features).astype(np.float16).astype(np.float32)
    write_feature_file(path, file.header, columns, features)
    return replace(split, file=FeatureFile.open(path))


def _judged(split: SplitSet, options: Any) -> tuple[float, float, float]:
    """Return accuracy and log loss on test images, and the setting."""
    head = create(options, split.seed)
    with one_thread_each():
        head.fit(split.training_data(), refit=True)
    rows = split.file.rows("test")
    labels = split.file.label[rows]
    probabilities = head.predict_proba(split.file.features, rows)
    accuracy = float((probabilities.argmax(axis=1) == labels).mean())
    (setting,) = head.card.setting.values()
    return accuracy, log_loss(labels, probabilities), setting
