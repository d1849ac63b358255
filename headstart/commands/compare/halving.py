"""Successive halving: spend little on many candidates, and the rest on those that may be best."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from headstart.commands.compare.answers import Answers

Item = TypeVar("Item")

START = 0.1
"""The smallest share of the images that a round sees."""

FACTOR = math.sqrt(10)
"""From one round to the next the images grow, and the candidates shrink, by this; so that three
rounds lead from a tenth to all and each costs about as much."""

FINALISTS = 2
"""At least so many candidates get all images: the last choice is made on the whole data."""

HELD_OUT = 120
"""A round holds out so many images at least. Candidates five points of accuracy apart then differ
by six images, the fewest that a sign test can tell from chance at 95 %."""

HELD_OUT_PER_CLASS = 10
"""And so many for each class on average."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Merit:
    """What decides between candidates.

    Attributes:
        validation_accuracy: In [0, 1].
        multiply_adds: Of one pass. Few or easy images leave many candidates equally accurate; of
            these the cheaper is better.
        trained_parameters: How many values learned. Of equals of the same cost the smallest is
            better: those of a head are fewer than those of a part of the network.
        validation_log_loss: Decides between equals of the same cost and size.
    """

    validation_accuracy: float
    multiply_adds: int
    trained_parameters: int
    validation_log_loss: float

    @property
    def rank(self) -> tuple[float, int, int, float]:
        """Sorts candidates, the best first."""
        cost = self.multiply_adds, self.trained_parameters
        return -self.validation_accuracy, *cost, self.validation_log_loss

    def is_bettered_by(self, other: "Merit") -> bool:
        """Return whether the other is as accurate for less."""
        return (
            other.validation_accuracy >= self.validation_accuracy
            and other.multiply_adds < self.multiply_adds
        )


@dataclass(frozen=True, slots=True)
class Trial:
    """What a candidate came to in a round.

    Attributes:
        merit: Its scores and cost.
        answers: What it said of held-out images.
    """

    merit: Merit
    answers: Answers


Reason = Literal["worse", "tie"]
"""Why a candidate was given up: the best is better by more than chance, or a cheaper one is as
accurate."""


@dataclass(frozen=True, slots=True)
class Dropped(Generic[Item]):
    """A candidate that was given up.

    Attributes:
        candidate: Which.
        share: Share of the images at which it fell.
        merit: What it reached there.
        reason: Why.
    """

    candidate: Item
    share: float
    merit: Merit
    reason: Reason


Judge = Callable[[Sequence[Item], float, int], Sequence[Trial | None] | None]
"""Takes candidates, a share of the images and how many of them may stay; trains all on that share
and returns what they came to, None for those that failed, which take no further part; or None for
all where telling them apart would cost more than it saves."""


def needed(n_classes: int) -> int:
    """Return how many images a round must hold out."""
    return max(HELD_OUT, HELD_OUT_PER_CLASS * n_classes)


def shares(start: float) -> tuple[float, ...]:
    """Return the shares of the images that rounds see, the last of which is 1.

    Args:
        start: Of the first round. So large a one that little is left to save means no round.
    """
    found = []
    while start < 1 / math.sqrt(FACTOR):
        found.append(start)
        start *= FACTOR
    return (*found, 1.0)


def halve(
    candidates: Sequence[Item], judge: Judge[Item], *, start: float = START
) -> tuple[list[Item], list[Dropped[Item]]]:
    """Run all rounds but the last.

    A round drops those that the best of it beats by more than chance. Where more are left than the
    next round has room for, it also drops those that a cheaper one equals; what is neither stays,
    whatever it costs.

    Args:
        candidates: In the order in which they are tried; of equals the first stays.
        judge: Trains the candidates of a round.
        start: Share of the images of the first round.

    Returns:
        Those that deserve all images, in their first order, and those dropped, the last to fall
        first.

    Source: Jamieson and Talwalkar 2016, "Non-stochastic Best Arm Identification and
    Hyperparameter Optimization", algorithm 1, with a factor of the square root of 10 for 2; what
    may be dropped as in Maron and Moore 1994, "Hoeffding Races", by paired intervals.
    """
    left = list(candidates)
    dropped: list[Dropped[Item]] = []
    for share, following in itertools.pairwise(shares(start)):
        keep = max(FINALISTS, math.ceil(round(len(left) * share / following, 9)))
        # A round that drops nobody would only cost another training.
        judged = judge(left, share, keep) if keep < len(left) else None
        if judged is None:
            continue
        sound = [(one, trial) for one, trial in zip(left, judged, strict=True) if trial is not None]
        ranked = sorted(sound, key=lambda pair: pair[1].merit.rank)
        reasons = _fallen([trial for _, trial in ranked], keep)
        dropped[:0] = [
            Dropped(candidate, share, trial.merit, reason)
            for (candidate, trial), reason in zip(ranked, reasons, strict=True)
            if reason is not None
        ]
        stay = [one for (one, _), reason in zip(ranked, reasons, strict=True) if reason is None]
        left = [candidate for candidate in left if candidate in stay]
    return left, dropped


def _fallen(ranked: Sequence[Trial], keep: int) -> list[Reason | None]:
    """Return why each is given up, None for those that stay; the last are the first to fall."""
    reasons: list[Reason | None] = [None] * len(ranked)

    def give_up(at_least: int, reason: Reason, falls: Callable[[Trial], bool]) -> None:
        for place in reversed(range(len(ranked))):
            if reasons[place] is None and reasons.count(None) > at_least and falls(ranked[place]):
                reasons[place] = reason

    give_up(FINALISTS, "worse", lambda trial: trial.answers.is_behind(ranked[0].answers))
    give_up(
        keep,
        "tie",
        lambda trial: any(
            trial.merit.is_bettered_by(other.merit)
            for other, reason in zip(ranked, reasons, strict=True)
            if reason is None
        ),
    )
    return reasons
