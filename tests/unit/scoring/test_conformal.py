import numpy as np
import pytest

from headstart.scoring.calibration import softmax
from headstart.scoring.conformal import FEWEST, ClassSets, fit_sets


def draw(
    rng: np.random.Generator, n: int, n_classes: int = 4, skew: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Labels (n,) and probabilities of a model that is wrong often, and too sure."""
    shares = np.exp(-skew * np.arange(n_classes))
    labels = rng.choice(n_classes, n, p=shares / shares.sum())
    logits = rng.standard_normal((n, n_classes)) + 0.8 * np.eye(n_classes)[labels]
    return labels, softmax(2 * logits)


def alone(n: int) -> np.ndarray:
    return np.arange(n)


def covered(sets: ClassSets, labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    return sets.of(probabilities)[np.arange(len(labels)), labels]


@pytest.mark.parametrize("n_classes", [2, 5])
@pytest.mark.parametrize("wanted", [0.8, 0.95])
def test_sets_hold_the_true_class_as_often_as_wanted(n_classes: int, wanted: float) -> None:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(300):
        labels, probabilities = draw(rng, 79 + 400, n_classes)
        sets = fit_sets(labels[:79], probabilities[:79], alone(79), wanted)
        found.append(covered(sets, labels[79:], probabilities[79:]).mean())
    # 80 times 0.05 and 0.2 are whole numbers, so the share is exact.
    assert np.mean(found) == pytest.approx(wanted, abs=0.008)


def test_each_large_class_is_covered_and_the_small_ones_together() -> None:
    rng = np.random.default_rng(1)
    found = []
    for _ in range(60):
        labels, probabilities = draw(rng, 3000, 6, skew=1.0)
        own = slice(0, 1000)
        sets = fit_sets(labels[own], probabilities[own], alone(1000), 0.9)
        held, labels = covered(sets, labels, probabilities)[1000:], labels[1000:]
        parts = [labels == 0, labels == 1, labels >= 3]
        found.append([held[part].mean() for part in parts])
        assert len(set(sets.threshold[3:])) == 1
        assert len(set(sets.threshold)) >= 3
    assert np.mean(found, axis=0) == pytest.approx([0.9, 0.9, 0.9], abs=0.015)


def test_small_classes_are_joined_until_they_suffice() -> None:
    labels = np.repeat([0, 1, 2, 3], [300, 150, 120, 10])
    probabilities = draw(np.random.default_rng(2), len(labels))[1]
    units = fit_sets(labels, probabilities, alone(len(labels)), 0.9).units
    assert units.tolist() == [300, 150, 130, 130]
    # One that nothing was held out of cannot have a threshold of its own either.
    units = fit_sets(labels[:570], probabilities[:570], alone(570), 0.9).units
    assert units.tolist() == [300, 150, 120, 120]
    few = labels[250:]
    units = fit_sets(few, probabilities[250:], alone(len(few)), 0.9).units
    assert units.tolist() == [180, 150, 180, 180]


def test_more_units_are_needed_for_more_coverage() -> None:
    labels = np.repeat([0, 1], [FEWEST, 500])
    probabilities = draw(np.random.default_rng(3), 600, 2)[1]
    sets = fit_sets(labels, probabilities, alone(600), 0.995)
    assert sets.needed == 199
    assert sets.units.tolist() == [600, 600]
    assert (sets.threshold > 0).all()


@pytest.mark.parametrize(("n", "all_classes"), [(0, True), (8, True), (9, False)])
def test_too_few_units_give_all_classes(n: int, all_classes: bool) -> None:
    labels, probabilities = draw(np.random.default_rng(4), n)
    sets = fit_sets(labels, probabilities, alone(n), 0.9)
    assert sets.needed == 9
    assert (sets.threshold == 0).all() == all_classes
    assert sets.of(draw(np.random.default_rng(5), 3)[1]).all() == all_classes


def test_no_set_is_empty_and_ties_are_inside() -> None:
    sets = ClassSets(0.9, np.array([1.0, 0.5, 0.25]), np.zeros(3, np.int64))
    probabilities = np.array([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.25, 0.49, 0.26]])
    assert sets.of(probabilities).tolist() == [
        [True, False, True],
        [False, True, True],
        [False, True, True],
    ]


def test_a_model_that_is_right_more_often_names_one_class() -> None:
    rng = np.random.default_rng(6)
    labels = rng.integers(0, 3, 500)
    # Right always, of which some are hardly sure: no set needs a second class for that.
    probabilities = softmax(rng.uniform(0.1, 3, (500, 1)) * np.eye(3)[labels])
    sets = fit_sets(labels, probabilities, alone(500), 0.9)
    assert sets.of(probabilities).sum(axis=1).tolist() == [1] * 500


def test_a_unit_counts_once() -> None:
    rng = np.random.default_rng(7)
    labels, probabilities = draw(rng, 120, 2)
    alike = fit_sets(labels, probabilities, alone(120), 0.9)
    copies = np.repeat(np.arange(120), np.where(np.arange(120) < 10, 50, 1))
    again = fit_sets(labels[copies], probabilities[copies], copies, 0.9)
    np.testing.assert_array_equal(again.threshold, alike.threshold)
    assert again.units.tolist() == [120, 120]


def test_groups_of_any_size_are_covered() -> None:
    """Coverage of an image of a new group, whose images are right or wrong together."""
    rng = np.random.default_rng(8)
    found = []
    for _ in range(200):
        group = np.repeat(np.arange(160), rng.integers(1, 12, 160))
        labels, probabilities = draw(rng, 160)
        noise = rng.uniform(0.9, 1.1, (len(group), 4))
        mixed = probabilities[group] * noise
        mixed /= mixed.sum(axis=1, keepdims=True)
        own = group < 80
        sets = fit_sets(labels[group[own]], mixed[own], group[own], 0.9)
        held = covered(sets, labels[group[~own]], mixed[~own])
        new = group[~own] - 80
        found.append((np.bincount(new, held) / np.bincount(new)).mean())
    assert np.mean(found) == pytest.approx(0.905, abs=0.012)


def test_what_is_told_of_test_images() -> None:
    sets = ClassSets(0.8, np.array([0.3, 0.3, 0.3]), np.full(3, 200))
    probabilities = np.array([[0.6, 0.4, 0.0], [0.4, 0.35, 0.25], [0.9, 0.1, 0.0]])
    told = sets.check(np.array([1, 0, 1]), probabilities, np.array([-1, -1, -1]), ("a", "b", "c"))
    assert told["wanted"] == 0.8
    assert told["covered"] == pytest.approx(2 / 3)
    assert told["low"] < 2 / 3 < told["high"]
    assert told["set_size"] == pytest.approx(5 / 3)
    assert told["one_class"] == pytest.approx(1 / 3)
    assert told["per_class"] == [
        {"class": "a", "images": 1, "covered": 1.0},
        {"class": "b", "images": 2, "covered": 0.5},
    ]
    assert sets.check(np.empty(0, int), np.empty((0, 3)), np.empty(0, int), "abc") == {
        "wanted": 0.8
    }


def test_sets_survive_json() -> None:
    sets = fit_sets(*draw(np.random.default_rng(9), 400), alone(400), 0.9)
    again = ClassSets.from_dict(sets.as_dict("abcd"), "abcd")
    assert again.wanted == sets.wanted
    np.testing.assert_array_equal(again.threshold, sets.threshold)
    np.testing.assert_array_equal(again.units, sets.units)
