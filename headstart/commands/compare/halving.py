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


@dataclass(frozen=True, slots=True, order=True)
class Score:
    """What decides who stays; the larger the better.

    Attributes:
        accuracy: On validation, in [0, 1].
        negative_log_loss: Settles ties of accuracy, which small rungs are full of.
    """

    accuracy: float
    negative_log_loss: float


@dataclass(frozen=True, slots=True)
class Dropped(Generic[Item]):
    """A candidate that was given up.

    Attributes:
        candidate: Which.
        share: Share of the images at which it fell.
        score: Its validation score there.
    """

    candidate: Item
    share: float
    score: Score


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


def cost(rungs: Sequence[Rung]) -> float:
    """Return the forward passes over all images that the rounds amount to.

    What a candidate has computed in an earlier round lies in the feature store, so it pays for
    the images that are new to it.
    """
    done = 0.0
    total = 0.0
    for rung in rungs:
        total += rung.candidates * (rung.share - done)
        done = rung.share
    return total


def halve(
    candidates: Sequence[Item], score: Callable[[Item, float], Score | None]
) -> tuple[list[Item], list[Dropped[Item]]]:
    """Run all rounds but the last.

    Args:
        candidates: In the order in which they are tried; it settles what scores leave open.
        score: Gives the validation score of a candidate trained on a share of the images, or None
            when it failed; it then takes no further part.

    Returns:
        Those that deserve all images, in their first order, and those dropped, the last to fall
        first.
    """
    left = list(candidates)
    dropped: list[Dropped[Item]] = []
    rungs = plan(len(left))
    for rung, following in itertools.pairwise(rungs):
        scored = [(score(candidate, rung.share), candidate) for candidate in left]
        sound = [(value, candidate) for value, candidate in scored if value is not None]
        ranked = sorted(sound, key=lambda pair: pair[0], reverse=True)
        fallen = ranked[following.candidates :]
        dropped[:0] = [Dropped(candidate, rung.share, value) for value, candidate in fallen]
        stay = [candidate for _, candidate in ranked[: following.candidates]]
        left = [candidate for candidate in left if candidate in stay]
    return left, dropped
