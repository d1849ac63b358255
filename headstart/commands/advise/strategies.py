"""The ways of fine-tuning that are tried, and the values of params.yaml that each stands for."""

import math
from dataclasses import dataclass
from typing import Any, Literal

Unfreeze = Literal["last_block", "all", "scratch"]

STEPS = 150
"""Steps that a run takes at least: on few images what counts is steps, not epochs.

Source: Kolesnikov et al., Big Transfer (BiT), ECCV 2020, section 3.3: a schedule in steps, the
shortest for the smallest data; 500 with SGD from a new head. Adam from a fitted head needs fewer.
"""

EPOCHS = (10, 40)
"""Fewest and most epochs of a run; training from scratch takes three times as many."""

_SCRATCH = 3

_FAST, _SLOW = 1e-3, 3e-4
"""Learning rates. Source: Adam's own default, and a third of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """A way of fine-tuning.

    Attributes:
        unfreeze: What learns.
        cut: Where the features of the head are taken; what lies above is cut off.
        l2: Penalty of the head that it starts from.
        learning_rate: Its peak.
    """

    unfreeze: Unfreeze
    cut: str
    l2: float
    learning_rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much a run learns.

    Attributes:
        images: Number of training images.
        epochs: How often each is seen.
    """

    images: int
    epochs: int

    @property
    def passes(self) -> int:
        """Images that go through training steps."""
        return self.images * self.epochs


def full_size(unfreeze: Unfreeze, n_train: int, batch_size: int) -> Size:
    """Return what the recommended run of a strategy takes."""
    few, many = EPOCHS
    epochs = min(max(math.ceil(STEPS * batch_size / n_train), few), many)
    return Size(images=n_train, epochs=epochs * (_SCRATCH if unfreeze == "scratch" else 1))


def finetuning_of(arm: Arm, size: Size) -> dict[str, Any]:
    """Return the values of the section `finetune`; the others stay the user's."""
    return {
        "unfreeze": arm.unfreeze,
        "head": "logistic",
        "learning_rate": arm.learning_rate,
        "schedule": "cosine",
        "weight_decay": 0.05,
        "epochs": size.epochs,
        # A rate that falls to 0 is worth most at the end: what looks worse for some epochs goes on.
        "patience": math.ceil(size.epochs / 2),
        "stages": [],
    }


def arms(*, pretrained: bool, last: tuple[str, float], best: tuple[str, float]) -> tuple[Arm, ...]:
    """Return what is worth a pilot, what matters most first.

    Training from scratch is not where the weights were trained: it needs tens of thousands of
    images to come near, which no pilot could show.
    Source: He, Girshick and Dollár, Rethinking ImageNet Pre-training, ICCV 2019, section 5.

    Args:
        pretrained: Whether the weights were trained.
        last: The last cut and the penalty of its head.
        best: The cut that is recommended for a frozen backbone, and its penalty.
    """

    def arm(unfreeze: Unfreeze, cut: tuple[str, float], learning_rate: float) -> Arm:
        return Arm(unfreeze=unfreeze, cut=cut[0], l2=cut[1], learning_rate=learning_rate)

    if not pretrained:
        return (arm("scratch", last, _FAST),)
    if best == last:
        # Features that suit the images want little change.
        return arm("last_block", last, _FAST), arm("all", last, _SLOW), arm("all", last, _FAST)
    return (
        arm("last_block", last, _FAST),
        arm("all", best, _FAST),
        arm("all", last, _FAST),
        arm("all", best, _SLOW),
        arm("all", last, _SLOW),
    )
