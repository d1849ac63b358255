"""What a model said of images, by which it can be told apart from another."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.scoring.intervals import paired_interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """Which images a model got right, of those that it was not fitted to.

    Attributes:
        images: (n_samples,) content digests.
        right: (n_samples,) 1 where it was right, else 0.
        losses: (n_samples,) negative log-likelihoods of the true class, in nats.
        groups: (n_samples,) images of one group (>= 0) are right or wrong together.
    """

    images: NDArray[np.str_]
    right: NDArray[np.float64]
    losses: NDArray[np.float64]
    groups: NDArray[np.int64]

    def is_behind(self, other: "Answers") -> bool:
        """Return whether the other model is better by more than chance, on images of both."""
        _, own, its = np.intersect1d(self.images, other.images, return_indices=True)
        differences = self.right[own] - other.right[its]
        if not len(differences):
            return False
        _, high = paired_interval(differences, self.groups[own])
        return high < 0

    def of(self, images: NDArray[np.str_]) -> "Answers":
        """Return what it said of these images, all of which are among its own, in their order."""
        order = np.argsort(self.images)
        rows = order[np.searchsorted(self.images, images, sorter=order)]
        return Answers(
            images=images,
            right=self.right[rows],
            losses=self.losses[rows],
            groups=self.groups[rows],
        )

    def as_json(self) -> dict[str, Any]:
        """Return JSON types, of which `from_json` makes the same."""
        return {
            name: getattr(self, name).tolist() for name in ("images", "right", "losses", "groups")
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Answers":
        """Return what `as_json` was told of."""
        return cls(
            images=np.array(content["images"], dtype=np.str_),
            right=np.array(content["right"], dtype=np.float64),
            losses=np.array(content["losses"], dtype=np.float64),
            groups=np.array(content["groups"], dtype=np.int64),
        )
