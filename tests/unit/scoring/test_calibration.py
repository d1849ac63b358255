import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from headstart.scoring.calibration import fit_temperature, softmax
from headstart.scoring.metrics import reliability


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


def test_scores_that_mislead_become_even_odds() -> None:
    logits = np.eye(3)[np.arange(30) % 3]
    labels = (np.arange(30) + 1) % 3
    probabilities = softmax(logits, fit_temperature(logits, labels))
    assert probabilities == pytest.approx(np.full((30, 3), 1 / 3), abs=1e-4)


def test_equal_scores_keep_their_temperature() -> None:
    assert fit_temperature(np.ones((5, 3)), np.array([0, 1, 2, 0, 1])) == 1.0


def test_softmax_of_large_logits_is_finite() -> None:
    found = softmax(np.array([[1e4, 0.0], [-1e4, 0.0]], np.float32))
    np.testing.assert_array_equal(found, [[1, 0], [0, 1]])
