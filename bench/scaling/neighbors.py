"""How many of the nearest images a search of a part finds, and what it takes."""

import time

import numpy as np

from bench.results import table
from headstart.features.approximate import ApproximateIndex
from headstart.features.neighbors import NeighborIndex

HEADING = "Scale: nearest images"
N_COLUMNS, N_CLASSES, RANK = 256, 1_000, 48
COUNTS = (10_000, 100_000, 1_000_000)
_QUERIES = 0.2
_COMPARED = 2_000
_AT_ONCE = 50_000


def _features(count: int) -> np.ndarray:
    """Draw images of classes that vary in few directions, as bottleneck features do."""
    rng = np.random.default_rng(0)
    basis = rng.standard_normal((RANK, N_COLUMNS)) * np.arange(1, RANK + 1)[:, None] ** -0.5
    centers = rng.standard_normal((N_CLASSES, RANK))
    features = np.empty((count, N_COLUMNS), np.float32)
    for start in range(0, count, _AT_ONCE):
        labels = rng.integers(0, N_CLASSES, min(_AT_ONCE, count - start))
        inside = centers[labels] + 0.7 * rng.standard_normal((len(labels), RANK))
        noise = 0.1 * rng.standard_normal((len(labels), N_COLUMNS))
        features[start : start + len(labels)] = inside @ basis + noise
    return features


def measure() -> list[str]:
    """Return the table."""
    rows = []
    for count in COUNTS:
        features = _features(count)
        rng = np.random.default_rng(1)
        chosen = rng.integers(0, count, int(_QUERIES * count))
        queries = features[chosen]
        # Every second one is another picture: between two of a class.
        queries[1::2] += 0.5 * (features[(chosen[1::2] + N_CLASSES) % count] - queries[1::2])
        queries += 0.05 * rng.standard_normal(queries.shape).astype(np.float32)
        begun = time.process_time()
        index = ApproximateIndex.of(features, np.arange(count))
        built = time.process_time()
        _, positions = index.search(queries, 2)
        searched = time.process_time()
        some = min(_COMPARED, len(queries))
        _, exact = NeighborIndex.of(features, np.arange(count)).search(queries[:some], 2)
        compared = time.process_time() - searched
        same = positions[:some] == exact
        rows.append(
            (
                f"{count:,}", f"{len(queries):,}", f"{built - begun:.1f}",
                f"{searched - built:.1f}", f"{compared * len(queries) / some:,.0f}",
                f"{same[::2, 0].mean():.4f}", f"{same[1::2, 0].mean():.4f}",
                f"{same[:, 1].mean():.4f}",
            )
        )  # fmt: skip
        print(*rows[-1], flush=True)
    header = [
        "images", "queries", "index, CPU s", "search, CPU s", "all compared, CPU s",
        "copies found", "nearest found", "second found",
    ]  # fmt: skip
    return [
        f"{N_COLUMNS} features, {N_CLASSES:,} classes in {RANK} directions. Recall beside a search "
        f"of all on {_COMPARED:,} queries, of which every second is a copy; the time of that is "
        "taken times the queries.",
        "",
        *table(header, rows),
    ]
