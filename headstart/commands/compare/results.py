"""What a comparison found, as one record that the table, the picture and the report draw from."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import reduce
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from headstart.commands.compare.answers import Answers
from headstart.commands.compare.halving import Dropped, Merit
from headstart.commands.compare.timing import PassTime
from headstart.scoring.intervals import paired_interval

SCHEMA = 1

Standing = Literal["winner", "tie", "better", "worse"]
Method = Literal["paired interval", "overlapping intervals"]
Cost = Literal["pass", "training"]
"""By what candidates are told apart besides accuracy: the time of a pass, or that of training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a candidate came to on all images, whenever it ran.

    Attributes:
        head: The model that is scored: the one that its own validation chose, or where fine-tuning
            is what is compared the fine-tuned one, or the head that it starts from.
        merit: What decides between it and the others.
        held_out: What its model said of images that it was not fitted to, nor chosen by.
        accuracy: Its test accuracy.
        interval: 95 % interval of it; None when the params ask for none.
        predictions: Which test images it got right.
        parameters: Learned values up to the cut, and of the head.
        rows: Rows of features, images and views.
        images: Images of its data set.
        classes: Classes of it.
        refit: Whether the model has learned from validation images, too, once they had chosen its
            settings; they are no less held out for that.
        training_seconds: How long the model took to train on this machine, without the passes that
            its features are; None where that is not known.
    """

    head: str
    merit: Merit
    held_out: Answers
    accuracy: float
    interval: tuple[float, float] | None
    predictions: Answers
    parameters: int
    rows: int
    images: int
    classes: int
    refit: bool
    training_seconds: float | None

    def as_json(self) -> dict[str, Any]:
        """Return JSON types, of which `from_json` makes the same."""
        content = {field.name: getattr(self, field.name) for field in fields(Outcome)}
        told = {
            "merit": asdict(self.merit),
            "held_out": self.held_out.as_json(),
            "predictions": self.predictions.as_json(),
        }
        return {**content, **told}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Outcome":
        """Return what `as_json` was told of."""
        interval = content["interval"]
        made = {
            "merit": Merit(**content["merit"]),
            "interval": None if interval is None else (interval[0], interval[1]),
            "held_out": Answers.from_json(content["held_out"]),
            "predictions": Answers.from_json(content["predictions"]),
        }
        return cls(**{**content, **made})


@dataclass(frozen=True, slots=True, kw_only=True)
class Result(Outcome):
    """One candidate of this comparison.

    Attributes:
        label: What sets it apart.
        experiment: Name of its DVC experiment.
        overrides: Its changes to params.yaml.
        time: Of one pass.
        computed: Images that went through the backbone in this run.
        seconds: How long this run took.
        on_front: Whether nothing else is at least as accurate and cheaper.
        against_winner: What the test images say of it and the winner.
    """

    label: str
    experiment: str
    overrides: dict[str, Any]
    time: PassTime
    computed: int
    seconds: float
    on_front: bool = False
    against_winner: Standing | None = None

    @classmethod
    def of(cls, outcome: Outcome, **found: Any) -> "Result":
        """Return an outcome with what this comparison found of it; see the attributes."""
        return cls(
            **{field.name: getattr(outcome, field.name) for field in fields(outcome)}, **found
        )

    @property
    def megabytes(self) -> float:
        """Size of the parameters in float32, 10^6 bytes."""
        return self.parameters * 4 / 1e6

    def cost(self, of: Cost) -> float:
        """Return its milliseconds per image, or its seconds of training."""
        return self.time.milliseconds if of == "pass" else self.training_seconds or 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The outcome.

    Attributes:
        results: The highest test accuracy first; of equals the cheapest.
        winner: Label of the best on validation, of equals the cheapest.
        method: How ties were found.
        cost: By what they are told apart besides accuracy.
        subject: What they have in common: "photos, EfficientNetLite0, 64 x 64 pixels".
        dropped: Labels given up on part of the images, the last to fall first.
        failed: Labels that did not run.
        computed: Images that went through a backbone in this run, rounds included.
        without_budget: How many it would have been with all candidates on all images, an empty
            store given.
    """

    results: tuple[Result, ...]
    winner: str
    method: Method
    cost: Cost
    subject: str
    dropped: tuple[Dropped[str], ...]
    failed: tuple[str, ...]
    computed: int
    without_budget: int

    def as_dict(self) -> dict[str, Any]:
        """Return JSON types."""
        return {
            "schema": SCHEMA,
            "winner": self.winner,
            "method": self.method,
            "cost": self.cost,
            "subject": self.subject,
            "candidates": [_as_dict(result) for result in self.results],
            "dropped": [
                {
                    "label": one.candidate,
                    "share": one.share,
                    "reason": one.reason,
                    **asdict(one.merit),
                }
                for one in self.dropped
            ],
            "failed": list(self.failed),
            "forward_passes": {
                "computed": self.computed,
                "without_budget": self.without_budget,
            },
        }


def compare(
    results: Sequence[Result], cost: Cost = "pass"
) -> tuple[tuple[Result, ...], str, Method]:
    """Order results, name the winner, mark the front and find ties.

    Where all have the same test images, they are chosen between on the images that every one of
    them has held out: a head is cross-validated on training images, too, and a fine-tuned model on
    validation images alone, which may be easier or harder ones.

    Args:
        results: At least one.
        cost: By what they are told apart besides accuracy.

    Returns:
        The results with their marks, the winner's label, and how ties were found.
    """
    paired = all(_same_images(results[0], one) for one in results)
    if paired:
        results = _on_common(results)
    winner = min(results, key=lambda one: (one.merit.rank, one.cost(cost)))
    front = pareto_front(
        np.array([one.accuracy for one in results]),
        np.array([one.cost(cost) for one in results]),
    )
    marked = []
    for one, on_front in zip(results, front, strict=True):
        standing: Standing | None
        if one is winner:
            standing = "winner"
        elif paired:
            standing = _paired(one, winner)
        else:
            standing = _by_intervals(one, winner)
        marked.append(replace(one, on_front=bool(on_front), against_winner=standing))
    marked.sort(key=lambda one: (-one.accuracy, one.cost(cost)))
    return (
        tuple(marked),
        winner.label,
        "paired interval" if paired else "overlapping intervals",
    )


def _on_common(results: Sequence[Result]) -> list[Result]:
    """Return results with the validation scores of the images that all of them have held out."""
    common = reduce(np.intersect1d, [one.held_out.images for one in results])
    if not len(common):
        return list(results)
    judged = []
    for one in results:
        held_out = one.held_out.of(common)
        merit = replace(
            one.merit,
            validation_accuracy=float(held_out.right.mean()),
            validation_log_loss=float(held_out.losses.mean()),
        )
        judged.append(replace(one, merit=merit, held_out=held_out))
    return judged


def pareto_front(scores: NDArray[np.float64], costs: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which candidates no other beats: none scores as high for less, or higher for as much.

    Args:
        scores: (n,), the higher the better.
        costs: (n,), the lower the better.

    Returns:
        (n,) bool; of two that are equal in both, both are on the front.
    """
    as_good = scores[:, None] <= scores[None, :]
    as_cheap = costs[:, None] >= costs[None, :]
    better = (scores[:, None] < scores[None, :]) | (costs[:, None] > costs[None, :])
    return np.asarray(~np.any(as_good & as_cheap & better, axis=1))


def _same_images(one: Result, other: Result) -> bool:
    first, second = one.predictions, other.predictions
    return np.array_equal(first.images, second.images) and np.array_equal(
        first.groups, second.groups
    )


def _paired(one: Result, winner: Result) -> Standing:
    difference = one.predictions.right - winner.predictions.right
    low, high = paired_interval(difference, winner.predictions.groups)
    return _standing(low, high)


def _by_intervals(one: Result, winner: Result) -> Standing | None:
    if one.interval is None or winner.interval is None:
        return None
    return _standing(one.interval[0] - winner.interval[1], one.interval[1] - winner.interval[0])


def _standing(low: float, high: float) -> Standing:
    if low > 0:
        return "better"
    return "worse" if high < 0 else "tie"


def _as_dict(result: Result) -> dict[str, Any]:
    return {
        "label": result.label,
        "experiment": result.experiment,
        "overrides": result.overrides,
        "head": result.head,
        **asdict(result.merit),
        "validation_images": len(result.held_out.right),
        "accuracy": result.accuracy,
        "interval": None if result.interval is None else list(result.interval),
        "test_images": len(result.predictions.right),
        **asdict(result.time),
        "parameters": result.parameters,
        "megabytes": result.megabytes,
        "training_seconds": result.training_seconds,
        "computed": result.computed,
        "seconds": result.seconds,
        "on_front": result.on_front,
        "against_winner": result.against_winner,
    }
