"""Which class to name, or none, where mistakes do not all cost the same.

The decision that expects the least cost under the probabilities; nothing is fitted for it but what
calibrates these. For two classes it is a threshold on one probability. Such a threshold could be
fitted to held-out costs instead, but then rests on the few images near it: measured, it costs more
(bench/points/coverage.py).

Source: Elkan, The Foundations of Cost-Sensitive Learning, IJCAI 2001; naming none: Chow, On Optimum
    Recognition Error and Reject Tradeoff, IEEE Transactions on Information Theory 16, 1970.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from headstart.common.errors import InputError
from headstart.scoring.intervals import accuracy_interval
from headstart.scoring.metrics import Floats, Labels

NONE = -1
"""In place of a class: none is named."""

_ROUNDED = 1 + 1e-9
"""Costs that are as near count as the same: sums in another order must not decide."""

Costs = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class CostRule:
    """What mistakes cost.

    Attributes:
        costs: (n_classes, n_classes): row = what the image is, column = what it is called.
        abstain_cost: Of naming no class; None where one must be named.
        frequency: (n_classes,) how frequent classes are for each time that the probabilities take
            them for; a model that learned with uneven weights takes classes for more frequent.
    """

    costs: npt.NDArray[np.float64]
    abstain_cost: float | None
    frequency: npt.NDArray[np.float64]

    @classmethod
    def of(
        cls,
        given: Costs,
        abstain_cost: float | None,
        class_names: Sequence[str],
        class_weight: npt.NDArray[np.float64],
    ) -> "CostRule | None":
        """Return the rule; None where nothing is said of costs.

        Args:
            given: By true and by named class; 1 where nothing is said, 0 for the right class.
            abstain_cost: See the class.
            class_names: One per column of the probabilities.
            class_weight: (n_classes,) what an image of a class counted in training.

        Raises:
            InputError: there is no such class, being right costs something, or a cost is infinite.
        """
        if not given and abstain_cost is None:
            return None
        for true, row in given.items():
            if unknown := sorted({true, *row} - set(class_names)):
                raise InputError(
                    f"params.yaml: evaluate.costs: no class is called {', '.join(unknown)}; the "
                    f"classes are {', '.join(class_names)}"
                )
            if row.get(true):
                raise InputError(
                    f"params.yaml: evaluate.costs: {true}: {true}: expected no cost of naming the "
                    f"class that an image is of, received {row[true]:g}; leave it out"
                )
        costs = _matrix(given, class_names)
        if not np.isfinite(costs).all() or not np.isfinite(abstain_cost or 0.0):
            raise InputError(
                "params.yaml: evaluate.costs, evaluate.abstain_cost: expected finite numbers, "
                "received infinity; a cost of a thousand times the others does the same"
            )
        return cls(costs, abstain_cost, 1 / class_weight)

    def decide(self, probabilities: Floats, *, abstain: bool = True) -> npt.NDArray[np.int64]:
        """Return the class to name for each image, (n_samples,), or `NONE`.

        Of classes that cost the same the likeliest is named, and naming one goes before naming
        none.

        Args:
            probabilities: (n_samples, n_classes), calibrated.
            abstain: Whether to name none where that costs less.
        """
        natural = probabilities * self.frequency
        expected = natural @ self.costs / natural.sum(axis=1, keepdims=True)
        least = expected.min(axis=1, keepdims=True)
        cheapest = np.where(expected <= least * _ROUNDED, probabilities, -1.0)
        named: npt.NDArray[np.int64] = cheapest.argmax(axis=1)
        if self.abstain_cost is None or not abstain:
            return named
        return np.where(least[:, 0] > self.abstain_cost * _ROUNDED, NONE, named)

    @property
    def _worst(self) -> float:
        """What an image costs at most."""
        return max(float(self.costs.max()), self.abstain_cost or 0.0)

    def cost(self, labels: Labels, named: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Return what each decision costs, (n_samples,).

        Args:
            labels: (n_samples,).
            named: (n_samples,) as `decide` gives them.
        """
        none = self.abstain_cost or 0.0
        return np.where(named == NONE, none, self.costs[labels, named])

    def check(
        self, labels: Labels, probabilities: Floats, groups: npt.NDArray[np.integer[Any]]
    ) -> dict[str, Any]:
        """Return what the decisions on some images cost on the mean, as JSON types.

        Args:
            labels: (n_samples,); without any there is nothing to tell.
            probabilities: (n_samples, n_classes).
            groups: (n_samples,) images of one group (>= 0) cost together, more or less.
        """
        if not len(labels):
            return {}
        named = self.decide(probabilities)
        cost = self.cost(labels, named)
        worst = self._worst or 1.0
        # An accuracy is a mean over images of 1 less the loss, in [0, 1].
        low, high = accuracy_interval(1 - cost / worst, groups)
        told = named != NONE
        return {
            "cost": float(cost.mean()),
            "low": (1 - high) * worst,
            "high": (1 - low) * worst,
            "cost_of_likeliest": float(self.cost(labels, probabilities.argmax(axis=1)).mean()),
            "abstained": float((~told).mean()),
            "errors_among_named": float((named != labels)[told].mean()) if told.any() else None,
        }

    def thresholds(self) -> tuple[float, float] | None:
        """Return the probability from which on each of two classes is named; None of more."""
        if len(self.costs) != 2:
            return None
        return self._threshold(0, 1), self._threshold(1, 0)

    def _threshold(self, own: int, other: int) -> float:
        """Return the least probability of `own` at which naming it costs the least.

        At q, corrected by `frequency`, it costs (1 - q) times what a mistake does, the other class
        q times what a miss does, and none what it always does.
        """
        mistake, miss = self.costs[other, own], self.costs[own, other]
        if not mistake:
            return 0.0
        q = mistake / (mistake + miss)
        if self.abstain_cost is not None:
            q = max(q, 1 - self.abstain_cost / mistake)
        back = q * self.frequency[other]
        return float(back / (back + (1 - q) * self.frequency[own]))

    def as_dict(self, class_names: Sequence[str]) -> dict[str, Any]:
        """Return the fields as JSON types, by class: of the costs those that are not 1."""
        given = {
            true: {
                named: float(self.costs[i, j])
                for j, named in enumerate(class_names)
                if i != j and self.costs[i, j] != 1
            }
            for i, true in enumerate(class_names)
        }
        result = {
            "costs": {true: row for true, row in given.items() if row},
            "abstain_cost": self.abstain_cost,
            "frequency": dict(zip(class_names, self.frequency.tolist(), strict=True)),
        }
        if (thresholds := self.thresholds()) is not None:
            result["thresholds"] = dict(zip(class_names, thresholds, strict=True))
        return result

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], class_names: Sequence[str]) -> "CostRule":
        """Undo `as_dict`."""
        frequency = np.array([content["frequency"][name] for name in class_names], np.float64)
        costs = _matrix(content["costs"], class_names)
        return cls(costs, content["abstain_cost"], frequency)


def _matrix(given: Costs, class_names: Sequence[str]) -> npt.NDArray[np.float64]:
    """Return (n_classes, n_classes): what is given, else 1, for the right class 0."""
    place = {name: index for index, name in enumerate(class_names)}
    costs = 1 - np.eye(len(class_names))
    for true, row in given.items():
        for named, cost in row.items():
            costs[place[true], place[named]] = cost
    return costs
