import numpy as np
import pytest
from sklearn import metrics as sk

from headstart.scoring import metrics


def _case(n_classes: int, *, ties: bool = False, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_classes, 200)
    logits = rng.standard_normal((200, n_classes))
    logits[np.arange(200), labels] += 1
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    if ties:
        probabilities = np.round(probabilities, 1) + 1e-3
        probabilities /= probabilities.sum(axis=1, keepdims=True)
    return labels, probabilities


@pytest.mark.parametrize("n_classes", [2, 3, 12])
@pytest.mark.parametrize("ties", [False, True])
def test_scores_are_scikit_learns(n_classes: int, ties: bool) -> None:
    labels, probabilities = _case(n_classes, ties=ties)
    predicted = probabilities.argmax(axis=1)
    names = tuple(f"c{index}" for index in range(n_classes))
    ours = metrics.scores(labels, probabilities, names)
    precision, recall, f1, support = sk.precision_recall_fscore_support(labels, predicted)
    scored = probabilities[:, 1] if n_classes == 2 else probabilities
    one_hot = labels if n_classes == 2 else np.eye(n_classes)[labels]
    theirs = {
        "images": 200,
        "accuracy": sk.accuracy_score(labels, predicted),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, predicted),
        "macro_precision": precision.mean(),
        "macro_recall": recall.mean(),
        "macro_f1": sk.f1_score(labels, predicted, average="macro"),
        "log_loss": sk.log_loss(labels, probabilities),
        "brier": sk.brier_score_loss(labels, scored),
        "roc_auc": sk.roc_auc_score(labels, scored, multi_class="ovr"),
        "pr_auc": sk.average_precision_score(one_hot, scored, average="macro"),
    }
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, abs=1e-12), name
    for index, row in enumerate(ours["per_class"]):
        assert row["class"] == names[index]
        assert row["images"] == support[index]
        assert [row["precision"], row["recall"], row["f1"]] == pytest.approx(
            [precision[index], recall[index], f1[index]]
        )
    assert ("top5_accuracy" in ours) == (n_classes >= 10)
    if n_classes >= 10 and not ties:
        assert ours["top5_accuracy"] == sk.top_k_accuracy_score(labels, probabilities, k=5)


def test_curves_are_scikit_learns() -> None:
    labels, probabilities = _case(2, ties=True)
    ranking = metrics.Ranking.of(labels == 1, probabilities[:, 1])
    false_rate, true_rate, _ = sk.roc_curve(labels, probabilities[:, 1], drop_intermediate=False)
    np.testing.assert_allclose(ranking.roc, (false_rate, true_rate))
    precision, recall, _ = sk.precision_recall_curve(labels, probabilities[:, 1])
    # scikit-learn goes from the loosest threshold up and adds the point (recall 0, precision 1).
    np.testing.assert_allclose(ranking.precision_recall, (recall[:-1][::-1], precision[:-1][::-1]))


def test_confusion_matrix_has_truth_in_rows() -> None:
    labels, predicted = np.array([0, 0, 1, 2, 2]), np.array([0, 1, 1, 0, 2])
    expected = [[1, 1, 0], [0, 1, 0], [1, 0, 1]]
    assert metrics.confusion_matrix(labels, predicted, 3).tolist() == expected
    assert sk.confusion_matrix(labels, predicted).tolist() == expected


def test_expected_calibration_error_by_hand() -> None:
    # Two images at 0.9 (one right), two at 0.6 (both right): gaps 0.4 and 0.4, half of each.
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.4, 0.6]])
    found = metrics.reliability(np.array([0, 1, 0, 1]), probabilities)
    assert found.count.tolist() == [2, 2]
    assert found.confidence == pytest.approx([0.6, 0.9])
    assert found.accuracy == pytest.approx([1.0, 0.5])
    assert found.expected_error == pytest.approx(0.4)


def test_a_probability_on_an_edge_belongs_to_the_bin_below() -> None:
    found = metrics.reliability(np.array([0]), np.array([[0.8, 0.2]]), n_bins=5)
    assert found.lower == pytest.approx([0.6])


def test_a_certain_image_is_in_the_last_bin() -> None:
    found = metrics.reliability(np.array([0]), np.array([[1.0, 0.0]]), n_bins=5)
    assert found.lower == pytest.approx([0.8])


def test_an_absent_class_leaves_scores_that_the_data_define() -> None:
    labels, probabilities = _case(3)
    kept = labels != 2
    ours = metrics.scores(labels[kept], probabilities[kept], ("a", "b", "c"))
    predicted = probabilities[kept].argmax(axis=1)
    assert ours["balanced_accuracy"] == pytest.approx(
        np.mean([(predicted[labels[kept] == index] == index).mean() for index in (0, 1)])
    )
    areas = [
        sk.roc_auc_score(labels[kept] == index, probabilities[kept, index]) for index in (0, 1)
    ]
    assert ours["roc_auc"] == pytest.approx(np.mean(areas))
    assert ours["macro_f1"] == pytest.approx(
        sk.f1_score(labels[kept], predicted, labels=[0, 1], average="macro")
    )
    assert ours["classes_without_images"] == ["c"]
    assert "classes_without_images" not in metrics.scores(labels, probabilities, ("a", "b", "c"))
    only = metrics.scores(np.zeros(4, int), np.full((4, 2), 0.5), ("a", "b"))
    assert only["roc_auc"] is None


def test_calibration_before_and_after_are_both_told() -> None:
    labels, probabilities = _case(3)
    certain = np.eye(3)[probabilities.argmax(axis=1)]
    ours = metrics.scores(labels, probabilities, ("a", "b", "c"), uncalibrated=certain)
    assert ours["ece_uncalibrated"] == pytest.approx(1 - ours["accuracy"])
    assert ours["ece"] < ours["ece_uncalibrated"]


def test_no_image_gives_no_score() -> None:
    found = metrics.scores(np.empty(0, int), np.empty((0, 2)), ("a", "b"))
    assert found == {"images": 0, "classes_without_images": ["a", "b"]}


def test_few_names_are_told_in_full() -> None:
    assert metrics.named("abc") == "a, b, c"
    assert metrics.named("abcdefg") == "a, b, c, d, e and 2 more"
