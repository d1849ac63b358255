"""Classes as Gaussians of one shape, and how far images are from the nearest of them.

What varies within the classes is usual and counts little; a direction in which no training image
strays counts in full. The shape is drawn towards a sphere, the more the fewer images there are.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from headstart.features.matrix import Matrix, block_rows, pooled
from headstart.features.moments import class_sums

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# What is usual within the classes may also set an unknown class apart, and the more images there
# are, the less is left of it: of 1,100 digits of seven classes and those of three others, the area
# under the ROC curve was .818 with Ledoit and Wolf's shrinkage and .844 with a half at least;
# elsewhere it was the same.
_LEAST_SHRINKAGE = 0.5
# Less of a class is left after a unit went than rounding leaves.
_NOTHING = 1e-6


def roots(features: Float32s) -> Float32s:
    """Average spatial maps, take square roots (signs stay) and scale every row to length 1.

    A few loud channels then count less: distances are those of Hellinger between histograms.

    Args:
        features: (n_samples, *feature_shape) raw.

    Returns:
        (n_samples, n_columns); a row of zeros stays one.

    Source: Arandjelovic and Zisserman 2012, "Three things everyone should know to improve object
        retrieval", section 3 (RootSIFT); for Mahalanobis distances, scaling to length 1: Mueller
        and Hein 2025, "Mahalanobis++".
    """
    vectors = pooled(features)
    sizes = np.abs(vectors)
    totals = np.maximum(sizes.sum(axis=1, keepdims=True, dtype=np.float64), 1e-30)
    rooted: Float32s = np.copysign(np.sqrt(sizes / totals), vectors).astype(np.float32)
    return rooted


@dataclass(frozen=True)
class _Vectors:
    """Vectors whose products leave out what is usual: a @ b - (a @ usual) @ (b @ usual).

    Attributes:
        whole: (n_vectors, n_columns).
        usual: (n_vectors, rank), `whole @ usual`.
    """

    whole: Float64s
    usual: Float64s

    def products(self, other: "_Vectors") -> Float64s:
        """Return the products with other vectors, (n_vectors, n_others)."""
        return np.asarray(self.whole @ other.whole.T - self.usual @ other.usual.T)

    @cached_property
    def squares(self) -> Float64s:
        """(n_vectors,), the product of each with itself."""
        whole, usual = np.square(self.whole).sum(axis=1), np.square(self.usual).sum(axis=1)
        return np.asarray(whole - usual)

    def __getitem__(self, place: slice) -> "_Vectors":
        return _Vectors(self.whole[place], self.usual[place])


@dataclass(frozen=True)
class ClassGaussians:
    """Gaussians with a mean each and one covariance in common.

    Attributes:
        center: (n_columns,) what is subtracted from the roots of features.
        means: (n_classes, n_columns) of the classes that have images, centered.
        usual: (n_columns, rank) orthogonal directions that vary within the classes, as long as
            they take from a squared distance: 0 nothing, 1 all. The rest is Mahalanobis'
            distance, in units of the least variance.
    """

    center: Float32s
    means: Float32s
    usual: Float32s

    def distances(self, features: Float32s) -> Float64s:
        """Return the squared Mahalanobis distance to the nearest class, (n_samples,).

        Args:
            features: (n_samples, *feature_shape) raw.

        Source: Lee et al. 2018, "A Simple Unified Framework for Detecting Out-of-Distribution
            Samples and Adversarial Attacks", equation 2.
        """
        step = block_rows(features.shape[1:])
        near = [np.empty(0)]
        for start in range(0, len(features), step):
            images = self.place(features[start : start + step])
            squares = images.squares[:, None] + self.mean_vectors.squares
            squares -= 2 * images.products(self.mean_vectors)
            near.append(np.maximum(squares.min(axis=1), 0))
        return np.concatenate(near)

    def place(self, features: Float32s) -> _Vectors:
        """Return images, (n_samples, *feature_shape) raw, among the Gaussians."""
        return self._vectors(roots(features) - self.center)

    @cached_property
    def mean_vectors(self) -> _Vectors:
        """The means of the classes."""
        return self._vectors(self.means)

    def _vectors(self, centered: Float32s) -> _Vectors:
        usual = centered @ self.usual
        return _Vectors(centered.astype(np.float64), usual.astype(np.float64))


class Fit:
    """Gaussians of training images, and what they would be without some of those.

    Args:
        features: (n_all_rows, *feature_shape) raw, usually a map of the feature file.
        rows: (n_images,) those to fit.
        label: (n_images,) their classes, any numbers.
        unit: (n_images,) images that belong together share one of 0..n_units-1; each unit counts
            as one image, however many it has.

    Attributes:
        gaussians: What was fitted.
        shrinkage: How far the covariance was drawn towards a sphere, in [1/2, 1].
    """

    def __init__(self, features: Float32s, rows: Ints, label: Ints, unit: Ints) -> None:
        self._features, self._rows = features, rows
        _, self._class = np.unique(label, return_inverse=True)
        self._weight = 1 / np.bincount(unit)[unit]
        self._count = np.bincount(self._class, self._weight)
        order = np.argsort(unit, kind="stable")
        self._members = np.split(order, np.flatnonzero(np.diff(unit[order])) + 1)
        total, n_classes = float(self._count.sum()), len(self._count)
        matrix = Matrix(features, rows)

        def weighted(place: slice, block: Float32s) -> Float64s:
            return roots(block) * self._weight[place, None]

        exact = class_sums(matrix, self._class, n_classes, weighted) / self._count[:, None]
        center = (self._count @ exact / total).astype(np.float32)
        means = exact.astype(np.float32)
        variances, basis, fourth = self._spread(matrix, means, total)
        shrinkage, sphere = shrink(variances, fourth, total, len(center))
        self.shrinkage = max(shrinkage, _LEAST_SHRINKAGE)
        least = self.shrinkage * sphere
        stretched = (1 - self.shrinkage) * variances
        usual = basis * np.sqrt(stretched / (least + stretched)).astype(np.float32)
        self.gaussians = ClassGaussians(center, means - center, usual)
        # Of one image's residual in the covariance, in units of the least variance.
        self._share = (1 - self.shrinkage) / total / least

    def _spread(
        self, matrix: Matrix, means: Float32s, total: float
    ) -> tuple[Float64s, Float32s, float]:
        """Return variances within the classes, their directions and the mean of lengths ** 4.

        Returns:
            (rank,), (n_columns, rank), and of the residuals.
        """
        n_rows, n_columns = matrix.shape
        # Of the smaller of the two products, which have the same eigenvalues.
        few = n_rows < n_columns

        def residuals(place: slice, block: Float32s) -> tuple[Float32s, float]:
            found = roots(block) - means[self._class[place]]
            lengths = np.square(found).sum(axis=1, dtype=np.float64)
            fourth = float(self._weight[place] @ np.square(lengths)) / total
            found *= np.sqrt(self._weight[place, None] / total).astype(np.float32)
            return (found if few else found.T @ found), fourth

        parts = matrix.map(residuals)
        if not few:
            gram, fourth = np.zeros((n_columns, n_columns)), 0.0
            for product, one in parts:
                gram += product
                fourth += one
            values, vectors = np.linalg.eigh(gram)
            kept = _above_rounding(values)
            return values[kept], vectors[:, kept].astype(np.float32), fourth
        blocks, fourths = zip(*parts, strict=True)
        whole = np.concatenate(blocks)
        values, vectors = np.linalg.eigh((whole @ whole.T).astype(np.float64))
        kept = _above_rounding(values)
        basis = whole.T @ (vectors[:, kept] / np.sqrt(values[kept])).astype(np.float32)
        return values[kept], basis, sum(fourths)

    def left_out(self, units: Ints) -> Float64s:
        """Return how far the first image of each unit is from the classes without that unit.

        As if the Gaussians had been fitted anew each time, with the same shrinkage.

        Args:
            units: Which.

        Returns:
            (n_units,) squared Mahalanobis distance to the nearest class that is left; infinite
            where none is.
        """
        most = max(len(members) for members in self._members)
        step = max(1, block_rows(self._features.shape[1:]) // most)
        found = []
        for start in range(0, len(units), step):
            members = [self._members[unit] for unit in units[start : start + step]]
            positions = np.concatenate(members)
            images = self.gaussians.place(np.asarray(self._features[self._rows[positions]]))
            with_means = images.products(self.gaussians.mean_vectors)
            edges = np.cumsum([0, *map(len, members)])
            for index, positions in enumerate(members):
                own = slice(edges[index], edges[index + 1])
                found.append(self._without(images[own], with_means[own], positions))
        return np.array(found)

    @cached_property
    def _between_means(self) -> Float64s:
        return self.gaussians.mean_vectors.products(self.gaussians.mean_vectors)

    def _without(self, images: _Vectors, with_means: Float64s, positions: Ints) -> float:
        """Return the distance of the first of a unit's images without that unit.

        Args:
            images: (n_images, n_columns).
            with_means: (n_images, n_classes) products.
            positions: (n_images,) which they are.

        Source: Sherman, Morrison and Woodbury's formula of the inverse of a changed matrix.
        """
        classes, weight = self._class[positions], self._weight[positions]
        between, squares = self._between_means, images.products(images)
        # Products of the images' residuals with each other, and with what lies between each mean
        # and the first image.
        crossed = with_means[:, classes]
        residuals = squares - crossed - crossed.T + between[np.ix_(classes, classes)]
        along = (squares[:, :1] - crossed[:1].T - with_means + between[classes]).T
        distances = squares[0, 0] - 2 * with_means[0] + between.diagonal()
        # The covariance loses residuals' * taken * residuals: those of the unit's images, and as
        # the mean moves, those of the others.
        taken = np.diag(weight)
        for label in np.unique(classes):
            own = np.where(classes == label, weight, 0.0)
            left = self._count[label] - own.sum()
            if left <= _NOTHING:
                distances[label] = np.inf
                continue
            moved = own / left
            distances[label] += 2 * along[label] @ moved + moved @ residuals @ moved
            along[label] += residuals @ moved
            taken += np.outer(own, moved)
        lost = self._share * taken
        missing = np.linalg.solve(np.eye(len(positions)) - lost @ residuals, lost)
        return float((distances + ((along @ missing) * along).sum(axis=1)).min())


def _above_rounding(values: Float64s) -> npt.NDArray[np.bool_]:
    return np.asarray(values > max(values[-1], 0.0) * len(values) * np.finfo(np.float32).eps)


def shrink(
    variances: Float64s, fourth: float, n_samples: float, n_columns: int
) -> tuple[float, float]:
    """Return how far to draw a covariance towards a sphere, and the sphere's variance.

    Args:
        variances: (rank,) its eigenvalues other than 0.
        fourth: Mean of the residuals' lengths ** 4.
        n_samples: How many residuals there are, whose number the covariance is divided by.
        n_columns: How many columns they have.

    Returns:
        Shrinkage in [0, 1] and the mean variance; 1 and 1 where nothing varies.

    Source: Ledoit and Wolf 2004, "A well-conditioned estimator for large-dimensional covariance
        matrices", section 3.2.
    """
    total = float(variances.sum())
    # What rounding leaves of equal vectors of length 1 is no spread.
    if total <= np.finfo(np.float32).eps ** 2:
        return 1.0, 1.0
    variance = total / n_columns
    squares = float(np.square(variances).sum())
    apart = squares - total * variance
    noise = (fourth - squares) / n_samples
    if apart <= noise:
        return 1.0, variance
    return noise / apart, variance
