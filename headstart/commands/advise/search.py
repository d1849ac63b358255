"""Which pilots are run within a time, and which way of fine-tuning they leave. Pure.

Successive halving over folds: a pilot trains on one fold and is judged on the images that it holds
out. Every way takes part in the first round, the better half in the next, on other images.

Source: Jamieson and Talwalkar 2016, "Non-stochastic Best Arm Identification and Hyperparameter
Optimization", algorithm 1.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from headstart.commands.advise.quality import gain_interval, standard_error
from headstart.commands.advise.strategies import Arm, Size

WORTH = 0.01
"""Expected gain below which the backbone stays frozen: a point.

A frozen head is fitted to the validation images, too, in the end (`train.refit`), for which it gets
most of a point back; and it takes no hours.
"""

_FEWEST_EPOCHS = 5
_FEWEST_PASSES = 1500
"""Below these a pilot says nothing about the run that it stands for; about 50 steps of 32."""

_SPREAD = 0.05
"""Standard deviation of what fine-tuning gains from one data set to another, about 0.

A few images that happen to like it are worth little: the gain that is to be expected lies between
what they say and 0, by how much they say. Source: the normal-normal model, Gelman et al., Bayesian
Data Analysis, section 2.5.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One pilot's score on the images that it held out, against the frozen head's.

    Attributes:
        gains: (n,) quality less that of the frozen head that learned from the same images.
        right: (n,) whether each was called what it is.
        losses: (n,) in nats.
        units: (n,) images of one number belong together.
        seconds: What the pilot took.
    """

    gains: npt.NDArray[np.float64]
    right: npt.NDArray[np.bool_]
    losses: npt.NDArray[np.float64]
    units: npt.NDArray[np.int64]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What the pilots of one way of fine-tuning came to.

    Attributes:
        arm: Which.
        size: Of each pilot.
        rounds: How many there were, each on other held-out images.
        predicted_seconds: Of all of them, by what was measured beforehand.
        seconds: What they took.
        images: Number of images that judged.
        accuracy: Of these.
        log_loss: Of these, at the temperature that suits them, in nats.
        gain: Mean gain in quality over the frozen head.
        interval: Of the gain, 95 %.
        error: Standard error of the gain.
    """

    arm: Arm
    size: Size
    rounds: int
    predicted_seconds: float
    seconds: float
    images: int
    accuracy: float
    log_loss: float
    gain: float
    interval: tuple[float, float]
    error: float

    @property
    def expected_gain(self) -> float:
        """The gain to be expected on other images, which is less than that on a few."""
        return self.gain * _SPREAD**2 / (_SPREAD**2 + self.error**2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The result of a search.

    Attributes:
        minutes: The limit.
        trials: One per way that was tried.
        finalists: Those of them that stayed to the last round.
        left_out: Ways for whose pilot there was no time, with the minutes of the shortest.
        why: Why there are no trials, or no further rounds.
    """

    minutes: float
    trials: tuple[Trial, ...]
    finalists: tuple[Arm, ...]
    left_out: tuple[tuple[Arm, float], ...]
    why: str

    @property
    def seconds(self) -> float:
        """What all pilots took."""
        return sum(trial.seconds for trial in self.trials)

    @property
    def best(self) -> Trial | None:
        """The finalist of which most is to be expected."""
        trials = [trial for trial in self.trials if trial.arm in self.finalists]
        return max(trials, key=lambda trial: trial.expected_gain, default=None)


class Lab(Protocol):
    """Where pilots are run."""

    def full_size(self, arm: Arm) -> Size:
        """Return what a whole run takes on one fold."""
        ...

    def seconds(self, arm: Arm, size: Size) -> float:
        """Return how long a pilot is expected to take."""
        ...

    def pilot(self, arm: Arm, size: Size, fold: int) -> Judged:
        """Run it, or take over what it came to earlier."""
        ...


def search(
    arms: Sequence[Arm],
    n_folds: int,
    minutes: float,
    lab: Lab,
    tell: Callable[[str], None] = lambda message: None,
) -> Found:
    """Try ways of fine-tuning within a time.

    A pilot that was kept counts with the seconds that it took: the same limit gives the same
    advice, and a longer one goes on from there.

    Args:
        arms: The ways; of two that gain the same the first stays.
        n_folds: How many rounds there can be.
        minutes: What all pilots together may take.
        lab: Runs them.
        tell: Takes a line before each pilot.
    """
    clock = _Clock(limit=60.0 * minutes)
    left, sizes, left_out = _plan(arms, n_folds, clock.limit, lab)
    expected = {arm: lab.seconds(arm, sizes[arm]) for arm in left}
    judged: dict[Arm, list[Judged]] = {arm: [] for arm in left}
    why = "every fold was used" if left else "no pilot fits into the time"
    for fold in range(n_folds if left else 0):
        if fold and not clock.has_room(expected[arm] for arm in left):
            left = left[:1]
            if not clock.has_room([expected[left[0]]]):
                why = "the time is used up"
                break
        for arm in left:
            # Those of the first round were planned together, but may take longer than was thought.
            if clock.spent and not clock.has_room([expected[arm]]):
                continue
            size, seconds = sizes[arm], clock.slower * expected[arm]
            tell(
                f"{describe(arm)}: pilot {fold + 1} of at most {n_folds}, {size.images} images x "
                f"{size.epochs} epochs, about {seconds / 60:.1f} min; "
                f"{(clock.limit - clock.spent) / 60:.1f} of {minutes:g} min left"
            )
            judged[arm].append(lab.pilot(arm, size, fold))
            clock.count(expected[arm], judged[arm][-1].seconds)
        if fold == 0:
            late = [arm for arm in left if not judged[arm]]
            left_out += [(arm, expected[arm] / 60) for arm in late]
            left = [arm for arm in left if judged[arm]]
        left = _halved(left, judged)
        if not left:
            why = "none gains what would be worth it"
            break
        if len(left) == 1 and _interval(judged[left[0]])[0] >= WORTH:
            why = "the gain is beyond doubt"
            break
    return Found(
        minutes=minutes,
        trials=tuple(
            _trial(arm, sizes[arm], parts, expected[arm]) for arm, parts in judged.items() if parts
        ),
        finalists=tuple(left),
        left_out=tuple(left_out),
        why=why,
    )


def describe(arm: Arm) -> str:
    """Return a way of fine-tuning in a few words."""
    return f"{arm.unfreeze} up to {arm.cut} at {arm.learning_rate:g}"


_TRUSTED = 60.0
"""Seconds of pilots that weigh as much as the prediction: the first one may be late by what happens
once, such as importing TensorFlow."""


@dataclass(slots=True)
class _Clock:
    limit: float
    predicted: float = 0.0
    spent: float = 0.0

    @property
    def slower(self) -> float:
        """By what factor pilots take longer than predicted: the machine may have other work."""
        return max((_TRUSTED + self.spent) / (_TRUSTED + self.predicted), 1.0)

    def count(self, predicted: float, spent: float) -> None:
        self.predicted += predicted
        self.spent += spent

    def has_room(self, seconds: Iterable[float]) -> bool:
        return self.spent + self.slower * sum(seconds) <= self.limit


def _plan(
    arms: Sequence[Arm], n_folds: int, limit: float, lab: Lab
) -> tuple[list[Arm], dict[Arm, Size], list[tuple[Arm, float]]]:
    """Choose how much pilots learn: as much as lets two rounds fit; the dearest go if none does."""
    left = list(arms)
    left_out: list[tuple[Arm, float]] = []
    while left:
        sizes = {arm: lab.full_size(arm) for arm in left}
        while True:
            cost = {arm: lab.seconds(arm, sizes[arm]) for arm in left}
            second = sorted(cost.values())[len(left) // 2 :] if n_folds > 1 else []
            if sum(cost.values()) + sum(second) <= limit:
                return left, sizes, left_out
            smaller = {arm: _smaller(size) for arm, size in sizes.items()}
            if smaller == sizes:
                break
            sizes = smaller
        # The shortest pilots in one round, rather than none in two.
        if sum(cost.values()) <= limit:
            return left, sizes, left_out
        # Of equals the last.
        dearest = max(reversed(left), key=cost.__getitem__)
        left_out.append((dearest, cost[dearest] / 60))
        left.remove(dearest)
    return left, {}, left_out


def _smaller(size: Size) -> Size:
    """Halve the epochs, then the images, as long as what is left says anything."""
    if size.epochs >= 2 * _FEWEST_EPOCHS:
        halved = Size(images=size.images, epochs=size.epochs // 2)
    else:
        halved = Size(images=size.images // 2, epochs=size.epochs)
    return halved if halved.passes >= _FEWEST_PASSES else size


def _halved(left: Sequence[Arm], judged: Mapping[Arm, Sequence[Judged]]) -> list[Arm]:
    """Return the better half, the best first, without those that surely gain too little."""
    ranked = sorted(left, key=lambda arm: -_gains(judged[arm])[0].mean())
    kept = ranked[: math.ceil(len(ranked) / 2)]
    return [arm for arm in kept if _interval(judged[arm])[1] >= WORTH]


def _gains(
    parts: Sequence[Judged],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    return (
        np.concatenate([part.gains for part in parts]),
        np.concatenate([part.units for part in parts]),
    )


def _interval(parts: Sequence[Judged]) -> tuple[float, float]:
    return gain_interval(*_gains(parts))


def _trial(arm: Arm, size: Size, parts: Sequence[Judged], expected: float) -> Trial:
    gains, units = _gains(parts)
    return Trial(
        arm=arm,
        size=size,
        rounds=len(parts),
        predicted_seconds=len(parts) * expected,
        seconds=sum(part.seconds for part in parts),
        images=len(gains),
        accuracy=float(np.concatenate([part.right for part in parts]).mean()),
        log_loss=float(np.concatenate([part.losses for part in parts]).mean()),
        gain=float(gains.mean()),
        interval=_interval(parts),
        error=standard_error(gains, units),
    )
