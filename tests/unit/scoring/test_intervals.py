from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from headstart.scoring.intervals import accuracy_interval, paired_interval, score_intervals, units

Ends = dict[str, list[float]]


def _intervals(
    labels: np.ndarray, wrong: np.ndarray, groups: np.ndarray | None = None, n_classes: int = 2
) -> Ends:
    """Of predictions that are right with 0.9, or wrong and then of the next class."""
    labels = np.asarray(labels)
    called = np.where(wrong, (labels + 1) % n_classes, labels)
    probabilities = np.full((len(labels), n_classes), 0.1 / max(n_classes - 1, 1))
    probabilities[np.arange(len(labels)), called] = 0.9
    alone = np.full(len(labels), -1)
    return score_intervals(labels, probabilities, alone if groups is None else groups)


def _alone(n: int) -> np.ndarray:
    return np.full(n, -1)


@pytest.mark.parametrize(
    ("right", "n"), [(0, 1), (1, 1), (0, 40), (39, 40), (40, 40), (20, 40), (397, 400)]
)
def test_accuracy_has_the_exact_binomial_interval(right: int, n: int) -> None:
    exact = binomtest(right, n).proportion_ci(0.95)
    found = accuracy_interval((np.arange(n) < right).astype(float), _alone(n))
    assert found == pytest.approx([exact.low, exact.high], abs=1e-9)


@pytest.mark.parametrize("n", [40, 120, 400])
@pytest.mark.parametrize("p", [0.5, 0.9, 0.97, 0.99])
def test_accuracy_lies_in_its_interval_as_often_as_is_said(p: float, n: int) -> None:
    likely = np.flatnonzero(binom.pmf(np.arange(n + 1), n, p) > 1e-6)
    ends = np.array(
        [accuracy_interval((np.arange(n) < k).astype(float), _alone(n)) for k in likely]
    )
    covers = (ends[:, 0] <= p) & (p <= ends[:, 1])
    assert binom.pmf(likely, n, p)[covers].sum() >= 0.945


@pytest.mark.parametrize("alike", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("p", [0.5, 0.9, 0.99])
def test_grouped_accuracy_lies_in_its_interval_as_often_as_is_said(p: float, alike: float) -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(30):
        sizes = rng.integers(1, 7, 40)
        own = 1 - (rng.random(40) < p if alike == 1 else _shares(rng, p, alike, 40))
        groups = np.repeat(np.arange(40), sizes)
        right = (rng.random(sizes.sum()) >= own[groups]).astype(float)
        low, high = accuracy_interval(right, groups)
        covered += low <= p <= high
    assert covered >= 27


def _shares(rng: np.random.Generator, p: float, alike: float, n: int) -> np.ndarray:
    if alike == 0:
        return np.full(n, p)
    total = 1 / alike - 1
    return rng.beta(p * total, (1 - p) * total, n)


def test_a_group_counts_as_one_image_where_all_of_it_is_right_or_wrong() -> None:
    wrong = np.arange(40) < 4
    whole = accuracy_interval(1.0 - np.repeat(wrong, 5), np.repeat(np.arange(40), 5))
    single = accuracy_interval(1.0 - wrong, _alone(40))
    assert whole == pytest.approx(single, abs=1e-9)


def test_a_group_costs_little_where_its_images_are_as_strangers() -> None:
    rng = np.random.default_rng(1)
    right = (rng.random(2000) < 0.9).astype(float)
    grouped = accuracy_interval(right, np.arange(2000) // 4)
    alone = accuracy_interval(right, _alone(2000))
    assert grouped[1] - grouped[0] < 1.15 * (alone[1] - alone[0])


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_one_more_error_never_raises_an_end(seed: int, grouped: bool) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.choice(4, 60, p=[0.7, 0.2, 0.07, 0.03])
    groups = rng.integers(0, 25, 60) if grouped else _alone(60)
    wrong = np.zeros(60, bool)
    found = [_intervals(labels, wrong, groups, 4)]
    for image in rng.permutation(60)[:40]:
        wrong[image] = True
        found.append(_intervals(labels, wrong, groups, 4))
    for name, tolerance in (("accuracy", 1e-9), ("balanced_accuracy", 1e-3)):
        for before, after in pairwise(found):
            assert after[name][0] <= before[name][0] + tolerance
            assert after[name][1] <= before[name][1] + tolerance


def test_balanced_accuracy_of_even_classes_is_as_sure_as_accuracy() -> None:
    wrong = np.arange(200) % 20 == 0
    found = _intervals(np.arange(200) % 10, wrong, n_classes=10)
    assert found["balanced_accuracy"] == pytest.approx(found["accuracy"], abs=1e-9)


@pytest.mark.parametrize(
    ("sizes", "recalls"),
    [((20,) * 5, (0.97,) * 5), ((100, 30, 10, 5), (0.97,) * 4), ((200, 4), (0.99, 0.6))],
)
def test_balanced_accuracy_lies_in_its_interval_as_often_as_is_said(
    sizes: tuple[int, ...], recalls: tuple[float, ...]
) -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    covered = 0
    for _ in range(30):
        wrong = rng.random(len(labels)) >= np.array(recalls)[labels]
        low, high = _intervals(labels, wrong, n_classes=len(sizes))["balanced_accuracy"]
        covered += low <= np.mean(recalls) <= high
    assert covered >= 27


def test_a_small_class_without_an_error_keeps_balanced_accuracy_open() -> None:
    labels = np.repeat([0, 1], [1000, 4])
    found = _intervals(labels, np.zeros(1004, bool))
    # Recall of the class of 4 may be as low as 0.025 ** (1 / 4) = 0.4, and the mean of both 0.7.
    assert found["balanced_accuracy"] == pytest.approx([0.7, 1.0], abs=0.01)
    assert found["accuracy"][0] > 0.996


def test_classes_without_images_count_for_nothing() -> None:
    wrong = np.arange(40) % 10 == 0
    without = _intervals(np.zeros(40, int), wrong, n_classes=3)
    assert without["balanced_accuracy"] == pytest.approx(without["accuracy"], abs=1e-9)


def test_a_perfect_score_has_one_lower_end() -> None:
    found = _intervals(np.arange(40) % 2, np.zeros(40, bool))
    for name in ("accuracy", "balanced_accuracy", "macro_f1"):
        assert found[name] == pytest.approx([0.025 ** (1 / 40), 1.0])


def test_macro_f1_is_no_surer_with_an_error_than_without() -> None:
    labels = np.arange(40) % 2
    perfect = _intervals(labels, np.zeros(40, bool))["macro_f1"]
    low, high = _intervals(labels, np.arange(40) == 7)["macro_f1"]
    assert low < perfect[0] < 39 / 40 < high < 1


def test_log_loss_allows_for_an_error_that_was_not_seen() -> None:
    low, high = _intervals(np.arange(40) % 2, np.zeros(40, bool))["log_loss"]
    assert low == pytest.approx(-np.log(0.9))
    assert -np.log(0.9) + 0.1 < high < 0.5


def test_log_loss_lies_in_its_interval_as_often_as_is_said() -> None:
    rng = np.random.default_rng(0)
    expected = -0.95 * np.log(0.9) - 0.05 * np.log(0.1)
    covered = 0
    for _ in range(30):
        low, high = _intervals(np.arange(80) % 2, rng.random(80) < 0.05)["log_loss"]
        covered += low <= expected <= high
    assert covered >= 27


def test_one_unit_says_nearly_nothing() -> None:
    group = np.zeros(6, int)
    found = _intervals(np.arange(6) % 2, np.zeros(6, bool), group)
    assert found["accuracy"] == pytest.approx([0.025, 1.0])
    low, high = paired_interval(np.ones(6), group)
    assert low < -0.9
    assert high == 1.0


@pytest.mark.parametrize("n", [40, 400, 4000])
def test_a_lead_is_told_from_a_tie_about_as_mcnemar_does(n: int) -> None:
    def differs(ahead: int, behind: int) -> bool:
        differences = np.zeros(n)
        differences[:ahead] = 1
        differences[ahead : ahead + behind] = -1
        low, high = paired_interval(differences, _alone(n))
        return bool(low > 0 or high < 0)

    assert not differs(0, 0)
    for ahead, behind in ((4, 0), (5, 0), (9, 3), (22, 12)):
        assert binomtest(ahead, ahead + behind).pvalue > 0.05
        assert not differs(ahead, behind)
    for ahead, behind in ((7, 0), (12, 2), (26, 10)):
        assert binomtest(ahead, ahead + behind).pvalue < 0.05
        assert differs(ahead, behind)
        assert differs(behind, ahead)


def test_paired_interval_holds_the_mean_and_turns_with_the_models() -> None:
    rng = np.random.default_rng(0)
    differences = rng.uniform(-1, 1, 200)
    low, high = paired_interval(differences, np.arange(200) // 3)
    assert low < differences.mean() < high
    turned = paired_interval(-differences, np.arange(200) // 3)
    assert turned == pytest.approx([-high, -low], abs=1e-9)


def test_a_lead_of_one_group_is_no_lead() -> None:
    differences = (np.arange(60) < 12).astype(float)
    assert paired_interval(differences, _alone(60))[0] > 0
    assert paired_interval(differences, np.arange(60) // 12)[0] < 0


def test_units_are_groups_and_single_images() -> None:
    found = units(np.array([5, -1, 5, -1, 2]))
    assert found[0] == found[2]
    assert len({found[0], found[1], found[3], found[4]}) == 4
    assert sorted(set(found)) == [0, 1, 2, 3]
