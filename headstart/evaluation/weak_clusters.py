"""Clusters of test images, by their features alone, in which a model's mistakes gather."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from headstart.common.files import write_table
from headstart.dataset.manifest import Manifest
from headstart.features.file import FeatureFile
from headstart.features.neighbors import NeighborIndex, directions
from headstart.scoring.intervals import units
from headstart.scoring.metrics import Floats
from headstart.scoring.weakness import compare, has_enough, holm

COLUMNS = ("cluster", "path", "label", "named", "probability")

_FEWEST_MISTAKES = 3
_UNITS_PER_CLUSTER = 30
_MOST_CLUSTERS = 30
# That the middles are found from: more images hardly move them.
_MOST_IMAGES = 5_000
_ROUNDS = 25

Vectors = npt.NDArray[np.float32]


def find_weak_clusters(
    file: FeatureFile,
    manifest: Manifest,
    rows: npt.NDArray[np.int64],
    probabilities: Floats,
    *,
    seed: int,
    images: Path,
) -> dict[str, Any]:
    """Compare each cluster with the rest, and list the images of those that are weak.

    Clusters are made without a look at the mistakes, so that the comparison is an honest one. Where
    there are too few images or mistakes to tell, none is made.

    Args:
        file: The features.
        manifest: The images.
        rows: (n_samples,) test images in `file`.
        probabilities: (n_samples, n_classes) what the model says of them.
        seed: Of the clusters, and of the draws that tell what is chance.
        images: Gets the weak clusters' images, those nearest to the middle first.

    Returns:
        By number, from 1, the weakest first.
    """
    labels, predicted = file.label[rows], probabilities.argmax(axis=1)
    unit = units(file.group[rows])
    n_units = int(unit.max(initial=-1)) + 1
    n_clusters = min(_MOST_CLUSTERS, n_units // _UNITS_PER_CLUSTER)
    mistaken = len(np.unique(unit[labels != predicted]))
    if n_clusters < 2 or mistaken < _FEWEST_MISTAKES:
        write_table(images, COLUMNS, [])
        return {"weak_clusters": {}}
    cluster, nearness = _clusters(file, rows, n_clusters, seed)
    parts = [part for index in range(n_clusters) if has_enough(unit, part := cluster == index)]
    compared = [
        compare(labels, predicted, unit, part, n_tests=len(parts), seed=seed) for part in parts
    ]
    p_values = holm([one.p for one in compared])
    found = [
        (one, p, part)
        for one, p, part in zip(compared, p_values, parts, strict=True)
        if one.is_weak(p)
    ]
    weak = dict(enumerate(sorted(found, key=lambda entry: entry[0].difference), start=1))
    write_table(
        images,
        COLUMNS,
        (
            (
                number,
                manifest.rows[file.image[rows[i]]].path,
                manifest.rows[file.image[rows[i]]].label,
                file.header.class_names[predicted[i]],
                float(probabilities[i, predicted[i]]),
            )
            for number, (_, _, part) in weak.items()
            for i in np.flatnonzero(part)[np.argsort(-nearness[part], kind="stable")]
        ),
    )
    return {"weak_clusters": {str(number): one.told(p) for number, (one, p, _) in weak.items()}}


def _clusters(
    file: FeatureFile, rows: npt.NDArray[np.int64], count: int, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Return the cluster of each image, and its cosine with the cluster's middle; (n_rows,)."""
    index = NeighborIndex.of(file.features, rows)
    chosen = np.zeros(len(rows), bool)
    chosen[np.linspace(0, len(rows) - 1, min(len(rows), _MOST_IMAGES)).astype(np.int64)] = True
    some = np.concatenate([block[chosen[place]] for place, block in index.blocks()])
    middles = spherical_means(some, count, seed)
    cluster, nearness = np.empty(len(rows), np.int64), np.empty(len(rows), np.float32)
    for place, block in index.blocks():
        cosines = block @ middles.T
        cluster[place], nearness[place] = cosines.argmax(axis=1), cosines.max(axis=1)
    return cluster, nearness


def spherical_means(vectors: Vectors, count: int, seed: int) -> Vectors:
    """Return middles such that vectors have a large cosine with the nearest: spherical k-means.

    A few lines of NumPy, since importing scikit-learn takes longer than the clusters of most data.

    Args:
        vectors: (n_vectors, n_columns) of length 1.
        count: How many middles, at most `n_vectors`.
        seed: Of the first ones.

    Returns:
        (count, n_columns) of length 1.

    Source: Dhillon and Modha, "Concept decompositions for large sparse text data using clustering",
        Machine Learning 42, 2001; Arthur and Vassilvitskii, "k-means++", SODA 2007 (the start).
    """
    rng = np.random.default_rng(seed)
    chosen = [int(rng.integers(len(vectors)))]
    distance = np.full(len(vectors), np.inf)
    for _ in range(1, count):
        away = 1 - vectors @ vectors[chosen[-1]]
        distance = np.minimum(distance, np.maximum(away, 1e-12))
        chosen.append(int(rng.choice(len(vectors), p=distance / distance.sum())))
    middles = vectors[chosen]
    before = np.full(len(vectors), -1)
    for _ in range(_ROUNDS):
        cluster = (vectors @ middles.T).argmax(axis=1)
        if np.array_equal(cluster, before):
            break
        member = (cluster == np.arange(count)[:, None]).astype(np.float32)
        # A middle that none is nearest to stays where it is.
        middles = directions(np.where(member.any(axis=1)[:, None], member @ vectors, middles))
        before = cluster
    return middles
