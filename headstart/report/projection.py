"""Feature vectors in two dimensions, to be looked at."""

from importlib.util import find_spec

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from headstart.common.errors import InputError
from headstart.report.options import Projection

Points = npt.NDArray[np.float64]

# t-SNE's authors advise to bring the vectors to about this many dimensions first.
# Source: van der Maaten and Hinton, Visualizing Data using t-SNE, JMLR 2008, section 4.2.
_FIRST_DIMENSIONS = 50
_PERPLEXITY = 30.0
_NEIGHBORS = 15


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

    Raises:
        InputError: UMAP is asked for and not installed.
    """
    # Without any difference between the vectors there is no direction to find.
    if not np.ptp(vectors, axis=0).any():
        return {method: np.zeros((len(vectors), 2)) for method in methods}, (0.0, 0.0)
    components = min(_FIRST_DIMENSIONS, *vectors.shape)
    points: dict[str, Points] = {}
    # On several threads sums are added up in an order that changes from run to run.
    with threadpool_limits(1):
        solver = PCA(components, svd_solver="randomized", random_state=seed)
        reduced = solver.fit_transform(vectors.astype(np.float64))
        shares = solver.explained_variance_ratio_
        if components == 1:
            reduced, shares = np.pad(reduced, ((0, 0), (0, 1))), np.pad(shares, (0, 1))
        for method in methods:
            if method == "pca":
                points[method] = reduced[:, :2]
            elif method == "tsne":
                points[method] = _tsne(reduced, seed)
            else:
                points[method] = _umap(reduced, seed)
    return points, (float(shares[0]), float(shares[1]))


def _tsne(reduced: Points, seed: int) -> Points:
    perplexity = min(_PERPLEXITY, (len(reduced) - 1) / 3)
    solver = TSNE(perplexity=perplexity, init=_start(reduced, 1e-4), random_state=seed)
    return np.asarray(solver.fit_transform(reduced), np.float64)


def _umap(reduced: Points, seed: int) -> Points:
    if find_spec("umap") is None:
        raise InputError(
            "params.yaml: report.projections: umap needs the package umap-learn, which is not "
            "installed: run `pip install umap-learn`, or take umap off the list"
        )
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
    return np.asarray(solver.fit_transform(reduced), np.float64)


def _start(reduced: Points, spread: float) -> npt.NDArray[np.float32]:
    """Return the first two components, scaled; both methods' own starts fail on a few points."""
    deviation = reduced[:, 0].std() or 1.0
    return np.asarray(reduced[:, :2] / deviation * spread, np.float32)
