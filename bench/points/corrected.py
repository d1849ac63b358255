"""What correcting the labels that the audit lists is worth: test accuracy before and after."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bench.points.labels import KINDS, RATES, SETS, plant
from bench.results import table
from bench.sets import Sets, SplitSet
from headstart.audit.data import all_images
from headstart.audit.labels import judge
from headstart.common.threads import one_thread_each
from headstart.heads import create
from headstart.heads.options import LinearSVCOptions, LogisticOptions

HEADING = "Care: corrected labels"
HEADS = {
    "logistic": LogisticOptions(kind="logistic"),
    "linear_svc": LinearSVCOptions(kind="linear_svc"),
}
_COLUMNS = ("looked at", "planted left", "before", "after", "all right")


def measure(sets: Sets) -> list[str]:
    """Plant errors, correct what the audit lists, and return the section."""
    rows = []
    for name in (name for name in SETS if name in sets.names):
        for kind in KINDS:
            for share in RATES:
                found = [_draw(sets.split(name, seed), kind, share) for seed in range(sets.seeds)]
                for head in HEADS:
                    scores = np.array([one.scores[head] for one in found])
                    looked, left = np.mean([(one.listed, one.left) for one in found], axis=0)
                    rows.append(
                        [SETS[name], kind, f"{share:.0%}", head, f"{looked:.0%}", f"{left:.0%}"]
                        + [f"{one:.3f}" for one in scores.mean(axis=0)]
                    )
                print(*rows[-1], flush=True)
    return [
        f"{sets.seeds} splits each, errors planted in all images as in the section before; test "
        "accuracy on the right labels. looked at: share of the images that the audit lists, of "
        "which somebody corrects those that are wrong; planted left: share of the planted errors "
        "that stay; before: learned from the labels with errors; after: from the corrected ones; "
        "all right: from labels without errors.",
        "",
        *table(["set", "errors", "share", "head", *_COLUMNS], rows),
    ]


class _Draw:
    """One draw of errors: how many images are looked at, what stays, and what heads score."""

    def __init__(self, listed: float, left: float, scores: dict[str, tuple[float, ...]]) -> None:
        self.listed, self.left, self.scores = listed, left, scores


def _draw(split: SplitSet, kind: str, share: float) -> _Draw:
    file = split.file
    given = plant(file, share, kind, split.seed)
    with one_thread_each():
        judgement = judge(replace(all_images(file, (), split.seed), label=given))
    assert judgement is not None
    listed = judgement.rows[judgement.suspects]
    corrected = given.copy()
    corrected[listed] = file.label[listed]
    wrong = given != file.label
    return _Draw(
        len(listed) / len(given),
        float((corrected != file.label).sum() / wrong.sum()),
        {
            head: tuple(_score(split, head, label) for label in (given, corrected, file.label))
            for head in HEADS
        },
    )


def _score(split: SplitSet, name: str, label: NDArray[np.int64]) -> float:
    file, options = split.file, split.params.train
    data = split.training_data()
    head = create(HEADS[name], options.seed)
    head.fit(replace(data, label=label), refit=True)
    test = file.rows("test")
    named = head.predict_proba(file.features, test).argmax(axis=1)
    return float((named == file.label[test]).mean())
