"""Feature vectors in two dimensions, to be looked at."""

import hashlib
from importlib.metadata import version
from importlib.util import find_spec

import numpy as np
import numpy.typing as npt

from headstart.common.cache import PAGES, Keep
from headstart.common.code import digest_of_code
from headstart.common.threads import one_thread_each
from headstart.features.file import FeatureFile
from headstart.features.matrix import pooled
from headstart.report import tsne
from headstart.report.options import Projection

Points = npt.NDArray[np.float64]

# t-SNE's authors advise to bring the vectors to about this many dimensions first.
# Source: van der Maaten and Hinton, Visualizing Data using t-SNE, JMLR 2008, section 4.2.
_FIRST_DIMENSIONS = 50
_PERPLEXITY = 30.0
_NEIGHBORS = 15
_OVERSAMPLED = 10
_POWER_ITERATIONS = 5


def kept_projections(
    file: FeatureFile, rows: npt.NDArray[np.int64], methods: tuple[Projection, ...], seed: int
) -> tuple[dict[str, list[list[float]]], tuple[float, float]]:
    """Project rows of a feature file, unless that was done before.

    Args:
        file: The features; spatial maps are averaged.
        rows: (n,), n at least 3.
        methods: As of `project`.
        seed: As of `project`.

    Returns:
        As `project`, coordinates with four decimals.
    """
    keep = Keep(PAGES)
    libraries = ["numpy", *(["umap-learn"] if "umap" in methods and find_spec("umap") else [])]
    key = {
        "features": file.digest,
        "rows": hashlib.sha256(rows.tobytes()).hexdigest(),
        "methods": list(methods),
        "seed": seed,
        "versions": {name: version(name) for name in libraries},
        "code": digest_of_code(["features", "report/projection.py", "report/tsne.py"]),
    }
    content = keep.get(key)
    if content is None:
        points, shares = project(pooled(file.features[rows]), methods, seed)
        content = {
            "points": {method: found.round(4).tolist() for method, found in points.items()},
            "shares": list(shares),
        }
        keep.put(key, content)
    first, second = content["shares"]
    return content["points"], (first, second)


def project(
    vectors: npt.NDArray[np.float32], methods: tuple[Projection, ...], seed: int
) -> tuple[dict[str, Points], tuple[float, float]]:
    """Project vectors by each of several methods.

    Args:
        vectors: (n, feature_dim), n at least 3.
        methods: Of "pca", "tsne", "umap".
        seed: Of what is drawn.

    Returns:
        (n, 2) points by method, and the shares of the variance along the first two principal
        components.
    """
    # Without any difference between the vectors there is no direction to find.
    if not np.ptp(vectors, axis=0).any():
        return {method: np.zeros((len(vectors), 2)) for method in methods}, (0.0, 0.0)
    components = min(_FIRST_DIMENSIONS, *vectors.shape)
    points: dict[str, Points] = {}
    reduced, shares = _principal(vectors.astype(np.float64), components, seed)
    if components == 1:
        reduced, shares = np.pad(reduced, ((0, 0), (0, 1))), np.pad(shares, (0, 1))
    for method in methods:
        if method == "pca":
            points[method] = reduced[:, :2]
        elif method == "tsne":
            points[method] = _tsne(reduced)
        else:
            points[method] = _umap(reduced, seed)
    return points, (float(shares[0]), float(shares[1]))


def _principal(
    vectors: Points, components: int, seed: int
) -> tuple[Points, npt.NDArray[np.float64]]:
    """Return the first principal components, (n, components), and their shares of the variance.

    A direction's sign is that which makes its largest coefficient positive.

    Source: Halko, Martinsson and Tropp, Finding structure with randomness, SIAM Review 2011,
        algorithms 4.4 and 5.1.
    """
    centered = vectors - vectors.mean(axis=0)
    drawn = min(components + _OVERSAMPLED, *vectors.shape)
    draws = np.random.default_rng(seed).standard_normal((vectors.shape[1], drawn))
    basis = np.linalg.qr(centered @ draws)[0]
    for _ in range(_POWER_ITERATIONS):
        basis = np.linalg.qr(centered @ np.linalg.qr(centered.T @ basis)[0])[0]
    left, scales, directions = np.linalg.svd(basis.T @ centered, full_matrices=False)
    largest = np.abs(directions).argmax(axis=1)
    signs = np.sign(directions[np.arange(len(directions)), largest])
    reduced = (basis @ left * (scales * signs))[:, :components]
    return reduced, (scales**2 / (centered**2).sum())[:components]


def _tsne(reduced: Points) -> Points:
    perplexity = min(_PERPLEXITY, (len(reduced) - 1) / 3)
    return tsne.embed(reduced, _start(reduced, 1e-4), perplexity)


def _umap(reduced: Points, seed: int) -> Points:
    # umap imports TensorFlow where it finds it, with all its noise.
    from headstart.common.tensorflow_runtime import standard_error_silenced

    with standard_error_silenced():
        from umap import UMAP

    solver = UMAP(
        n_neighbors=min(_NEIGHBORS, len(reduced) - 1),
        init=_start(reduced, 10.0),
        random_state=seed,
        n_jobs=1,
    )
    # Now that its libraries are loaded: with several threads sums change from run to run.
    with one_thread_each():
        return np.asarray(solver.fit_transform(reduced), np.float64)


def _start(reduced: Points, spread: float) -> npt.NDArray[np.float32]:
    """Return the first two components, scaled; both methods' own starts fail on a few points."""
    deviation = reduced[:, 0].std() or 1.0
    return np.asarray(reduced[:, :2] / deviation * spread, np.float32)
