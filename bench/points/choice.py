"""What a choice is worth: validation scores against test scores, and the price of a choice."""

import statistics
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.results import table
from bench.sets import Sets, SplitSet
from headstart import heads
from headstart.common.files import read_json
from headstart.common.threads import one_thread_each
from headstart.evaluation.choice import select
from headstart.heads import create
from headstart.heads.base import HELD_OUT_FILE
from headstart.heads.options import LinearSVCOptions, LogisticOptions
from headstart.heads.training import train_heads
from headstart.scoring.calibration import fit_temperature, losses_at
from headstart.scoring.metrics import log_loss, reliability
from headstart.scoring.predictions import Predictions

HEADING = "Quality: choice"
_OTHERS = ("LogisticRegressionCV", "CalibratedClassifierCV")
# As params.yaml stood before.
_BEFORE = "first by accuracy, then log loss; the curve's best score; not refitted"

Row = dict[str, float]


def measure(sets: Sets) -> list[str]:
    """Fit the default heads on every split of every set; return the section."""
    scores: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for split in sets.splits():
        with one_thread_each():
            found = {**_ours(split), **_before(split), **_others(split)}
        for name, value in found.items():
            scores[split.name][name].append(value)
        print(split.name, split.seed, {k: round(v, 4) for k, v in found.items()}, flush=True)
    return [
        f"{sets.seeds} splits of each set, EfficientNetLite0. Optimism: validation less test "
        "accuracy, in points; aim for logistic: at most 0.7 on the mean. Regret: test accuracy of "
        "the default head that is best on the mean of the splits, less that of the selected one; "
        f"aim: at most 0.3. Before: {_BEFORE}. Intervals are two standard errors over all splits.",
        "",
        *_optimism(scores),
        "",
        *_regret(scores),
        "",
        *_accuracies(scores),
        "",
        *_calibration(scores),
    ]


def _ours(split: SplitSet) -> Row:
    options = split.params.train.model_copy(update={"learning_curve": "none"})
    rows = split.file.rows("test")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        train_heads(
            split.file,
            options,
            models=folder / "heads",
            metrics=folder / "heads.json",
            plots=folder / "plots",
        )
        metrics = read_json(folder / "heads.json")
        held_out, sizes, test, sure = {}, {}, {}, {}
        for name in options.heads:
            head = heads.load(folder / "heads" / name)
            held_out[name] = Predictions.read(folder / "heads" / name / HELD_OUT_FILE)
            sizes[name] = head.card.parameters
            probabilities = head.predict_proba(split.file.features, rows)
            test[name] = _accuracy(probabilities, split)
            sure |= _sureness(name, probabilities, split)
    weight = np.ones(len(split.manifest.class_names))
    chosen = select(
        held_out,
        split.manifest,
        class_weight=weight,
        sizes=sizes,
        last="",
        first=next(iter(test)),
        seed=0,
    )
    return {
        **{f"test {name}": value for name, value in test.items()},
        **sure,
        "validation": metrics["logistic"]["validation"]["accuracy"],
        "selected": test[chosen["head"]],
        "selected validation": chosen["validation_accuracy"],
        "chosen by accuracy": test[
            max(held_out, key=lambda name: metrics[name]["validation"]["accuracy"])
        ],
    }


def _before(split: SplitSet) -> Row:
    """Choose and fit the linear heads as the state before did."""
    data = split.training_data()
    folds = data.folds(cheap=True)
    held_out = np.concatenate([fold.held_out for fold in folds])
    labels = data.label[held_out]
    judged = np.isin(held_out, data.validation) | (not data.validation_suffices)
    found = {}
    for given in (LogisticOptions(kind="logistic"), LinearSVCOptions(kind="linear_svc")):
        head = create(given, 0)
        settings = head._settings(data)
        paths = [list(head._path(data, one.train, one.held_out, settings)) for one in folds]
        best: tuple[float, float] | None = None
        for step in zip(*paths, strict=True):
            logits = np.concatenate([fit.logits for fit in step])
            right = logits.argmax(axis=1) == labels
            temperature = fit_temperature(logits, labels) or 1.0
            score = (float(right.mean()), -float(losses_at(temperature, logits, labels).mean()))
            if best is None or score > best:
                best, setting, accuracy = score, step[0].setting, float(right[judged].mean())
        test = split.file.rows("test")
        (fit,) = head._path(data, data.train, test, (setting,))
        found[f"before {given.kind}"] = float(
            (fit.logits.argmax(axis=1) == split.file.label[test]).mean()
        )
        found[f"before {given.kind} validation"] = accuracy
    return found


def _others(split: SplitSet) -> Row:
    """Let scikit-learn choose and calibrate by itself, on the same images."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    file = split.file
    train, test = file.rows("train", "validation"), file.rows("test")
    models = {
        "LogisticRegressionCV": make_pipeline(
            StandardScaler(), LogisticRegressionCV(Cs=10, cv=5, max_iter=200)
        ),
        "CalibratedClassifierCV": make_pipeline(
            StandardScaler(), CalibratedClassifierCV(LinearSVC(C=1e-3), cv=5)
        ),
    }
    found: Row = {}
    for name, model in models.items():
        model.fit(np.asarray(file.features[train]), file.label[train])
        probabilities = model.predict_proba(np.asarray(file.features[test]))
        found |= {name: _accuracy(probabilities, split), **_sureness(name, probabilities, split)}
    return found


def _accuracy(probabilities: NDArray[np.float64], split: SplitSet) -> float:
    labels = split.file.label[split.file.rows("test")]
    return float((probabilities.argmax(axis=1) == labels).mean())


def _sureness(name: str, probabilities: NDArray[np.float64], split: SplitSet) -> Row:
    labels = split.file.label[split.file.rows("test")]
    return {
        f"log loss {name}": log_loss(labels, probabilities),
        f"ECE {name}": reliability(labels, probabilities).expected_error,
    }


def _calibration(scores: dict[str, dict[str, list[float]]]) -> list[str]:
    rows = [
        [f"{name}, {measure}", *(f"{mean:.3f}" for mean in means), f"{statistics.mean(means):.4f}"]
        for measure in ("log loss", "ECE")
        for name in ("logistic", "linear_svc", *_OTHERS)
        for means in [[statistics.mean(one[f"{measure} {name}"]) for one in scores.values()]]
    ]
    return table(["calibration on test", *scores, "mean"], rows)


def _optimism(scores: dict[str, dict[str, list[float]]]) -> list[str]:
    pairs = {
        "logistic": ("validation", "test logistic"),
        "logistic before": ("before logistic validation", "before logistic"),
        "linear_svc before": ("before linear_svc validation", "before linear_svc"),
        "the selected head": ("selected validation", "selected"),
    }
    rows = []
    for name, (high, low) in pairs.items():
        gaps = {
            of: [a - b for a, b in zip(one[high], one[low], strict=True)]
            for of, one in scores.items()
        }
        rows.append([name, *(_points(statistics.mean(gap)) for gap in gaps.values()), _mean(gaps)])
    return table(["optimism", *scores, "mean"], rows)


def _regret(scores: dict[str, dict[str, list[float]]]) -> list[str]:
    rows = []
    names = {
        "the selected head": "selected",
        "first by accuracy alone": "chosen by accuracy",
        "always logistic": "test logistic",
    }
    for name, key in names.items():
        gaps = {}
        for of, one in scores.items():
            tests = {head: values for head, values in one.items() if head.startswith("test ")}
            best = max(tests.values(), key=statistics.mean)
            gaps[of] = [a - b for a, b in zip(best, one[key], strict=True)]
        rows.append([name, *(_points(statistics.mean(gap)) for gap in gaps.values()), _mean(gaps)])
    return table(["regret", *scores, "mean"], rows)


def _accuracies(scores: dict[str, dict[str, list[float]]]) -> list[str]:
    heads_of = [name for name in next(iter(scores.values())) if name.startswith("test ")]
    wanted = {
        "selected": "selected",
        **{name.removeprefix("test "): name for name in heads_of},
        "logistic before": "before logistic",
        "linear_svc before": "before linear_svc",
        **{name: name for name in _OTHERS},
    }
    rows = []
    for name, key in wanted.items():
        means = [statistics.mean(one[key]) for one in scores.values()]
        rows.append([name, *(f"{mean:.3f}" for mean in means), f"{statistics.mean(means):.4f}"])
    return table(["test accuracy", *scores, "mean"], rows)


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"


def _mean(gaps: dict[str, list[float]]) -> str:
    every = [value for gap in gaps.values() for value in gap]
    error = 2 * statistics.stdev(every) / len(every) ** 0.5 if len(every) > 1 else 0.0
    return f"{100 * statistics.mean(every):+.2f} (± {100 * error:.2f})"
