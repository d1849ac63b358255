"""Rare classes: balanced accuracy with class weights, with adjusted logits, and without either."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.results import table
from bench.sets import Sets, SplitSet
from headstart.common.threads import one_thread_each
from headstart.heads import create
from headstart.heads.data import TrainingData
from headstart.heads.options import (
    DenseOptions,
    GapOptions,
    LinearSVCOptions,
    LogisticOptions,
    RidgeOptions,
)
from headstart.scoring.metrics import Tally

HEADING = "Quality: rare classes"
COMMON, RARE = 72, 3
WEIGHTS = ("none", "balanced", "logit_adjusted")
DRAWS = 3
# At least so many images of every other class.
SETS = ("digits", "pets", "pets_gray", "pets_32", "faces")
KINDS: tuple[Any, ...] = (
    LogisticOptions(kind="logistic"),
    DenseOptions(kind="dense"),
    GapOptions(kind="gap"),
    LinearSVCOptions(kind="linear_svc"),
    RidgeOptions(kind="ridge"),
)


def measure(sets: Sets) -> list[str]:
    """Fit heads to many images of every other class and three of the others."""
    names = [name for name in sets.names if name in SETS]
    rows = []
    for options in KINDS:
        means = {}
        for weight in WEIGHTS:
            with one_thread_each():
                means[weight] = [
                    _balanced_accuracy(sets.split(name), options, weight, seed)
                    for name in names
                    for seed in range(DRAWS)
                ]
            print(options.kind, weight, round(float(np.mean(means[weight])), 4), flush=True)
        gain = np.subtract(means["logit_adjusted"], means["balanced"])
        error = 2 * gain.std(ddof=1) / len(gain) ** 0.5
        rows.append(
            [
                options.kind,
                *(f"{np.mean(values):.3f}" for values in means.values()),
                f"{100 * gain.mean():+.1f} (± {100 * error:.1f})",
            ]
        )
    theirs = [_theirs(sets.split(name), seed) for name in names for seed in range(DRAWS)]
    rows.append(["LogisticRegression", "", f"{np.mean(theirs):.3f}", "", ""])
    header = ["head", *(f"class_weight: {one}" for one in WEIGHTS), "adjusted - balanced (points)"]
    return [
        f"Balanced accuracy on all other images, of training sets of {COMMON} : {RARE} images, "
        f"each second class rare; mean over {', '.join(names)} and {DRAWS} draws. Settings are "
        "chosen by what classes count. Of `logit_adjusted`, which concerns cross-entropies, "
        "linear_svc takes that choice alone, and ridge weights as of `balanced`. scikit-learn's "
        "has C=1 and class_weight='balanced'.",
        "",
        *table(header, rows),
    ]


def _drawn(split: SplitSet, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return training rows and all other images."""
    images = split.file.rows()
    order = np.random.default_rng(seed).permutation(images)
    kept = []
    for label in range(len(split.file.header.class_names)):
        own = order[split.file.label[order] == label]
        kept.append(own[: RARE if label % 2 else COMMON])
    train = np.sort(np.concatenate(kept))
    return train, np.setdiff1d(images, train)


def _balanced_accuracy(split: SplitSet, options: Any, weight: Any, seed: int) -> float:
    train, judged = _drawn(split, seed)
    whole = TrainingData.from_file(
        split.file, min_validation=10, folds_below=1000, streaming_above=4 * 10**9, seed=seed
    )
    data = replace(whole, train=train, validation=train[:0]).weighed(weight)
    head = create(options, seed)
    head.fit(data, refit=True)
    predicted = head.predict_logits(split.file.features, judged).argmax(axis=1)
    labels = split.file.label[judged]
    return Tally.of(labels, predicted, data.n_classes).balanced_accuracy


def _theirs(split: SplitSet, seed: int) -> float:
    from sklearn.linear_model import LogisticRegression

    train, judged = _drawn(split, seed)
    features, labels = np.asarray(split.file.features), split.file.label
    model = LogisticRegression(class_weight="balanced", max_iter=500)
    predicted = model.fit(features[train], labels[train]).predict(features[judged])
    n_classes = len(split.file.header.class_names)
    return Tally.of(labels[judged], predicted, n_classes).balanced_accuracy
