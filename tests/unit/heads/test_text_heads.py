"""Heads that read the classes' text vectors: alone, or as where a linear probe starts."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax

from headstart.common.errors import InputError
from headstart.features.text import ClassTexts
from headstart.heads import create
from headstart.heads.base import Head
from headstart.heads.data import TrainingData
from headstart.heads.linear_path import LinearHead
from headstart.heads.options import HeadOptions, LogisticOptions, ZeroShotOptions
from headstart.heads.text_start import sureness, text_start
from headstart.scoring.calibration import softmax
from tests.feature_files import blobs, class_means, write_project

ZERO_SHOT = ZeroShotOptions(kind="zero_shot")


def _data(root: Path, *shape: int, **options: object) -> TrainingData:
    features, labels = blobs(*shape)
    texts = class_means(features, labels)
    # Not what the images would say by themselves.
    noise = np.random.default_rng(3).normal(0, 0.1, texts.vectors.shape)
    vectors = (texts.vectors + noise).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    file = write_project(root, features, labels, texts=replace(texts, vectors=vectors))
    defaults = {"min_validation": 1, "folds_below": 0, "streaming_above": 10**9, "seed": 0}
    return TrainingData.from_file(file, **{**defaults, **options})


def _fitted(data: TrainingData, options: HeadOptions) -> Head:
    head = create(options, seed=0)
    head.fit(data)
    return head


def _from_text(data: TrainingData, **options: object) -> LinearHead:
    head = _fitted(data, LogisticOptions(kind="logistic", start="text", **options))
    assert isinstance(head, LinearHead)
    return head


def _texts(data: TrainingData) -> ClassTexts:
    assert isinstance(data.texts, ClassTexts)
    return data.texts


def test_zero_shot_is_the_scaled_cosine(tmp_path: Path) -> None:
    data = _data(tmp_path, 30, 3, 8)
    head, texts = _fitted(data, ZERO_SHOT), _texts(data)
    features = np.asarray(data.features, np.float64)
    cosines = features @ texts.vectors.T / np.linalg.norm(features, axis=1, keepdims=True)
    np.testing.assert_allclose(head.logits(data.features), texts.scale * cosines, atol=1e-5)
    assert head.card.setting == {}
    assert head.card.selected_by == "validation"


def test_zero_shot_learns_nothing_of_the_images(tmp_path: Path) -> None:
    one, other = (_data(tmp_path / str(n), 30, 3, 8, shots=n) for n in (1, 5))
    np.testing.assert_array_equal(
        _fitted(one, ZERO_SHOT).logits(one.features), _fitted(other, ZERO_SHOT).logits(one.features)
    )
    # Of so few none can be held out: the model's own scale says how sure it is.
    assert _fitted(one, ZERO_SHOT).card.temperature == 1.0


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (None, "but LeNet5 has none: set extract.backbone to a CLIP or SigLIP one"),
        ("the preset lacks tokenizer.json: add it", "but the preset lacks tokenizer.json: add it"),
    ],
)
@pytest.mark.parametrize(
    ("options", "what"),
    [
        (ZERO_SHOT, "train.heads: kind zero_shot"),
        (LogisticOptions(kind="logistic", start="text"), "train.heads: kind logistic, start text"),
    ],
)
def test_missing_text_vectors_are_told(
    tmp_path: Path, options: HeadOptions, what: str, texts: str | None, message: str
) -> None:
    data = replace(_data(tmp_path, 5, 2, 8), texts=texts)
    expected = f"params.yaml: {what} needs text vectors of the classes, {message}"
    with pytest.raises(InputError) as caught:
        _fitted(data, options)
    assert str(caught.value).startswith(expected)


# Fewer images than columns, and more; two classes have one vector of weights.
@pytest.mark.parametrize("shape", [(10, 3, 60), (40, 3, 6), (40, 2, 6)])
@pytest.mark.parametrize("l2", [100.0, 1.0, 0.1])
@pytest.mark.parametrize("streaming_above", [10**9, 0])
def test_start_is_what_the_penalty_draws_to(
    tmp_path: Path, shape: tuple[int, int, int], l2: float, streaming_above: int
) -> None:
    data = _data(tmp_path, *shape, streaming_above=streaming_above)
    head = _from_text(data, l2=l2)
    start = text_start(data, data.train)
    features = np.asarray(data.features[data.train], np.float64)
    labels, n_classes = data.label[data.train], data.n_classes
    mean = features.mean(axis=0)
    centered = features - mean
    own = features @ start.weights
    # A column as long as a row is on the average stands for the intercept.
    # Two classes have one vector w, written as w / 2 and -w / 2.
    penalty = 2 * l2 if n_classes == 2 else l2
    column = np.full((len(features), 1), np.sqrt(np.square(centered).sum(axis=1).mean()))
    design = np.hstack([centered, column])

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(-1, n_classes)
        logs = log_softmax(own + design @ weights, axis=1)
        residual = np.exp(logs)
        residual[np.arange(len(labels)), labels] -= 1
        value = -logs[np.arange(len(labels)), labels].sum()
        value += penalty / 2 * np.square(weights).sum()
        return value, (design.T @ residual + penalty * weights).ravel()

    begin = np.zeros(design.shape[1] * n_classes)
    found = minimize(objective, begin, jac=True, tol=1e-12, options={"maxiter": 5000})
    weights = found.x.reshape(-1, n_classes)
    everything = np.asarray(data.features, np.float64)
    expected = (
        everything @ start.weights
        + np.hstack([everything - mean, np.repeat(column[:1], len(everything), axis=0)]) @ weights
    )
    np.testing.assert_allclose(softmax(head.logits(data.features)), softmax(expected), atol=3e-3)


def test_a_strong_penalty_leaves_the_zero_shot_head(tmp_path: Path) -> None:
    for n_classes in (2, 3):
        data = _data(tmp_path / str(n_classes), 30, n_classes, 8)
        head, zero_shot = _from_text(data, l2=1e9), _fitted(data, ZERO_SHOT)
        np.testing.assert_array_equal(
            head.logits(data.features).argmax(axis=1),
            zero_shot.logits(data.features).argmax(axis=1),
        )


def test_misleading_texts_leave_the_plain_probe(tmp_path: Path) -> None:
    data = _data(tmp_path, 40, 3, 8)
    texts = _texts(data)
    wrong = replace(data, texts=replace(texts, vectors=np.roll(texts.vectors, 1, axis=0)))
    assert not text_start(wrong, wrong.train).weights.any()
    plain = _fitted(wrong, LogisticOptions(kind="logistic", l2=0.1))
    np.testing.assert_allclose(
        softmax(_from_text(wrong, l2=0.1).logits(data.features)),
        softmax(plain.logits(data.features)),
        atol=0.05,
    )


def test_one_image_per_class_takes_the_default_penalty(tmp_path: Path) -> None:
    data = _data(tmp_path, 30, 3, 8, shots=1)
    head = _from_text(data)
    features = np.asarray(data.features[data.train], np.float64)
    assert head.card.selected_by == "default"
    expected = np.square(features - features.mean(axis=0)).sum(axis=1).mean() / 100
    assert head.card.setting == {"l2": pytest.approx(expected, rel=1e-5)}
    # Nine images cannot tell a temperature, nor rank penalties by their log loss; twelve can.
    tried = {
        shots: len(_from_text(_data(tmp_path / str(shots), 30, 3, 8, shots=shots)).card.curve)
        for shots in (3, 4)
    }
    assert tried == {3: 1, 4: 45}


def test_sureness_makes_labels_likely() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (4000, 4))
    for factor in (0.25, 0.7):
        shares = softmax(factor * logits).cumsum(axis=1)
        labels = (rng.random((4000, 1)) > shares).sum(axis=1)
        assert sureness(logits.astype(np.float32), labels) == pytest.approx(factor, abs=0.05)


def test_sureness_is_at_most_the_models_own() -> None:
    logits = np.eye(3, dtype=np.float32)
    assert sureness(logits, np.arange(3)) == 1.0
    assert sureness(logits, np.array([1, 2, 0])) == 0.0
