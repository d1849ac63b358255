"""Are few-shot scores those of few shots? What is reported against what new images see."""

import statistics

import numpy as np

from bench.results import table
from bench.sets import Sets, SplitSet
from headstart.common.threads import one_thread_each
from headstart.heads import create
from headstart.heads.options import LogisticOptions
from headstart.heads.training import held_out_images

HEADING = "Quality: few shots"
SHOTS = (1, 2, 5, 10)
DRAWS = 5


def measure(sets: Sets) -> list[str]:
    """Fit the logistic head to a few images per class; return the section."""
    rows = []
    for shots in SHOTS:
        found = []
        for name in sets.names:
            split = sets.split(name)
            with one_thread_each():
                found += [_draw(split, shots, seed) for seed in range(DRAWS)]
            print(name, shots, np.round(np.mean(found[-DRAWS:], axis=0), 3), flush=True)
        test, told, before_told, before_test, theirs = zip(*found, strict=True)
        rows.append(
            [
                shots,
                _spread(test),
                _spread(told),
                _points(told, test),
                _spread(before_told),
                _points(before_told, before_test),
                _spread(theirs),
            ]
        )
    header = [
        "shots", "test", "validation", "validation - test (points)",
        "validation before", "before: validation - test (points)", "LogisticRegression(C=1)",
    ]  # fmt: skip
    return [
        f"The logistic head on so many images per class, mean over {len(sets.names)} sets and "
        f"{DRAWS} draws of the shots, with the mean spread over the draws of a set. Before, folds "
        "below `folds_below` trained on validation images too.",
        "",
        *table(header, rows),
    ]


def _draw(split: SplitSet, shots: int, seed: int) -> tuple[float, float, float, float, float]:
    from sklearn.linear_model import LogisticRegression

    file = split.file
    rows = file.rows("test")
    data = split.training_data(seed, shots)
    head = create(LogisticOptions(kind="logistic"), seed)
    judged = held_out_images(head, head.fit(data, refit=True), data)
    own = head.predict_proba(file.features, rows)
    # The rule before: the shots are few, the folds are not.
    mixed = split.training_data(seed).few(shots, seed)
    old = create(LogisticOptions(kind="logistic"), seed)
    report = old.fit(mixed)
    theirs = LogisticRegression(max_iter=500).fit(
        np.asarray(file.features[data.train_images]), data.label[data.train_images]
    )
    validation = np.isin(report.held_out, mixed.validation)

    def right(probabilities: np.ndarray, of: np.ndarray) -> float:
        return float((probabilities.argmax(axis=1) == file.label[of]).mean())

    return (
        right(own, rows),
        right(judged.probabilities, judged.rows),
        right(report.logits[validation], report.held_out[validation]),
        right(old.predict_proba(file.features, rows), rows),
        right(theirs.predict_proba(np.asarray(file.features[rows])), rows),
    )


def _spread(values: tuple[float, ...]) -> str:
    draws = np.reshape(values, (-1, DRAWS))
    return f"{statistics.mean(values):.3f} ± {draws.std(axis=1, ddof=1).mean():.3f}"


def _points(told: tuple[float, ...], test: tuple[float, ...]) -> str:
    gaps = np.subtract(told, test)
    return f"{100 * gaps.mean():+.1f} (± {200 * gaps.std(ddof=1) / len(gaps) ** 0.5:.1f})"
