"""How often the intervals hold what they are said to hold, and how wide they are for that."""

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, binomtest

from bench.results import table
from bench.sets import Sets
from headstart.scoring.intervals import accuracy_interval, paired_interval, score_intervals

HEADING = "Quality: intervals"

Values = NDArray[np.float64]
Ends = tuple[float, float]

_TAILS = (0.025, 0.975)
_RIGHT = (0.5, 0.9, 0.97, 0.99)
_SIZES = (40, 120, 400)
_RESAMPLES = 1000
_DRAWS = 200
_PAIRED_DRAWS = 1000


def measure(sets: Sets) -> list[str]:
    """Simulate what is known, so that it can be counted how often an interval holds it."""
    del sets  # nothing is measured on pictures: there nobody knows the truth
    return [
        "How often a 95 % interval holds the true value, and in brackets its mean width. Aim: at",
        "least .945 everywhere, and no needless width. Before: the percentile bootstrap with",
        f"{_RESAMPLES} draws, with the binomial lower end for a score of 1. Accuracy without",
        f"groups is summed over the binomial distribution; the rest is drawn, {_DRAWS} times (half",
        f"as often F1 and log loss, {_PAIRED_DRAWS} times pairs): a coverage of .95 is known to",
        ".015 (.022, .007).",
        "",
        "Accuracy, images without groups:",
        "",
        *_alone(),
        "",
        "Accuracy, images in groups of 1 to 6, whose intraclass correlation is rho:",
        "",
        *_grouped(),
        "",
        "Balanced accuracy, by the number of classes and the size of the largest to the smallest:",
        "",
        *_balanced(),
        "",
        "Macro F1 and log loss, five classes 20 to 1, logits of spread 3:",
        "",
        *_soft(),
        "",
        "Difference of two models that are alone right on so many images; where that is as many,",
        "coverage is 1 less the share of leads found where none is. McNemar: the exact test.",
        "",
        *_paired(),
    ]


def _cell(low: Values, high: Values, true: float, weights: Values | None = None) -> str:
    holds = (low <= true + 1e-12) & (true - 1e-12 <= high)
    return (
        f"{np.average(holds, weights=weights):.3f} ({np.average(high - low, weights=weights):.3f})"
    )


def _of(pairs: Sequence[Ends], true: float, weights: Values | None = None) -> str:
    ends = np.array(pairs)
    return _cell(ends[:, 0], ends[:, 1], true, weights)


def _wilson(right: int, n: int) -> Ends:
    found = binomtest(right, n).proportion_ci(0.95, method="wilson")
    return found.low, found.high


def _alone() -> list[str]:
    rows = []
    for n in _SIZES:
        for p in _RIGHT:
            likely = np.flatnonzero(binom.pmf(np.arange(n + 1), n, p) > 1e-7)
            weights = binom.pmf(likely, n, p)
            ours = [_accuracy(np.arange(n) < k, np.full(n, -1)) for k in likely]
            # The bootstrap of k right of n draws from a binomial distribution: no need to draw.
            before = [
                (0.025 ** (1 / n), 1.0) if k == n else tuple(binom.ppf(_TAILS, n, k / n) / n)
                for k in likely
            ]
            wilson = [_wilson(int(k), n) for k in likely]
            rows.append([n, p, *(_of(one, p, weights) for one in (ours, before, wilson))])
    return table(["images", "accuracy", "ours", "before", "Wilson"], rows)


def _accuracy(right: NDArray[np.bool_], groups: NDArray[np.int64]) -> Ends:
    low, high = accuracy_interval(right.astype(np.float64), groups)
    return low, high


def _grouped() -> list[str]:
    rng = np.random.default_rng(0)
    rows = []
    for rho in (0.0, 0.3, 1.0):
        for n in _SIZES:
            for p in _RIGHT:
                ours, before, wilson = [], [], []
                for _ in range(_DRAWS):
                    sizes = rng.integers(1, 7, n)
                    groups = np.repeat(np.arange(n), sizes)
                    right = rng.random(len(groups)) < _shares(rng, p, rho, n)[groups]
                    hits = np.bincount(groups, right, n)
                    ours.append(_accuracy(right, groups))
                    weights = _weights(rng, n)
                    drawn = (weights @ hits) / (weights @ sizes)
                    before.append(
                        (0.025 ** (1 / n), 1.0)
                        if right.all()
                        else tuple(np.quantile(drawn, _TAILS))
                    )
                    wilson.append(_wilson(int(right.sum()), len(right)))
                rows.append([rho, n, p, *(_of(one, p) for one in (ours, before, wilson))])
    header = ["rho", "groups", "accuracy", "ours", "before", "Wilson, groups ignored"]
    return table(header, rows)


def _shares(rng: np.random.Generator, p: float, rho: float, n: int) -> Values:
    """Return the share of its images that each group has right, in the long run."""
    if rho in (0, 1):
        return np.full(n, p) if rho == 0 else (rng.random(n) < p).astype(np.float64)
    return rng.beta(p * (1 / rho - 1), (1 - p) * (1 / rho - 1), n)


def _weights(rng: np.random.Generator, n: int) -> Values:
    """Return how often each of n is drawn in n draws with replacement, (n_resamples, n)."""
    drawn = rng.integers(0, n, (_RESAMPLES, n)) + n * np.arange(_RESAMPLES)[:, None]
    return np.bincount(drawn.ravel(), minlength=n * _RESAMPLES).reshape(-1, n).astype(np.float64)


def _sizes_of(n_classes: int, ratio: float, n: int) -> NDArray[np.int64]:
    shares = np.geomspace(ratio, 1, n_classes)
    return np.maximum(1, np.round(n * shares / shares.sum())).astype(np.int64)


def _balanced() -> list[str]:
    rng = np.random.default_rng(0)
    rows = []
    for n_classes in (2, 5, 10, 50):
        for ratio in (1, 20):
            for n in (120, 400) if n_classes > 10 else (40, 400):
                sizes = _sizes_of(n_classes, ratio, n)
                for p in _RIGHT:
                    known: dict[bytes, tuple[Ends, Ends]] = {}
                    pairs = []
                    for _ in range(_DRAWS):
                        hits = rng.binomial(sizes, p)
                        key = hits.tobytes()
                        if key not in known:
                            known[key] = (_ours_balanced(sizes, hits), _drawn(rng, sizes, hits))
                        pairs.append(known[key])
                    cells = [_of([pair[i] for pair in pairs], p) for i in range(2)]
                    rows.append([n_classes, f"{ratio} : 1", sizes.sum(), p, *cells])
    return table(["classes", "sizes", "images", "recall", "ours", "before"], rows)


def _ours_balanced(sizes: NDArray[np.int64], hits: NDArray[np.int64]) -> Ends:
    n_classes = len(sizes)
    labels = np.repeat(np.arange(n_classes), sizes)
    turn = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    called = np.where(turn < hits[labels], labels, (labels + 1) % n_classes)
    probabilities = 0.8 * np.eye(n_classes)[called] + 0.2 / n_classes
    found = score_intervals(labels, probabilities, np.full(len(labels), -1))
    low, high = found["balanced_accuracy"]
    return low, high


def _drawn(rng: np.random.Generator, sizes: NDArray[np.int64], hits: NDArray[np.int64]) -> Ends:
    if (hits == sizes).all():
        return float(0.025 ** (1 / sizes.sum())), 1.0
    cells = np.concatenate([hits, sizes - hits])
    drawn = rng.multinomial(cells.sum(), cells / cells.sum(), _RESAMPLES)
    right, wrong = drawn[:, : len(sizes)], drawn[:, len(sizes) :]
    total = right + wrong
    recall = np.divide(right, total, out=np.full(right.shape, np.nan), where=total > 0)
    low, high = np.quantile(np.nanmean(recall, axis=1), _TAILS)
    return float(low), float(high)


def _soft() -> list[str]:
    rng = np.random.default_rng(0)
    rows = []
    for p in (0.9, 0.97, 0.99):
        true = _population(rng, p)
        for n in _SIZES:
            labels = np.repeat(np.arange(5), _sizes_of(5, 20, n))
            ours, before = [], []
            for _ in range(_DRAWS // 2):
                probabilities = _predictions(rng, labels, p)
                found = score_intervals(labels, probabilities, np.full(len(labels), -1))
                ours.append((found["macro_f1"], found["log_loss"]))
                before.append(_drawn_soft(rng, labels, probabilities))
            cells = [
                _of([one[score] for one in found], true[score])
                for score in (0, 1)
                for found in (ours, before)
            ]
            rows.append([p, len(labels), *cells])
    return table(["recall", "images", "F1", "F1 before", "log loss", "log loss before"], rows)


def _predictions(rng: np.random.Generator, labels: NDArray[np.int64], p: float) -> Values:
    """Return probabilities, (n_samples, 5), of margins that are normal with a spread of 3."""
    margin = rng.normal(3 * NormalDist().inv_cdf(p), 3, len(labels))
    called = np.where(margin > 0, labels, (labels + rng.integers(1, 5, len(labels))) % 5)
    confidence = 1 / (1 + 4 * np.exp(-np.abs(margin)))
    probabilities = np.repeat(((1 - confidence) / 4)[:, None], 5, axis=1)
    probabilities[np.arange(len(labels)), called] = confidence
    return probabilities


def _population(rng: np.random.Generator, p: float) -> tuple[float, float]:
    labels = np.repeat(np.arange(5), _sizes_of(5, 20, 1_000_000))
    return _soft_scores(np.ones((1, len(labels))), labels, _predictions(rng, labels, p))[0]


def _drawn_soft(
    rng: np.random.Generator, labels: NDArray[np.int64], probabilities: Values
) -> tuple[Ends, Ends]:
    n = len(labels)
    weights = _weights(rng, n)
    ends = np.quantile(np.array(_soft_scores(weights, labels, probabilities)), _TAILS, axis=0)
    f1 = (float(ends[0, 0]), float(ends[1, 0]))
    if (probabilities.argmax(axis=1) == labels).all():
        f1 = (float(0.025 ** (1 / n)), 1.0)
    return f1, (float(ends[0, 1]), float(ends[1, 1]))


def _soft_scores(
    weights: Values, labels: NDArray[np.int64], probabilities: Values
) -> list[tuple[float, float]]:
    """Return macro F1 and log loss by weights, (n_draws, n_samples)."""
    predicted = probabilities.argmax(axis=1)
    of, called = np.eye(5)[labels], np.eye(5)[predicted]
    support, both = weights @ of, weights @ of + weights @ called
    hits = weights @ (of * called)
    f1 = np.divide(2 * hits, both, out=np.full(hits.shape, np.nan), where=support > 0)
    losses = -np.log(probabilities[np.arange(len(labels)), labels])
    loss = weights @ losses / weights.sum(axis=1)
    return list(zip(np.nanmean(f1, axis=1), loss, strict=True))


def _paired() -> list[str]:
    rng = np.random.default_rng(0)
    rows = []
    for n in _SIZES:
        for ahead, behind in (
            (0.01, 0.01), (0.05, 0.05), (0.15, 0.15), (0.03, 0.01), (0.06, 0.01), (0.12, 0.02)
        ):  # fmt: skip
            counts = rng.multinomial(n, [ahead, behind, 1 - ahead - behind], _PAIRED_DRAWS)
            cells, index = np.unique(counts, axis=0, return_inverse=True)
            ours = np.array([_ours_paired(cell) for cell in cells])[index.ravel()]
            before = np.array([_drawn_paired(rng, cell) for cell in cells])[index.ravel()]
            exact = np.array([binomtest(a, max(a + b, 1)).pvalue if a + b else 1.0
                              for a, b, _ in cells])[index.ravel()]  # fmt: skip
            true = ahead - behind
            rows.append(
                [n, f"{ahead:.2f}, {behind:.2f}", _of(ours, true), _of(before, true),
                 _leads(ours), _leads(before), f"{np.mean(exact < 0.05):.3f}"]
            )  # fmt: skip
    header = ["images", "alone right", "ours", "before", "leads", "leads before", "McNemar's"]
    return table(header, rows)


def _leads(ends: Values) -> str:
    return f"{np.mean((ends[:, 0] > 0) | (ends[:, 1] < 0)):.3f}"


def _ours_paired(counts: NDArray[np.int64]) -> Ends:
    differences = np.repeat([1.0, -1.0, 0.0], counts)
    low, high = paired_interval(differences, np.full(len(differences), -1))
    return low, high


def _drawn_paired(rng: np.random.Generator, counts: NDArray[np.int64]) -> Ends:
    n = counts.sum()
    drawn = rng.multinomial(n, counts / n, _RESAMPLES)
    low, high = np.quantile((drawn[:, 0] - drawn[:, 1]) / n, _TAILS)
    return float(low), float(high)
