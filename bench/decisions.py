"""What decisions by cost save, beside the likeliest class and a threshold fitted to costs."""

from collections import defaultdict

import numpy as np

from bench.results import table
from bench.sets import SplitSet
from bench.told import Labels, Told, Values, as_piped
from headstart.scoring.costs import CostRule

_MISSED = 5.0
_ABSTAIN = 0.15
_UNEVEN = ("tiles", "pets_rare")

Found = dict[tuple[str, str], list[float]]


class Costs:
    """Gathers what decisions cost."""

    def __init__(self) -> None:
        self._plain: Found = defaultdict(list)
        self._uneven: Found = defaultdict(list)

    def add(self, split: SplitSet, held_out: Told, test: Told) -> None:
        """Add one split of a set."""
        for rule, value in _costs(held_out, test).items():
            self._plain[rule, split.name].append(value)
        for rule, value in _weighed(split).items() if split.name in _UNEVEN else ():
            self._uneven[rule, split.name].append(value)

    def lines(self) -> list[str]:
        """Return the tables."""
        uneven = ["", *_WEIGHED, "", *_by_set(self._uneven)] if self._uneven else []
        return [*_COST, "", *_by_set(self._plain), *uneven]


_COST = (
    "Mean cost of a test image over all splits. `missed`: calling the rarest class another costs",
    f"{_MISSED:g}, every other mistake 1; `false alarm`: calling another class the rarest costs",
    f"{_MISSED:g}; `abstain`: `missed`, and naming none costs {_ABSTAIN:g}. `fitted`: the rarest",
    "class is named from the probability on that costs least on the held-out images, else the",
    "likeliest of the others. Last: the mean over sets, and the difference from the first rule",
    "with two standard errors over all splits.",
)
_WEIGHED = (
    "The same with `train.class_weight: balanced`, the probabilities taken as they are, or",
    "corrected for it.",
)


def _rules(label: Labels, n_classes: int) -> dict[str, tuple[CostRule, int]]:
    """Return what mistakes cost, and the class that matters: the rarest."""
    names = [str(index) for index in range(n_classes)]
    rare = str(np.bincount(label, minlength=n_classes).argmin())
    others = [name for name in names if name != rare]
    missed = {rare: dict.fromkeys(others, _MISSED)}
    alarm = {name: {rare: _MISSED} for name in others}
    found = {}
    for title, costs, abstain in (
        ("missed", missed, None),
        ("false alarm", alarm, None),
        ("abstain", missed, _ABSTAIN),
    ):
        rule = CostRule.of(costs, abstain, names, np.ones(n_classes))
        assert rule is not None
        found[title] = (rule, int(rare))
    return found


def _costs(held_out: Told, test: Told) -> dict[str, float]:
    """Return the mean cost of test images by costs and rule."""
    found = {}
    for title, (rule, rare) in _rules(held_out.label, held_out.probabilities.shape[1]).items():
        named = {
            "likeliest": test.probabilities.argmax(axis=1),
            "ours": rule.decide(test.probabilities),
        }
        if rule.abstain_cost is None:
            threshold = _fitted_threshold(rule, rare, held_out)
            named["fitted"] = _named_from(test.probabilities, rare, threshold)
        for kind, decisions in named.items():
            found[f"{title}, {kind}"] = float(rule.cost(test.label, decisions).mean())
    return found


def _named_from(probabilities: Values, rare: int, threshold: float) -> Labels:
    """Name a class from a probability on, else the likeliest of the others."""
    others = probabilities.copy()
    others[:, rare] = -1
    return np.where(probabilities[:, rare] >= threshold, rare, others.argmax(axis=1))


def _fitted_threshold(rule: CostRule, rare: int, held_out: Told) -> float:
    """Return the threshold that costs least on the held-out images, the middle one of equals."""
    values = np.unique(held_out.probabilities[:, rare])
    tried = np.concatenate([[0.0], (values[1:] + values[:-1]) / 2, [1.1]])
    costs = [
        rule.cost(held_out.label, _named_from(held_out.probabilities, rare, one)).mean()
        for one in tried
    ]
    return float(np.median(tried[np.isclose(costs, min(costs))]))


def _weighed(split: SplitSet) -> dict[str, float]:
    """Return the mean cost of test images where training counted classes evenly."""
    _, test = as_piped(split, class_weight="balanced")
    label = split.file.label[split.file.rows("train")]
    n_classes = test.probabilities.shape[1]
    counts = np.bincount(label, minlength=n_classes)
    found = {}
    for title, (rule, _) in _rules(label, n_classes).items():
        corrected = CostRule(rule.costs, rule.abstain_cost, counts / counts.sum())
        for kind, one in (("as they are", rule), ("corrected", corrected)):
            cost = one.cost(test.label, one.decide(test.probabilities)).mean()
            found[f"{title}, {kind}"] = float(cost)
    return found


def _by_set(cost: Found) -> list[str]:
    """Return a table: a row per rule, a column per set; differences from the rule's first kind."""
    rules, names = ({one[place]: None for one in cost} for place in (0, 1))
    rows = []
    first: dict[str, str] = {}
    for rule in rules:
        against = first.setdefault(rule.split(",")[0], rule)
        means = [float(np.mean(cost[rule, name])) for name in names]
        pairs = [
            own - other
            for name in names
            for own, other in zip(cost[rule, name], cost[against, name], strict=True)
        ]
        gap = f" ({np.mean(pairs):+.4f} ± {2 * np.std(pairs, ddof=1) / len(pairs) ** 0.5:.4f})"
        mean = f"{np.mean(means):.4f}{gap if rule != against and len(pairs) > 1 else ''}"
        rows.append([rule, *(f"{one:.3f}" for one in means), mean])
    return table(["mean cost", *names, "mean"], rows)
