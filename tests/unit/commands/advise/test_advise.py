import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

from headstart.commands.advise.applying import changed
from headstart.commands.advise.evidence import Evidence, Probe, Similarity
from headstart.commands.advise.network import CutFacts, NetworkFacts
from headstart.commands.advise.recommendation import costs, recommend
from headstart.commands.advise.transferability import h_score, log_me

PARAMS = Path(__file__).parents[4] / "params.yaml"


def clusters(
    spread: float, n: int = 60, columns: int = 8, classes: int = 3
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.arange(n) % classes
    centres = rng.normal(size=(classes, columns))
    return centres[labels] + spread * rng.normal(size=(n, columns)), labels


@pytest.mark.parametrize("columns", [5, 40])
def test_log_me_is_the_largest_evidence(columns: int) -> None:
    """Against the definition: the density of the labels under a Gaussian process, maximised."""
    features, labels = clusters(2.0, n=30, columns=columns)

    def negative(logs: np.ndarray, target: np.ndarray) -> float:
        alpha, beta = np.exp(logs)
        covariance = np.eye(len(target)) / beta + features @ features.T / alpha
        return -float(multivariate_normal.logpdf(target, cov=covariance))

    expected = [
        -minimize(negative, np.zeros(2), args=(target,), method="Nelder-Mead").fun / len(labels)
        for target in np.eye(3)[labels].T
    ]
    assert log_me(features, labels) == pytest.approx(float(np.mean(expected)), abs=1e-3)


def test_scores_rank_features_by_what_they_tell() -> None:
    found = [
        (log_me(*clusters(spread)), h_score(*clusters(spread))) for spread in (0.2, 0.5, 1.0, 3.0)
    ]
    assert found == sorted(found, reverse=True)
    assert len({score for score, _ in found}) == 4


def test_h_score_of_many_samples_is_the_textbook_one() -> None:
    features, labels = clusters(0.7, n=30_000, columns=4)
    means = np.array([features[labels == index].mean(axis=0) for index in range(3)])[labels]
    expected = np.trace(np.linalg.pinv(np.cov(features.T)) @ np.cov(means.T))
    assert h_score(features, labels) == pytest.approx(float(expected), rel=1e-2)


def test_more_columns_than_samples_is_no_sign_of_quality() -> None:
    rng = np.random.default_rng(1)
    noise, labels = rng.normal(size=(40, 200)), np.arange(40) % 2
    # Unshrunk it would be 1, the most that two classes allow.
    assert h_score(noise, labels) < 0.3
    assert math.isfinite(log_me(noise, labels))
    assert log_me(noise, labels) < log_me(*clusters(0.5, n=40, classes=2))


def test_perfectly_separable_features_give_finite_scores() -> None:
    labels = np.arange(40) % 2
    features = np.eye(2)[labels] * 3
    assert math.isfinite(log_me(features, labels))
    assert log_me(features, labels) > 3
    assert math.isfinite(h_score(features, labels))


NETWORK = NetworkFacts(
    multiply_adds=1000,
    parameters=100,
    blocks=(
        CutFacts(name="block2", multiply_adds_below=800, parameters_above=60),
        CutFacts(name="block1", multiply_adds_below=400, parameters_above=90),
    ),
    last="top",
    forward_seconds=0.01,
    last_block_seconds=0.006,
    all_seconds=0.03,
)


def probe(cut: str, accuracy: float, half: float = 0.01, l2: float = 0.1) -> Probe:
    return Probe(
        cut=cut,
        feature_dim=16,
        multiply_adds=1,
        log_me=0.0,
        h_score=0.0,
        accuracy=accuracy,
        interval=(accuracy - half, min(1.0, accuracy + half)),
        log_loss=1 - accuracy,
        l2=l2,
    )


def evidence(last: float, earlier: float, **changes: object) -> Evidence:
    known = Evidence(
        n_classes=2,
        n_images=500,
        n_train=400,
        per_class=200,
        pretrained=True,
        last="top",
        probes=(probe("top", last), probe("block2", earlier, l2=7.0)),
        similarity=Similarity(confidence=0.5, entropy=0.4, information=2.0),
        network=NETWORK,
    )
    return replace(known, **changes)


UNLIKE = Similarity(confidence=0.9, entropy=0.1, information=0.2)


@pytest.mark.parametrize(
    ("given", "case", "strategy", "cut"),
    [
        (evidence(0.9, 0.8, per_class=99), "few images, similar to ImageNet", "freeze", "top"),
        (evidence(0.8, 0.9, per_class=99), "few images, unlike ImageNet", "freeze", "block2"),
        (evidence(0.9, 0.8), "many images, similar to ImageNet", "last_block", "top"),
        (evidence(0.8, 0.9), "many images, unlike ImageNet", "all", "top"),
        (
            evidence(0.9, 0.9, similarity=UNLIKE),
            "many images, unlike ImageNet",
            "all",
            "top",
        ),
        (
            evidence(0.9, 0.9, similarity=None),
            "many images, similar to ImageNet",
            "last_block",
            "top",
        ),
        # Next to perfect already.
        (evidence(0.985, 0.9), "many images, similar to ImageNet", "freeze", "top"),
        (evidence(0.9, 0.985), "many images, unlike ImageNet", "freeze", "block2"),
        (
            evidence(0.9, 0.8, pretrained=False),
            "many images, similar to ImageNet",
            "scratch",
            "top",
        ),
    ],
)
def test_the_four_cases(given: Evidence, case: str, strategy: str, cut: str) -> None:
    advice = recommend(given)
    assert (advice.case, advice.strategy, advice.cut) == (case, strategy, cut)
    expected = "none" if strategy == "freeze" else strategy
    assert advice.changes["finetune.unfreeze"] == expected
    assert advice.changes["extract.layer"] == ("auto" if cut == "top" else cut)
    assert advice.changes["train.heads.logistic.l2"] == advice.l2
    assert len(advice.reasons) == 3


def test_costs_count_three_passes_per_step() -> None:
    freeze, last_block, all_, _ = costs(evidence(0.9, 0.8))
    assert freeze.multiply_adds == 500 * 1000
    assert freeze.minutes == pytest.approx(500 * 0.01 / 60)
    assert last_block.multiply_adds == 500 * 1000 + 3 * 200 * 400 * 10
    assert last_block.learning == 0.6
    assert all_.multiply_adds == 500 * 1000 + 3 * 1000 * 400 * 20
    assert all_.minutes == pytest.approx((500 * 0.01 + 0.03 * 400 * 20) / 60)


def test_probed_cuts_are_spread_over_the_network() -> None:
    assert NETWORK.probed((0.9, 0.75, 0.3)) == ("top", "block2", "block1")


def test_params_keep_their_comments() -> None:
    text = PARAMS.read_text()
    before = YAML(typ="safe").load(text)
    changes = {
        "finetune.unfreeze": "last_block",
        "finetune.learning_rate": 3e-4,
        "extract.layer": "block5c_add",
        "train.heads.logistic.l2": 0.01,
        "train.heads.probe.l2": 0.5,
    }
    after = changed(text, changes)
    expected = before | {
        "finetune": before["finetune"] | {"unfreeze": "last_block", "learning_rate": 3e-4},
        "extract": before["extract"] | {"layer": "block5c_add"},
    }
    expected["train"]["heads"]["logistic"]["l2"] = 0.01
    expected["train"]["heads"]["probe"] = {"l2": 0.5}
    assert YAML(typ="safe").load(after) == expected
    old, new = text.splitlines(), after.splitlines()
    assert len(new) == len(old) + 2
    assert sum(line not in new for line in old) == 4
    comments = [line[line.index("#") :] for line in old if "#" in line]
    assert comments == [line[line.index("#") :] for line in new if "#" in line]


def test_params_that_say_it_already_stay_as_they_are() -> None:
    text = PARAMS.read_text()
    assert changed(text, {"finetune.unfreeze": "none", "train.shots": None}) == text
