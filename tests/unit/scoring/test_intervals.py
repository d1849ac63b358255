import numpy as np
import pytest
from scipy.stats import binomtest

from headstart.scoring.intervals import paired_interval, score_intervals, units


def _predictions(n: int, share_right: float) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(n) % 2
    right = np.arange(n) < share_right * n
    probabilities = np.full((n, 2), 0.2)
    probabilities[np.arange(n), np.where(right, labels, 1 - labels)] = 0.8
    return labels, probabilities


def test_interval_of_accuracy_is_near_the_binomial_one() -> None:
    labels, probabilities = _predictions(400, 0.9)
    found = score_intervals(labels, probabilities, np.full(400, -1), resamples=2000, seed=0)[
        "accuracy"
    ]
    exact = binomtest(360, 400).proportion_ci(0.95)
    assert found == pytest.approx([exact.low, exact.high], abs=0.01)


def test_groups_are_drawn_whole() -> None:
    labels, probabilities = _predictions(400, 0.9)
    groups = np.arange(400) // 20
    alone = score_intervals(labels, probabilities, np.full(400, -1), resamples=500, seed=0)
    grouped = score_intervals(labels, probabilities, groups, resamples=500, seed=0)
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "log_loss"):
        width = alone[name][1] - alone[name][0]
        assert grouped[name][1] - grouped[name][0] > 2.5 * width


def test_a_perfect_score_has_the_binomial_lower_end() -> None:
    labels, probabilities = _predictions(40, 1.0)
    found = score_intervals(labels, probabilities, np.full(40, -1), resamples=50, seed=0)
    exact = binomtest(40, 40).proportion_ci(0.95)
    assert found["accuracy"] == pytest.approx([exact.low, 1.0])
    assert found["macro_f1"] == found["balanced_accuracy"] == found["accuracy"]
    assert found["log_loss"] == pytest.approx([-np.log(0.8)] * 2)


def test_the_seed_decides_the_draws() -> None:
    labels, probabilities = _predictions(100, 0.8)

    def draw(seed: int) -> dict[str, list[float]]:
        return score_intervals(labels, probabilities, np.full(100, -1), resamples=50, seed=seed)

    assert draw(0) == draw(0)
    assert draw(0) != draw(1)


def test_paired_interval_tells_a_lead_from_a_tie() -> None:
    rng = np.random.default_rng(0)
    alone = np.full(500, -1)
    clear = (rng.random(500) < 0.15).astype(float)
    low, high = paired_interval(clear, alone, resamples=500, seed=0)
    assert 0 < low < clear.mean() < high
    even = rng.choice([-1.0, 0.0, 1.0], 500, p=[0.1, 0.8, 0.1])
    low, high = paired_interval(even, alone, resamples=500, seed=0)
    assert low <= 0 <= high


def test_units_are_groups_and_single_images() -> None:
    found = units(np.array([5, -1, 5, -1, 2]))
    assert found[0] == found[2]
    assert len({found[0], found[1], found[3], found[4]}) == 4
    assert sorted(set(found)) == [0, 1, 2, 3]


def test_one_unit_gives_no_interval_but_that_of_a_perfect_score() -> None:
    group = np.zeros(6, int)
    labels = np.arange(6) % 2
    mixed = np.tile([[0.9, 0.1]], (6, 1))
    assert score_intervals(labels, mixed, group, resamples=20, seed=0) == {}
    right = np.eye(2)[labels] * 0.8 + 0.1
    found = score_intervals(labels, right, group, resamples=20, seed=0)
    assert found["accuracy"] == [pytest.approx(0.025), 1.0]
    assert "log_loss" not in found
    assert paired_interval(np.ones(6), group, resamples=20, seed=0) == [-1.0, 1.0]
