"""Successive halving: spend little on many candidates, and the rest on the best of them."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")

START = 0.1
"""Share of the images that every candidate gets."""

FACTOR = math.sqrt(10)
"""From one rung to the next the images grow, and the candidates shrink, by this; so that three
rungs lead from a tenth to all and each costs about as much."""

FINALISTS = 2
"""At least so many candidates get all images: the last choice is made on the whole data."""


@dataclass(frozen=True, slots=True)
class Rung:
    """One round.

    Attributes:
        share: Share of the images, in (0, 1].
        candidates: How many take part.
    """

    share: float
    candidates: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Merit:
    """What decides between candidates.

    Attributes:
        validation_accuracy: In [0, 1].
        multiply_adds: Of one pass. Few or easy images leave many candidates equally accurate; of
            these the cheaper is better.
        validation_log_loss: Decides between equals of the same cost.
    """

    validation_accuracy: float
    multiply_adds: int
    validation_log_loss: float

    @property
    def rank(self) -> tuple[float, int, float]:
        """Sorts candidates, the best first."""
        return -self.validation_accuracy, self.multiply_adds, self.validation_log_loss


@dataclass(frozen=True, slots=True)
class Dropped(Generic[Item]):
    """A candidate that was given up.

    Attributes:
        candidate: Which.
        share: Share of the images at which it fell.
        merit: What it reached there.
    """

    candidate: Item
    share: float
    merit: Merit


Judge = Callable[[Sequence[Item], float, int], Sequence[Merit | None] | None]
"""Takes candidates, a share of the images and how many of them may stay; trains all on that share
and returns their merits, None for those that failed, which take no further part; or None for all
where telling them apart would cost more than it saves."""


def plan(candidates: int) -> tuple[Rung, ...]:
    """Return the rounds for so many candidates; the last one has all images.

    Source: Jamieson and Talwalkar 2016, "Non-stochastic Best Arm Identification and
    Hyperparameter Optimization", algorithm 1, with a factor of the square root of 10 for 2.
    """
    rungs = []
    share, left = START, candidates
    while share < 1 / math.sqrt(FACTOR):
        kept = min(left, max(FINALISTS, math.ceil(left / FACTOR)))
        # A round that drops nobody would only cost another training.
        if kept < left:
            rungs.append(Rung(share, left))
            left = kept
        share *= FACTOR
    return (*rungs, Rung(1.0, left))


def halve(candidates: Sequence[Item], judge: Judge[Item]) -> tuple[list[Item], list[Dropped[Item]]]:
    """Run all rounds but the last.

    Args:
        candidates: In the order in which they are tried; of equals the first stays.
        judge: Trains the candidates of a round.

    Returns:
        Those that deserve all images, in their first order, and those dropped, the last to fall
        first.
    """
    left = list(candidates)
    dropped: list[Dropped[Item]] = []
    for rung, following in itertools.pairwise(plan(len(left))):
        judged = judge(left, rung.share, following.candidates)
        if judged is None:
            continue
        sound = [
            (candidate, merit)
            for candidate, merit in zip(left, judged, strict=True)
            if merit is not None
        ]
        ranked = sorted(sound, key=lambda pair: pair[1].rank)
        stay = [candidate for candidate, _ in ranked[: following.candidates]]
        fallen = ranked[following.candidates :]
        dropped[:0] = [Dropped(candidate, rung.share, merit) for candidate, merit in fallen]
        left = [candidate for candidate in left if candidate in stay]
    return left, dropped
