import numpy as np
import pytest

from headstart.audit.noise import confident_errors, odds_against, wrong_odds
from headstart.scoring.calibration import softmax


def planted(n: int, n_classes: int, share: float, sureness: float, seed: int = 0):
    """Logits of a fair classifier, labels of which a share is wrong, and which ones."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, sureness, (n, n_classes))
    shares = softmax(logits)
    true = (shares.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    wrong = rng.random(n) < share
    labels = np.where(wrong, (true + rng.integers(1, n_classes, n)) % n_classes, true)
    return logits, labels, wrong


def test_confident_learning_by_hand() -> None:
    probabilities = np.array(
        [[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.3, 0.7], [0.2, 0.8], [0.5, 0.5]]
    )
    labels = np.array([0, 0, 0, 1, 1, 1])
    # Thresholds: mean of 0.9, 0.8, 0.1 = 0.6, and of 0.7, 0.8, 0.5 = 0.667. The third reaches that
    # of the other class; the last reaches none and counts as nothing.
    wrong, errors = confident_errors(probabilities, labels)
    assert wrong.tolist() == [False, False, True, False, False, False]
    assert errors == pytest.approx(1 / 3 * 3)


def test_a_class_without_images_takes_none() -> None:
    wrong, errors = confident_errors(np.array([[0.2, 0.1, 0.7], [0.2, 0.8, 0.0]]), np.array([0, 1]))
    assert not wrong.any()
    assert errors == 0


def test_odds_of_two_classes_are_the_difference_of_their_logits() -> None:
    odds = odds_against(np.array([[2.0, -1.0], [0.0, 3.0]]), np.array([0, 0]))
    np.testing.assert_allclose(odds, [-3, 3])


@pytest.mark.parametrize(("n_classes", "share"), [(2, 0.1), (10, 0.05), (10, 0.2)])
def test_scores_are_probabilities(n_classes: int, share: float) -> None:
    logits, labels, wrong = planted(4000, n_classes, share, 6.0)
    _, errors = confident_errors(softmax(logits), labels)
    score = 1 / (1 + np.exp(-wrong_odds(logits, labels, errors)))
    assert score.sum() == pytest.approx(wrong.sum(), rel=0.25)
    for low, high in ((0.02, 0.5), (0.5, 1.0)):
        among = (score >= low) & (score < high)
        assert score[among].mean() == pytest.approx(wrong[among].mean(), abs=0.12)


def test_of_right_labels_next_to_none_is_doubted() -> None:
    logits, labels, _ = planted(2000, 3, 0.0, 6.0)
    _, errors = confident_errors(softmax(logits), labels)
    assert (wrong_odds(logits, labels, errors) > 0).sum() <= 4
