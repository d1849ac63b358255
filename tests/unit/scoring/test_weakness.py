import numpy as np
import pytest
from scipy.stats import fisher_exact

from headstart.scoring.intervals import units
from headstart.scoring.weakness import chance_of_weakness, compare, has_enough, holm


def _alone(n: int) -> np.ndarray:
    return units(np.full(n, -1))


@pytest.mark.parametrize(("wrong", "wrong_rest"), [(0, 0), (3, 3), (6, 3), (9, 0), (1, 40)])
def test_without_groups_it_is_fishers_exact_test(wrong: int, wrong_rest: int) -> None:
    inside = np.arange(120) < 30
    right = np.ones(120)
    right[:wrong] = right[30 : 30 + wrong_rest] = 0
    counts = [[wrong, 30 - wrong], [wrong_rest, 90 - wrong_rest]]
    exact = fisher_exact(counts, alternative="greater").pvalue
    found = chance_of_weakness(right, _alone(120), inside, n_tests=100)
    assert found == pytest.approx(exact, abs=max(1e-4, 0.15 * exact))


def test_a_group_counts_once() -> None:
    group = np.concatenate([np.arange(30) // 15, np.full(170, -1)])
    right = np.ones(200)
    right[:15] = 0
    inside = np.arange(200) < 50
    assert chance_of_weakness(right, _alone(200), inside) < 0.001
    assert chance_of_weakness(right, units(group), inside) > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("accuracy", [0.8, 0.95, 0.99])
@pytest.mark.parametrize("grouped", [False, True])
def test_random_slices_are_rarely_called_weak(grouped: bool, accuracy: float) -> None:
    rng = np.random.default_rng(0)
    alarms = 0
    for seed in range(200):
        group = np.repeat(np.arange(60), rng.integers(1, 7, 60)) if grouped else np.full(200, -1)
        unit = units(group)
        # All of a group is right or wrong; slices take whole groups.
        right = (rng.random(len(unit)) < accuracy)[unit].astype(float)
        value = rng.integers(0, 4, len(unit))[unit]
        parts = [value == one for one in range(4) if has_enough(unit, value == one)]
        p_values = [
            chance_of_weakness(right, unit, part, n_tests=len(parts), seed=seed) for part in parts
        ]
        alarms += any(p <= 0.05 for p in holm(p_values))
    # 5 % of 200, and two standard errors.
    assert alarms <= 16


def test_few_units_are_not_compared() -> None:
    group = np.concatenate([np.arange(40) // 5, np.full(40, -1)])
    assert not has_enough(units(group), np.arange(80) < 40)
    assert not has_enough(units(group), np.arange(80) >= 40)
    assert has_enough(_alone(80), np.arange(80) < 40)


def test_the_difference_within_classes_takes_out_the_share_of_a_hard_class() -> None:
    labels = np.repeat([0, 1, 0, 1], [10, 40, 40, 10])
    inside = np.arange(100) < 50
    # Half of class 1 is wrong, wherever it is.
    predicted = np.where((labels == 1) & (np.arange(100) % 2 == 0), 0, labels)
    found = compare(labels, predicted, _alone(100), inside, n_tests=1, seed=0)
    assert (found.images, found.accuracy, found.rest) == (50, 0.6, 0.9)
    assert found.difference == pytest.approx(-0.3)
    assert found.within_classes == pytest.approx(0)
    assert found.low < -0.3 < found.high < 0
    apart = compare(labels, predicted, _alone(100), labels == 0, n_tests=1, seed=0)
    assert apart.within_classes is None


def test_a_difference_of_no_mistakes_is_uncertain_all_the_same() -> None:
    labels = np.zeros(60, int)
    found = compare(labels, labels, _alone(60), np.arange(60) < 12, n_tests=1, seed=0)
    assert (found.difference, found.p) == (0, 1)
    assert found.low < -0.2
    assert found.high > 0.05


def test_holm_steps_down_and_never_falls() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
