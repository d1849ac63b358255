import numpy as np
import pytest

from headstart.common.vocabulary import Pooling
from headstart.report.evidence import brightness, class_evidence

RNG = np.random.default_rng(0)
WEIGHTS = RNG.normal(size=(5, 3))
BIAS = RNG.normal(size=3)
SPATIAL = RNG.uniform(0, 2, (3, 4, 5)).astype(np.float32)
POOLED = SPATIAL.mean(axis=(0, 1))


def linear(features: np.ndarray) -> np.ndarray:
    return features @ WEIGHTS + BIAS


def test_of_a_linear_head_is_its_class_activation_map() -> None:
    centered = WEIGHTS - WEIGHTS.mean(axis=1, keepdims=True)
    expected = np.einsum("ijk,k->ij", SPATIAL, centered[:, 1]) / 12
    found = class_evidence(SPATIAL, POOLED, "avg", linear, 1)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_of_a_linear_head_adds_up_to_the_logit() -> None:
    logits = linear(POOLED)
    bias = BIAS[2] - BIAS.mean()
    found = class_evidence(SPATIAL, POOLED, "avg", linear, 2)
    assert found.sum() == pytest.approx(logits[2] - logits.mean() - bias, abs=1e-5)


def test_of_a_curved_head_is_gradient_times_activation() -> None:
    def head(features: np.ndarray) -> np.ndarray:
        return np.tanh(0.3 * linear(features))

    slope = 0.3 * (1 - np.tanh(0.3 * linear(POOLED.astype(np.float64))) ** 2) * WEIGHTS
    centered = slope - slope.mean(axis=1, keepdims=True)
    expected = np.einsum("ijk,k->ij", SPATIAL, centered[:, 0]) / 12
    found = class_evidence(SPATIAL, POOLED, "avg", head, 0)
    np.testing.assert_allclose(found, expected, rtol=0.02, atol=1e-4)


def test_after_max_pooling_only_the_strongest_positions_count() -> None:
    spatial = np.zeros((2, 2, 5), np.float32)
    spatial[0, 1] = [3, 0, 0, 0, 0]
    spatial[1, 0] = [2, 4, 0, 0, 0]
    centered = WEIGHTS - WEIGHTS.mean(axis=1, keepdims=True)
    found = class_evidence(spatial, spatial.max(axis=(0, 1)), "max", linear, 0)
    np.testing.assert_allclose(found, [[0, 3 * centered[0, 0]], [4 * centered[1, 0], 0]], atol=1e-5)


def test_of_an_unpooled_map_each_position_has_its_own_weights() -> None:
    weights = RNG.normal(size=(60, 3))

    def head(maps: np.ndarray) -> np.ndarray:
        return maps.reshape(len(maps), -1) @ weights

    found = class_evidence(SPATIAL, SPATIAL, "none", head, 1)
    centered = (weights - weights.mean(axis=1, keepdims=True))[:, 1].reshape(3, 4, 5)
    np.testing.assert_allclose(found, (SPATIAL * centered).sum(axis=2), atol=1e-4)


@pytest.mark.parametrize(("pooling", "tokens"), [("cls+avg", 1), ("last4", 4)])
def test_beside_class_tokens_the_patches_are_seen_through_their_average(
    pooling: Pooling, tokens: int
) -> None:
    own = RNG.normal(size=(5 * tokens, 3))
    feature = np.concatenate([RNG.normal(size=5 * tokens), POOLED]).astype(np.float32)
    seen = []

    def head(features: np.ndarray) -> np.ndarray:
        seen.append(features[:, : 5 * tokens])
        # The class tokens decide how much the patches count.
        return np.tanh(features[:, : 5 * tokens] @ own) * linear(features[:, 5 * tokens :])

    scale = np.tanh(feature[: 5 * tokens] @ own)
    centered = WEIGHTS * scale - (WEIGHTS * scale).mean(axis=1, keepdims=True)
    expected = np.einsum("ijk,k->ij", SPATIAL, centered[:, 1]) / 12
    found = class_evidence(SPATIAL, feature, pooling, head, 1)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.ptp(np.concatenate(seen), axis=0).max() == 0


def test_brightness_leaves_out_what_speaks_against_the_class() -> None:
    assert brightness(np.array([[-1.0, 0.5], [2.0, 0.0]])) == ((0.0, 0.25), (1.0, 0.0))
    assert brightness(np.array([[-1.0, -2.0]])) == ((0.0, 0.0),)
