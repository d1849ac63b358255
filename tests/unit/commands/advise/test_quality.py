import numpy as np
import pytest

from headstart.commands.advise.quality import gain_interval, quality, standard_error
from headstart.scoring.calibration import fit_temperature, softmax
from headstart.scoring.metrics import brier_score

UNITS = np.arange(200)
LABELS = UNITS % 2


def logits(sure: float, mistakes: int = 20) -> np.ndarray:
    signs = np.where(LABELS == 1, 1.0, -1.0)
    signs[:mistakes] *= -1
    return np.stack([-signs, signs], axis=1) * sure


def test_the_scale_of_logits_does_not_matter() -> None:
    one, other = (quality(logits(sure), LABELS, UNITS) for sure in (1.0, 50.0))
    np.testing.assert_allclose(one.score, other.score, atol=1e-6)
    assert ((one.score >= 0) & (one.score <= 1)).all()
    assert one.right.mean() == 0.9


def test_it_sees_what_accuracy_does_not() -> None:
    graded = logits(1.0)
    # The same mistakes, made hesitantly.
    graded[:20] /= 10
    plain, better = (quality(given, LABELS, UNITS) for given in (logits(1.0), graded))
    assert (plain.right == better.right).all()
    assert better.score.mean() > plain.score.mean() + 0.01
    assert better.loss.mean() < plain.loss.mean()


def test_it_is_the_mean_of_accuracy_and_one_minus_the_brier_score() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 200)
    given = rng.normal(size=(200, 3)) + 2 * np.eye(3)[labels]
    probabilities = softmax(given, fit_temperature(given, labels, UNITS) or 1.0)
    expected = ((probabilities.argmax(axis=1) == labels).mean() + 1) / 2
    expected -= brier_score(labels, probabilities) / 4  # of three classes it is at most 2
    assert quality(given, labels, UNITS).score.mean() == pytest.approx(expected)


def test_perfect_is_nearly_one() -> None:
    assert quality(logits(1.0, mistakes=0), LABELS, UNITS).score.mean() == pytest.approx(
        1, abs=0.01
    )


def test_an_error_of_groups_is_that_of_their_means() -> None:
    gains = np.random.default_rng(0).normal(size=100)
    alone = standard_error(gains, np.arange(100))
    assert alone == pytest.approx(gains.std(ddof=1) / 10)
    twice = standard_error(np.repeat(gains, 2), np.repeat(np.arange(100), 2))
    assert twice == pytest.approx(alone)
    assert standard_error(gains, np.zeros(100, np.int64)) == 1


def test_images_that_count_for_several_may_gain_more_than_one() -> None:
    gains = np.where(UNITS % 10 == 0, 3.0, 0.0)
    low, high = gain_interval(gains, UNITS)
    assert low < gains.mean() < high
    assert low == pytest.approx(3 * gain_interval(gains / 3, UNITS)[0])
