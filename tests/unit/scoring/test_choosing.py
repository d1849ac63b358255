"""Which candidate held-out images choose, and what it is worth on images without a say in it."""

import numpy as np
import pytest

from headstart.scoring.calibration import softmax
from headstart.scoring.choosing import (
    PARTS,
    BestEpochs,
    HeldOut,
    best_of,
    dealt,
    temperatures_across,
)


def _held_out(labels: np.ndarray, unit: np.ndarray | None = None) -> HeldOut:
    unit = np.arange(len(labels)) if unit is None else unit
    return HeldOut(
        label=labels, unit=unit, part=dealt(labels, unit, 0), weight=np.ones(len(labels))
    )


def _best(right: np.ndarray, loss: np.ndarray, weight: np.ndarray | None = None) -> int:
    weight = np.ones(right.shape[1]) if weight is None else weight
    return best_of(right * weight, loss * weight, weight)


def test_within_one_standard_error_the_log_loss_decides() -> None:
    right = np.ones((3, 100))
    right[0, :4] = right[2, 3:30] = 0
    loss = np.array([0.1, 0.2, 0.01])[:, None] * np.ones((3, 100))
    # Four images of a hundred more are two standard errors; the last is far behind.
    assert _best(right, loss) == 1
    right[0, 1:4] = 1
    assert _best(right, loss) == 0


def test_within_one_standard_error_the_smallest_is_taken() -> None:
    right = np.ones((3, 100))
    right[1, 0] = right[2, :30] = 0
    ones = np.ones(100)
    loss = np.array([[0.1], [0.2], [0.3]]) * ones
    assert best_of(right, loss, ones, np.array([9, 5, 1])) == 1
    assert best_of(right, loss, ones, np.array([5, 5, 1])) == 0


def test_errors_are_counted_by_unit() -> None:
    # The same four images, which belong together: one unit says little.
    right = np.ones((2, 25))
    right[0, 0] = 0
    loss = np.array([[0.1], [0.2]]) * np.ones((2, 25))
    assert _best(right, loss, np.full(25, 4.0)) == 0


def test_what_a_class_counts_decides() -> None:
    rare = np.arange(100) < 10
    right = np.stack([np.where(rare, 0.0, 1.0), np.where(rare, 1.0, 0.85)])
    loss = np.ones((2, 100))
    assert _best(right, loss) == 0
    assert _best(right, loss, np.where(rare, 9.0, 1.0)) == 1


def test_a_candidate_without_a_number_is_not_chosen() -> None:
    right = np.full((2, 10), 0.5)
    assert _best(right, np.array([[np.nan], [3.0]]) * np.ones((2, 10))) == 1


def test_equal_candidates_give_the_first() -> None:
    assert _best(np.ones((3, 10)), np.ones((3, 10))) == 0


def test_a_single_unit_can_choose() -> None:
    assert _best(np.array([[0.0], [1.0]]), np.ones((2, 1))) == 1


def test_parts_hold_whole_units_and_their_share_of_each_class() -> None:
    rng = np.random.default_rng(0)
    unit = rng.integers(0, 200, 600)
    labels = unit % 4
    part = dealt(labels, unit, 0)
    assert set(part) == set(range(PARTS))
    for number in range(200):
        assert len(set(part[unit == number])) <= 1
    first = np.unique(unit, return_index=True)[1]
    counts = np.zeros((4, PARTS), int)
    np.add.at(counts, (labels[first], part[first]), 1)
    assert (np.ptp(counts, axis=1) <= 1).all()
    assert np.array_equal(part, dealt(labels, unit, 0))
    assert not np.array_equal(part, dealt(labels, unit, 1))


def test_a_single_part_judges_itself() -> None:
    held_out = HeldOut(np.zeros(3, int), np.arange(3), np.zeros(3, int), np.ones(3))
    ((own, others),) = held_out.splits()
    assert own.all()
    assert others.all()


def test_the_best_of_many_epochs_of_noise_is_worth_no_more_than_chance() -> None:
    fair, best = [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        labels = rng.permutation(np.arange(100) % 2)
        epochs = BestEpochs(_held_out(labels), 2)
        scores = []
        for _ in range(40):
            logits = rng.standard_normal((100, 2)).astype(np.float32)
            scores.append((epochs.offer(logits), (logits.argmax(axis=1) == labels).mean()))
        fair.append((epochs.logits.argmax(axis=1) == labels).mean())
        best.append(min(scores)[1])
    # 2,000 images in all: a standard error of 1.1 points.
    assert np.mean(fair) == pytest.approx(0.5, abs=0.03)
    assert np.mean(best) > 0.55


def test_an_epoch_is_best_by_what_classes_count() -> None:
    labels = np.array([0] * 9 + [1])
    weight = np.where(labels == 1, 9.0, 1.0)
    held_out = HeldOut(labels, np.arange(10), np.arange(10) % 2, weight)
    common, rare = np.tile([2.0, 0.0], (10, 1)), np.tile([0.0, 0.5], (10, 1))
    epochs = BestEpochs(held_out, 2)
    assert epochs.offer(common) > epochs.offer(rare)
    # Without the rare image the part that holds it has seen common ones only.
    assert (epochs.logits[held_out.part == 0] == rare[0]).all()
    assert (epochs.logits[held_out.part == 1] == common[0]).all()


def test_each_part_is_calibrated_by_the_others() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    logits = np.eye(3)[labels] + rng.standard_normal((300, 3))
    held_out = _held_out(labels)
    found = softmax(logits, temperatures_across(logits, held_out, None))
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert (found.argmax(axis=1) == logits.argmax(axis=1)).all()
    # The labels of a part change nothing of its own probabilities.
    own = held_out.part == 2
    other = _held_out(np.where(own, (labels + 1) % 3, labels))
    other = HeldOut(other.label, held_out.unit, held_out.part, held_out.weight)
    again = softmax(logits, temperatures_across(logits, other, None))
    np.testing.assert_array_equal(found[own], again[own])
    assert not np.array_equal(found[~own], again[~own])


def test_too_few_images_calibrate_nothing() -> None:
    logits = np.eye(2)[[0, 1, 0, 1]]
    held_out = _held_out(np.array([0, 1, 0, 1]))
    assert (temperatures_across(logits, held_out, None) == 1.0).all()
    assert (temperatures_across(logits, held_out, 2.5) == 2.5).all()
