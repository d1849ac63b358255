"""Linear heads find what scikit-learn finds at each value of the path."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from headstart.heads import create, descent
from headstart.heads.data import TrainingData
from headstart.heads.linear_path import LinearHead
from headstart.heads.options import LinearSVCOptions, LogisticOptions, RidgeOptions
from headstart.scoring.calibration import softmax
from tests.feature_files import blobs, write_project

# Fewer images than columns, and more.
SHAPES = [(20, 3, 90), (60, 3, 12), (40, 2, 10)]


def _data(root: Path, shape: tuple[int, int, int], **options: object) -> TrainingData:
    features, labels = blobs(*shape, gap=1.5)
    features *= np.linspace(0.2, 3, shape[2], dtype=np.float32)
    file = write_project(root, features, labels)
    defaults = {"min_validation": 1, "folds_below": 0, "streaming_above": 10**9, "seed": 0}
    return TrainingData.from_file(file, **{**defaults, **options})


def _fitted(data: TrainingData, options: object) -> LinearHead:
    head = create(options, seed=0)
    head.fit(data)
    assert isinstance(head, LinearHead)
    return head


def _xyw(data: TrainingData) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    features = np.asarray(data.features[data.train], np.float64)
    return features, data.label[data.train], data.weights(data.train)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("l2", [1e3, 1.0, 1e-3])
@pytest.mark.parametrize("streaming_above", [10**9, 0])
def test_logistic_is_logistic_regression(
    tmp_path: Path, shape: tuple[int, int, int], l2: float, streaming_above: int
) -> None:
    data = _data(tmp_path, shape, class_weight="balanced", streaming_above=streaming_above)
    head = _fitted(data, LogisticOptions(kind="logistic", l2=l2))
    features, labels, weights = _xyw(data)
    theirs = LogisticRegression(C=1 / l2, solver="newton-cholesky", tol=1e-10)
    theirs.fit(features, labels, sample_weight=weights)
    found = softmax(head.logits(data.features))
    expected = theirs.predict_proba(np.asarray(data.features, np.float64))
    np.testing.assert_allclose(found, expected, atol=2e-3)


@pytest.mark.parametrize("shape", SHAPES)
# Where hardly anything holds the weights back, the objective is flat and float32 ends sooner.
@pytest.mark.parametrize(("l2", "tolerance"), [(1e3, 2e-3), (1.0, 1e-2), (1e-3, 3e-2)])
@pytest.mark.parametrize("streaming_above", [10**9, 0])
def test_larger_features_in_float32_give_the_same(
    tmp_path: Path,
    shape: tuple[int, int, int],
    l2: float,
    tolerance: float,
    streaming_above: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = _data(tmp_path, shape, streaming_above=streaming_above)
    exact = softmax(_fitted(data, LogisticOptions(kind="logistic", l2=l2)).logits(data.features))
    monkeypatch.setattr(descent, "_SMALL_BYTES", 0)
    head = _fitted(data, LogisticOptions(kind="logistic", l2=l2))
    found = softmax(head.logits(data.features))
    assert not np.array_equal(found, exact)
    np.testing.assert_allclose(found, exact, atol=tolerance)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("c", [1e-4, 1e-2, 1.0])
@pytest.mark.parametrize("streaming_above", [10**9, 0])
def test_linear_svc_is_linear_svc_on_standardized_features(
    tmp_path: Path, shape: tuple[int, int, int], c: float, streaming_above: int
) -> None:
    data = _data(tmp_path, shape, streaming_above=streaming_above)
    head = _fitted(data, LinearSVCOptions(kind="linear_svc", c=c))
    features, labels, _ = _xyw(data)
    scaler = StandardScaler().fit(features)
    theirs = LinearSVC(C=c, dual=False, tol=1e-10, max_iter=100_000)
    theirs.fit(scaler.transform(features), labels)
    everything = np.asarray(data.features, np.float64)
    expected = theirs.decision_function(scaler.transform(everything))
    found = head.logits(data.features)
    found = found[:, 1] if shape[1] == 2 else found
    np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("c", [1e-4, 1e-2, 1.0])
@pytest.mark.parametrize("streaming_above", [10**9, 0])
def test_linear_svc_on_larger_features_in_float32_gives_the_same(
    tmp_path: Path,
    shape: tuple[int, int, int],
    c: float,
    streaming_above: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = _data(tmp_path, shape, streaming_above=streaming_above)
    exact = _fitted(data, LinearSVCOptions(kind="linear_svc", c=c)).logits(data.features)
    monkeypatch.setattr(descent, "_SMALL_BYTES", 0)
    found = _fitted(data, LinearSVCOptions(kind="linear_svc", c=c)).logits(data.features)
    assert not np.array_equal(found, exact)
    np.testing.assert_allclose(found, exact, atol=3e-2 * np.abs(exact).max())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("l2", [1e4, 1.0, 1e-4])
@pytest.mark.parametrize("streaming_above", [10**9, 0])
def test_ridge_is_ridge(
    tmp_path: Path, shape: tuple[int, int, int], l2: float, streaming_above: int
) -> None:
    data = _data(tmp_path, shape, class_weight="balanced", streaming_above=streaming_above)
    head = _fitted(data, RidgeOptions(kind="ridge", l2=l2))
    features, labels, weights = _xyw(data)
    targets = 2.0 * np.eye(shape[1])[labels] - 1
    theirs = Ridge(alpha=l2, solver="svd").fit(features, targets, sample_weight=weights)
    everything = np.asarray(data.features, np.float64)
    expected = theirs.predict(everything)
    np.testing.assert_allclose(head.logits(data.features), expected, atol=1e-3)
    if shape[1] > 2:
        classifier = RidgeClassifier(alpha=l2).fit(features, labels, sample_weight=weights)
        np.testing.assert_array_equal(
            head.logits(data.features).argmax(axis=1), classifier.predict(everything)
        )


@pytest.mark.parametrize("kind", ["logistic", "linear_svc", "ridge"])
def test_a_step_of_the_path_is_the_fit_at_that_value(tmp_path: Path, kind: str) -> None:
    options = {
        "logistic": LogisticOptions, "linear_svc": LinearSVCOptions, "ridge": RidgeOptions,
    }[kind]  # fmt: skip
    data = _data(tmp_path, (60, 3, 12))
    chosen = _fitted(data, options(kind=kind))
    (name, value), *_ = chosen.card.setting.items()
    alone = _fitted(data, options(kind=kind, **{name: value}))
    np.testing.assert_allclose(chosen.as_linear()[0], alone.as_linear()[0], atol=1e-3)
    best = max(chosen.card.curve, key=lambda point: (point["accuracy"], -point["log_loss"]))
    assert best[name] == value
    assert alone.card.curve == [pytest.approx(best, abs=1e-4)]


def test_the_path_of_logistic_is_the_published_one(tmp_path: Path) -> None:
    head = _fitted(_data(tmp_path, (60, 3, 12)), LogisticOptions(kind="logistic"))
    tried = [point["l2"] for point in head.card.curve]
    assert len(tried) == 45
    np.testing.assert_allclose(np.sort(tried), np.logspace(-6, 5, 45))


def test_linear_svc_stops_where_the_curve_has_turned(tmp_path: Path) -> None:
    head = _fitted(_data(tmp_path, (60, 3, 12)), LinearSVCOptions(kind="linear_svc"))
    tried = [point["c"] for point in head.card.curve]
    assert tried == sorted(tried)
    assert tried.index(head.card.setting["c"]) == len(tried) - 5 or len(tried) == 19


def test_a_constant_column_and_an_absent_class_in_a_fold_are_survived(tmp_path: Path) -> None:
    features, labels = blobs(12)
    features[:, 3] = 7.5
    kept = (labels != 2) | (np.cumsum(labels == 2) <= 2)
    split = np.where(np.cumsum(kept) % 4 == 3, "test", "train")
    split[labels == 2] = "train"
    file = write_project(tmp_path, features[kept], labels[kept], split=split[kept])
    data = TrainingData.from_file(
        file, min_validation=1, folds_below=0, streaming_above=10**9, seed=0
    )
    for options in (LogisticOptions(kind="logistic"), LinearSVCOptions(kind="linear_svc")):
        head = _fitted(data, options)
        assert head.card.selected_by == "cross-validation"
        assert np.isfinite(head.predict_proba(data.features)).all()
