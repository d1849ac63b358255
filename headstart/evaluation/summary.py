"""The few scores that decide between models, for `dvc metrics diff` and `dvc exp show`.

Of a run with four heads all scores are some four hundred; what an edit has changed would be lost
among them. They stand in metrics/test.json and metrics/heads.json.
"""

from collections.abc import Mapping
from typing import Any

from headstart.dataset.manifest import Manifest
from headstart.evaluation.choice import is_right
from headstart.heads.base import HeadCard
from headstart.heads.finetuned_card import NAME as FINETUNED
from headstart.scoring.predictions import Predictions

_SELECTED = (
    "head", "validation_accuracy", "accuracy", "balanced_accuracy", "macro_f1", "log_loss",
)  # fmt: skip
_EACH = ("accuracy", "log_loss")


def summarize(
    content: Mapping[str, Any],
    cards: Mapping[str, HeadCard],
    held_out: Mapping[str, Predictions],
    manifest: Manifest,
) -> dict[str, Any]:
    """Return the selected model with its headline scores, and two scores of every model.

    Args:
        content: All test scores, as metrics/test.json has them.
        cards: Of the models that they are of.
        held_out: What each model said of images that it was not fitted to.
        manifest: Where their labels stand.
    """

    def told(name: str, scores: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "setting": cards[name].setting,
            **_validation(held_out.get(name), manifest),
            **_some(scores, _EACH),
        }

    summary: dict[str, Any] = {
        "selected": _some(content["selected"], _SELECTED),
        "heads": {name: told(name, scores) for name, scores in content["heads"].items()},
    }
    if "finetuned" in content:
        summary["finetuned"] = told(FINETUNED, content["finetuned"])
    return summary


def _some(scores: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: scores[name] for name in names if name in scores}


def _validation(held_out: Predictions | None, manifest: Manifest) -> dict[str, float]:
    if held_out is None or not len(held_out.image):
        return {}
    right = is_right(manifest.labels[held_out.image], held_out.probabilities)
    return {"validation_accuracy": float(right.mean())}
