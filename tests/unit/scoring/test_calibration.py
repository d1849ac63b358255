import numpy as np
import pytest
from scipy import special
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from headstart.scoring import calibration
from headstart.scoring.calibration import (
    cautious_losses,
    fit_temperature,
    losses_at,
    softmax,
)
from headstart.scoring.metrics import log_loss, reliability


def _logits(n: int, n_classes: int, scale: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose honest temperature is `scale`: labels are drawn from softmax(logits / scale)."""
    rng = np.random.default_rng(seed)
    honest = 2 * rng.standard_normal((n, n_classes))
    labels = (honest + rng.gumbel(size=honest.shape)).argmax(axis=1)
    return scale * honest, labels


@pytest.mark.parametrize("n_classes", [2, 7])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 5e3])
def test_temperature_is_the_most_likely_one(n_classes: int, scale: float) -> None:
    logits, labels = _logits(2000, n_classes, scale)
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(scale, rel=0.1)

    slip = 1 / (len(labels) + 2)
    targets = np.full(logits.shape, slip / (n_classes - 1))
    targets[np.arange(len(labels)), labels] = 1 - slip
    best = minimize_scalar(
        lambda t: -(targets * log_softmax(logits / np.exp(t), axis=1)).sum(),
        bounds=(np.log(scale) - 2, np.log(scale) + 2),
        options={"xatol": 1e-9},
    )
    assert found == pytest.approx(np.exp(best.x), rel=1e-5)


def test_overconfident_logits_are_calibrated() -> None:
    logits, labels = _logits(4000, 5, 6.0)
    temperature = fit_temperature(logits[:2000], labels[:2000])
    before = reliability(labels[2000:], softmax(logits[2000:])).expected_error
    after = reliability(labels[2000:], softmax(logits[2000:], temperature)).expected_error
    assert before > 0.15
    assert after < 0.04


def test_all_right_is_not_certainty() -> None:
    logits = 30 * np.eye(2)[np.arange(40) % 2]
    labels = np.arange(40) % 2
    confidence = softmax(logits, fit_temperature(logits, labels)).max(axis=1)
    assert confidence == pytest.approx(np.full(40, 1 - 1 / 42), abs=1e-6)


def test_scores_that_mislead_or_say_nothing_give_no_temperature() -> None:
    logits = np.eye(3)[np.arange(30) % 3]
    assert fit_temperature(logits, (np.arange(30) + 1) % 3) is None
    # Right and wrong in such balance that only probabilities of hardly more than a third would do.
    labels = np.where(np.arange(3000) < 1001, np.arange(3000) % 3, (np.arange(3000) + 1) % 3)
    assert fit_temperature(np.tile(logits, (100, 1)), labels) is None
    assert fit_temperature(np.full((30, 3), np.nan), np.arange(30) % 3) is None


def test_units_count_not_images() -> None:
    logits, labels = _logits(12, 3, 1.0)
    assert fit_temperature(logits[:9], labels[:9]) is None
    assert fit_temperature(logits, labels) == fit_temperature(logits, labels, np.arange(12))
    assert fit_temperature(logits, labels, np.minimum(np.arange(12), 9)) is not None
    assert fit_temperature(logits, labels, np.minimum(np.arange(12), 8)) is None


def test_equal_scores_keep_their_temperature() -> None:
    assert fit_temperature(np.ones((10, 3)), np.arange(10) % 3) == 1.0


def test_softmax_is_scipys_to_the_bit() -> None:
    logits = np.random.default_rng(0).normal(scale=30, size=(50, 7)).astype(np.float32)
    expected = special.softmax(logits.astype(np.float64) / 1.7, axis=1)
    np.testing.assert_array_equal(softmax(logits, 1.7), expected)


def test_softmax_of_large_logits_is_finite() -> None:
    found = softmax(np.array([[1e4, 0.0], [-1e4, 0.0]], np.float32))
    np.testing.assert_array_equal(found, [[1, 0], [0, 1]])


def test_a_few_images_warrant_little_confidence() -> None:
    labels = np.array([0, 1, 0, 1])
    losses = [
        cautious_losses(scale * np.eye(2)[labels], labels).mean() for scale in (0.5, 1.6, 9.0)
    ]
    # 1 - 1 / 6 of the probability on what is right, the odds of five to one, cost least.
    assert min(losses) == losses[1]
    assert losses[1] == pytest.approx(-np.log(5) * 5 / 6 + np.log(6), abs=1e-3)


def test_losses_at_a_temperature_are_those_of_the_probabilities() -> None:
    logits, labels = _logits(50, 4, 1.0)
    # One image that is hopelessly wrong.
    logits[0] = 1e4 * (np.arange(4) != labels[0])
    expected = log_loss(labels, softmax(logits, 0.7))
    assert losses_at(0.7, logits, labels).mean() == pytest.approx(expected, rel=1e-12)


def test_logits_in_many_parts_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = _logits(400, 3, 2.0)

    def found() -> list[float | None]:
        return [
            fit_temperature(logits, labels),
            losses_at(2.0, logits, labels).mean(),
            cautious_losses(logits, labels).mean(),
        ]

    whole = found()
    monkeypatch.setattr(calibration, "_PART", 100)
    assert found() == pytest.approx(whole, rel=1e-9)
    logits[300, 1] = np.nan
    assert fit_temperature(logits, labels) is None
