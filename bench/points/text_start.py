"""Does a logistic head that starts from text lose to neither text alone nor images alone?"""

from collections import defaultdict
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bench.results import table
from bench.sets import Sets, SplitSet
from headstart.common.threads import one_thread_each
from headstart.features.text import ClassTexts
from headstart.heads import create
from headstart.heads.data import TrainingData
from headstart.heads.options import HeadOptions, LogisticOptions, ZeroShotOptions
from headstart.scoring.calibration import fit_temperature

HEADING = "Quality: text start"
SHOTS = (1, 2, 4, 8, 16)
DRAWS = 3
QUALITIES = {"good": 1.0, "fair": 0.5, "poor": 0.25, "useless": 0.0, "wrong": -1.0}
_GAP = 3.0
"""Length of what all text vectors share, in that of what tells them apart."""


def simulated(split: SplitSet, quality: float, seed: int) -> ClassTexts:
    """Return vectors that stand for class names as far as `quality` goes.

    Class means of the validation images, of which nothing learns, mixed with means of as many
    images of any class: 1 is the class means, 0 has nothing of them; -1 is those of other classes.
    All lie off the images by a common vector, as those of CLIP do.
    """
    file = split.file
    rows, n_classes = file.rows("validation"), len(file.header.class_names)
    features = np.asarray(file.features[rows], np.float64)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    features -= features.mean(axis=0)
    rng = np.random.default_rng(seed)
    labels = file.label[rows]
    own = _unit(_means(features, labels, n_classes))
    other = _unit(_means(features, rng.permutation(labels), n_classes))
    if quality < 0:
        own = np.roll(own, 1, axis=0)
    apart = _unit(abs(quality) * own + (1 - abs(quality)) * other)
    gap = _unit(rng.standard_normal((1, features.shape[1])))
    return ClassTexts(
        vectors=_unit(_GAP * gap + apart).astype(np.float32),
        scale=1.0,
        bias=0.0,
        prompts=tuple((name,) for name in file.header.class_names),
    )


def measure(sets: Sets) -> list[str]:
    """Fit the heads to a few images per class; return the section."""
    found: dict[tuple[str, int], list[list[float]]] = defaultdict(list)
    for name in sets.names:
        split = sets.split(name)
        for shots in SHOTS:
            for seed in range(DRAWS):
                with one_thread_each():
                    for quality, values in _draw(split, shots, seed).items():
                        found[quality, shots].append(values)
            print(name, shots, flush=True)
    rows = [
        [quality, shots, *_cells(np.array(found[quality, shots]))]
        for quality in QUALITIES
        for shots in SHOTS
    ]
    header = [
        "text", "shots", "zero_shot", "logistic", "start: text", "half of each",
        "start: text - better of the two (points)",
    ]  # fmt: skip
    return [
        f"Test accuracy, mean over {len(sets.names)} sets ({', '.join(sets.names)}) and {DRAWS} "
        "draws of the shots. No text-paired weights are to be had here: image features are "
        "EfficientNetLite0's, and text vectors are SIMULATED from validation images, which teach "
        "nothing else: class means (good), mixed with means of images of any class (fair, poor, "
        "useless), or those of another class (wrong). `half of each` averages the logits of the "
        "first two (Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022). The aim "
        "is not to lose to the better of the two in each single draw, which nobody knows "
        "beforehand.",
        "",
        *table(header, rows),
    ]


def _draw(split: SplitSet, shots: int, seed: int) -> dict[str, list[float]]:
    """Return test accuracies of the heads on some shots by how good the texts are."""
    file = split.file
    data = split.training_data(seed=seed, shots=shots)
    rows = file.rows("test")

    def logits(given: HeadOptions, data: TrainingData) -> NDArray[np.float64]:
        head = create(given, seed)
        head.fit(data)
        return head.predict_logits(file.features, rows) / head.card.temperature

    plain = logits(LogisticOptions(kind="logistic"), data)
    found = {}
    for name, quality in QUALITIES.items():
        told = replace(data, texts=_scaled(split, simulated(split, quality, seed), seed))
        alone = logits(ZeroShotOptions(kind="zero_shot"), told)
        started = logits(LogisticOptions(kind="logistic", start="text"), told)
        every = (alone, plain, started, alone + plain)
        found[name] = [float((one.argmax(axis=1) == file.label[rows]).mean()) for one in every]
    return found


def _scaled(split: SplitSet, texts: ClassTexts, seed: int) -> ClassTexts:
    """Give the scale that fits good vectors, as pretraining would, however good these are."""
    good, file = simulated(split, 1.0, seed), split.file
    rows = file.rows("train")
    features = _unit(np.asarray(file.features[rows], np.float64))
    fitted = fit_temperature(features @ good.vectors.T.astype(np.float64), file.label[rows])
    return replace(texts, scale=1 / (fitted or 1.0))


def _cells(found: NDArray[np.float64]) -> list[str]:
    lead = 100 * (found[:, 2] - found[:, :2].max(axis=1))
    gap = f"{lead.mean():+.1f} (± {2 * lead.std(ddof=1) / len(lead) ** 0.5:.1f})"
    return [*(f"{value:.3f}" for value in found.mean(axis=0)), gap]


def _means(
    features: NDArray[np.float64], labels: NDArray[np.int64], n_classes: int
) -> NDArray[np.float64]:
    return np.stack([features[labels == label].mean(axis=0) for label in range(n_classes)])


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
