"""Planted label errors: how many of them the audit finds, beside cleanlab."""

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.results import table
from bench.sets import Sets, SplitSet
from headstart.audit.data import all_images
from headstart.audit.labels import Judgement, judge
from headstart.common.threads import one_thread_each
from headstart.features.file import FeatureFile
from headstart.features.neighbors import directions

HEADING = "Care: planted label errors"
SETS = {"pets": "cats_dogs", "faces": "faces", "digits": "digits"}
RATES = (0.05, 0.1)
KINDS = ("uniform", "look-alike")
_VERSION = "2.9.*"
_MEASURES = ("precision", "AP", "recall", "precision of listed")

# What cleanlab is asked, in an environment of its own.
_THEIRS = """
import json, sys
import numpy as np
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
given = np.load(sys.argv[1])
for number in range(len(given.files) // 2):
    labels, probabilities = given[f"labels{number}"], given[f"probabilities{number}"]
    scores = get_label_quality_scores(labels, probabilities)
    listed = find_label_issues(labels, probabilities, n_jobs=1)
    print(json.dumps({"scores": scores.tolist(), "listed": np.flatnonzero(listed).tolist()}))
"""


@dataclass(frozen=True)
class Case:
    """A set with errors in its labels, and what the audit says of them.

    Attributes:
        name: Of the set, with kind and share of the errors.
        split: The set.
        label: (n_rows,) the labels with errors.
        judgement: Of the audit.
    """

    name: tuple[str, str, float]
    split: SplitSet
    label: NDArray[np.int64]
    judgement: Judgement

    @property
    def planted(self) -> NDArray[np.bool_]:
        """(n_judged,) whether the label was changed."""
        return (self.label != self.split.file.label)[self.judgement.rows]


def plant(file: FeatureFile, share: float, kind: str, seed: int) -> NDArray[np.int64]:
    """Return the labels of a file, (n_rows,), of which a share is wrong.

    Args:
        file: The features, one row per image.
        share: Of the images.
        kind: "uniform" draws images and their wrong classes alike; "look-alike" draws among the
            half of the images that are most like another class, and gives them that.
        seed: Of the draw.
    """
    generator = np.random.default_rng(seed)
    label = file.label.copy()
    count, n_classes = round(share * len(label)), len(file.header.class_names)
    if kind == "uniform":
        at = generator.choice(len(label), count, replace=False)
        label[at] = (label[at] + generator.integers(1, n_classes, count)) % n_classes
        return label
    features = np.asarray(file.features)
    vectors = directions(features, features.mean(axis=0))
    means = np.stack([vectors[label == one].mean(axis=0) for one in range(n_classes)])
    likeness = vectors @ means.T
    own = likeness[np.arange(len(label)), label]
    likeness[np.arange(len(label)), label] = -np.inf
    nearest_half = np.argsort(own - likeness.max(axis=1), kind="stable")[: len(label) // 2]
    at = generator.choice(nearest_half, count, replace=False)
    label[at] = likeness[at].argmax(axis=1)
    return label


def cases(sets: Sets, names: list[str]) -> list[Case]:
    """Plant errors in every set, with every seed, and let the audit judge."""
    found = []
    for name in names:
        split = sets.split(name)
        for kind in KINDS:
            for share in RATES:
                for seed in range(sets.seeds):
                    label = plant(split.file, share, kind, seed)
                    with one_thread_each():
                        data = replace(all_images(split.file, (), seed), label=label)
                        judgement = judge(data)
                    assert judgement is not None
                    found.append(Case((SETS[name], kind, share), split, label, judgement))
                print(*found[-1].name, flush=True)
    return found


def measure(sets: Sets) -> list[str]:
    """Plant errors, look for them, and return the section."""
    names = [name for name in SETS if name in sets.names]
    found = cases(sets, names)
    theirs = _cleanlab(sets, found)
    rows, means = [], []
    for name in dict.fromkeys(case.name for case in found):
        own = [(case, theirs and theirs[i]) for i, case in enumerate(found) if case.name == name]
        ours = np.mean([_scored(case, case.judgement.odds, _listed(case)) for case, _ in own], 0)
        others = [_scored(case, -other["scores"], other["listed"]) for case, other in own if other]
        means.append((ours, np.mean(others, axis=0) if others else None))
        sums = [case.judgement.score.sum() / case.planted.sum() for case, _ in own]
        rows.append(_row(name, *means[-1], f"{np.mean(sums):.2f}"))
    averages = [None if of[0] is None else np.mean(of, axis=0) for of in zip(*means, strict=True)]
    rows.append(_row(("mean", "", None), *averages, ""))
    clean = []
    for name in names:
        split = sets.split(name)
        judgement = judge(all_images(split.file, (), 0))
        assert judgement is not None
        clean.append(
            f"{SETS[name]} {len(judgement.suspects)} listed, "
            f"{(judgement.odds > 0).sum()} more likely wrong than right, "
            f"scores sum to {judgement.score.sum():.1f}"
        )
    said = "" if theirs else " cleanlab could not be installed here."
    return [
        f"{sets.seeds} draws each of wrong labels, EfficientNetLite0, all images of a set. "
        "Look-alike: among the half of the images that are most like another class, which they "
        "are given. precision: share of planted ones among as many of the highest scores; AP: "
        "average precision; recall: share of the planted ones that are listed. In each column "
        "`headstart audit`, then cleanlab 2.9 on the same out-of-fold probabilities (its label "
        "quality scores, and its own list)." + said + " The last column is the sum of the scores, "
        "which are meant as probabilities, over the number planted. The sets have some mislabelled "
        "or doubtful images of their own, which count as mistakes here. Aim, cats_dogs, uniform: "
        "precision and recall of 0.9.",
        "",
        *table(["set", "errors", "share", *_MEASURES, "sum / planted"], rows),
        "",
        f"Without planted errors: {'; '.join(clean)}.",
    ]


def _row(
    name: tuple[str, str, float | None],
    ours: NDArray[np.float64],
    theirs: NDArray[np.float64] | None,
    total: str,
) -> list[str]:
    shown = [f"{one:.3f}" for one in ours]
    if theirs is not None:
        shown = [f"{one} / {other:.3f}" for one, other in zip(shown, theirs, strict=True)]
    return [name[0], name[1], f"{name[2]:.0%}" if name[2] else "", *shown, total]


def _listed(case: Case) -> NDArray[np.int64]:
    return case.judgement.suspects


def _scored(case: Case, score: NDArray[np.float64], listed: NDArray[np.int64]) -> list[float]:
    """Return the measures of `_MEASURES`."""
    planted = case.planted
    in_order = planted[np.argsort(-score, kind="stable")]
    precision = np.cumsum(in_order) / np.arange(1, len(in_order) + 1)
    hits = planted[listed].sum()
    return [
        in_order[: planted.sum()].mean(),
        precision[in_order].mean(),
        hits / planted.sum(),
        hits / max(len(listed), 1),
    ]


def _cleanlab(sets: Sets, found: list[Case]) -> list[dict[str, Any]] | None:
    """Ask cleanlab of all cases; None where it cannot be installed."""
    folder = sets.root / "cleanlab"
    python = folder / "bin" / "python"
    if not (folder / "ready").is_file():
        try:
            subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
            install = [python, "-m", "pip", "install", "--quiet", f"cleanlab=={_VERSION}"]
            subprocess.run(install, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"cleanlab {_VERSION} cannot be installed, so it is left out: {error}")
            return None
        (folder / "ready").touch()
    given = folder / "given.npz"
    arrays: dict[str, NDArray[Any]] = {}
    for number, case in enumerate(found):
        arrays[f"labels{number}"] = case.judgement.label
        arrays[f"probabilities{number}"] = case.judgement.probabilities
    np.savez(given, **arrays)
    done = subprocess.run(
        [python, "-c", _THEIRS, given], check=True, capture_output=True, text=True, env={}
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    return [
        {"scores": np.array(one["scores"]), "listed": np.array(one["listed"], np.int64)}
        for one in answers
    ]
