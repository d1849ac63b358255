import numpy as np
import pytest

from headstart.common.errors import InputError
from headstart.scoring.costs import NONE, CostRule, Costs

EVEN = np.ones(3)
NAMES = ("cat", "dog", "fox")


def rule(
    costs: Costs, abstain: float | None = None, names: tuple[str, ...] = NAMES, **more: list[float]
) -> CostRule:
    weight = np.array(more.get("weight", [1.0] * len(names)))
    found = CostRule.of(costs, abstain, names, weight)
    assert found is not None
    return found


def test_without_a_word_of_costs_there_is_no_rule() -> None:
    assert CostRule.of({}, None, NAMES, EVEN) is None


def test_costs_that_are_not_told_are_1_and_being_right_costs_nothing() -> None:
    costs = rule({"cat": {"dog": 5.0, "cat": 0.0}, "fox": {"cat": 0.0}}).costs
    assert costs.tolist() == [[0, 5, 1], [1, 0, 1], [0, 1, 0]]


def test_the_least_expected_cost_decides() -> None:
    """Against all classes, one by one."""
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(3), 200)
    found = rule({"cat": {"dog": 5.0, "fox": 2.0}, "dog": {"fox": 0.3}}, abstain=0.6)
    for row, named in zip(probabilities, found.decide(probabilities), strict=True):
        expected = [sum(row[i] * found.costs[i, j] for i in range(3)) for j in range(3)]
        assert named == (NONE if min(expected) > 0.6 else int(np.argmin(expected)))
    named = found.decide(probabilities, abstain=False)
    assert (named >= 0).all()
    assert len(np.unique(named)) == 3


def test_even_costs_name_the_likeliest_and_abstain_below_a_probability() -> None:
    probabilities = np.random.default_rng(1).dirichlet(np.ones(3), 200)
    likeliest = probabilities.argmax(axis=1)
    np.testing.assert_array_equal(rule({"cat": {"dog": 1.0}}).decide(probabilities), likeliest)
    named = rule({}, abstain=0.4).decide(probabilities)
    np.testing.assert_array_equal(named, np.where(probabilities.max(axis=1) < 0.6, NONE, likeliest))


def test_of_equal_costs_the_likelier_is_named_and_naming_goes_before_none() -> None:
    free = rule({"cat": {"dog": 0.0}, "dog": {"cat": 0.0}}, abstain=0.1)
    assert free.decide(np.array([[0.4, 0.5, 0.1], [0.6, 0.4, 0.0]])).tolist() == [1, 0]
    assert rule({}, abstain=0.25).decide(np.array([[0.75, 0.25, 0.0]])).tolist() == [0]


@pytest.mark.parametrize("abstain", [None, 0.3, 0.05])
@pytest.mark.parametrize("weight", [[1.0, 1.0], [0.5, 3.0]])
@pytest.mark.parametrize(
    "costs", [{"cat": {"dog": 5.0}}, {"dog": {"cat": 0.2}}, {"dog": {"cat": 0.0}}]
)
def test_of_two_classes_thresholds_say_the_same(
    costs: Costs, weight: list[float], abstain: float | None
) -> None:
    found = rule(costs, abstain, NAMES[:2], weight=weight)
    p = np.linspace(0, 1, 999)
    named = found.decide(np.stack([1 - p, p], axis=1))
    thresholds = found.thresholds()
    assert thresholds is not None
    cat, dog = thresholds
    # Both reach theirs at the very threshold, or where naming the one or the other costs nothing.
    np.testing.assert_array_equal((named == 1) & (p < dog - 1e-9), False)
    np.testing.assert_array_equal((named == 0) & (1 - p < cat - 1e-9), False)
    np.testing.assert_array_equal(
        (named == NONE) & ((p > dog + 1e-9) | (1 - p > cat + 1e-9)), False
    )
    assert rule(costs, abstain).thresholds() is None


def test_five_to_one_is_a_threshold_of_five_sixths() -> None:
    assert rule({"cat": {"dog": 5.0}}, names=NAMES[:2]).thresholds() == pytest.approx(
        (1 / 6, 5 / 6)
    )


def test_uneven_weights_in_training_are_undone() -> None:
    """A model that counted dogs twice takes them for twice as frequent as they are."""
    natural = np.random.default_rng(2).dirichlet(np.ones(2), 100)
    seen = natural * [1.0, 2.0]
    seen /= seen.sum(axis=1, keepdims=True)
    costs = {"cat": {"dog": 3.0}}
    np.testing.assert_array_equal(
        rule(costs, names=NAMES[:2], weight=[1.0, 2.0]).decide(seen),
        rule(costs, names=NAMES[:2]).decide(natural),
    )


def test_what_is_told_of_images() -> None:
    found = rule({"cat": {"dog": 4.0}}, abstain=0.5)
    probabilities = np.array([[0.3, 0.7, 0.0], [0.1, 0.9, 0.0], [0.0, 0.1, 0.9], [0.4, 0.3, 0.3]])
    # Expected: cat 0.7; dog 0.4; fox; 0.6.
    labels = np.array([1, 0, 2, 2])
    assert found.decide(probabilities).tolist() == [NONE, 1, 2, NONE]
    told = found.check(labels, probabilities, np.full(4, -1))
    assert told["cost"] == pytest.approx((0.5 + 4 + 0 + 0.5) / 4)
    assert told["cost_of_likeliest"] == pytest.approx((0 + 4 + 0 + 1) / 4)
    assert 0 < told["low"] < told["cost"] < told["high"] <= 4
    assert told["abstained"] == 0.5
    assert told["errors_among_named"] == 0.5
    assert found.check(labels[:0], probabilities[:0], labels[:0]) == {}


def test_where_none_is_named_nobody_errs() -> None:
    told = rule({}, abstain=0.0).check(np.array([0]), np.array([[0.9, 0.1, 0.0]]), np.array([-1]))
    assert told["errors_among_named"] is None
    assert (told["abstained"], told["cost"]) == (1.0, 0.0)


def test_a_rule_survives_json() -> None:
    found = rule({"cat": {"dog": 5.0}, "fox": {"dog": 0.0}}, abstain=0.4, weight=[1.0, 2.0, 0.5])
    content = found.as_dict(NAMES)
    assert content["costs"] == {"cat": {"dog": 5.0}, "fox": {"dog": 0.0}}
    again = CostRule.from_dict(content, NAMES)
    np.testing.assert_array_equal(again.costs, found.costs)
    np.testing.assert_array_equal(again.frequency, found.frequency)
    assert again.abstain_cost == 0.4


@pytest.mark.parametrize(
    ("costs", "abstain", "message"),
    [
        (
            {"cat": {"cow": 2.0}},
            None,
            "params.yaml: evaluate.costs: no class is called cow; the classes are cat, dog, fox",
        ),
        (
            {"Cat": {"dog": 2.0}},
            None,
            "params.yaml: evaluate.costs: no class is called Cat; the classes are cat, dog, fox",
        ),
        (
            {"cat": {"cat": 2.0}},
            None,
            "params.yaml: evaluate.costs: cat: cat: expected no cost of naming the class that an "
            "image is of, received 2; leave it out",
        ),
        (
            {},
            np.inf,
            "params.yaml: evaluate.costs, evaluate.abstain_cost: expected finite numbers, received "
            "infinity; a cost of a thousand times the others does the same",
        ),
    ],
)
def test_costs_that_cannot_be_are_refused(
    costs: Costs, abstain: float | None, message: str
) -> None:
    with pytest.raises(InputError) as error:
        CostRule.of(costs, abstain, NAMES, EVEN)
    assert str(error.value) == message
