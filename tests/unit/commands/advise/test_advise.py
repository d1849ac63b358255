from dataclasses import replace

import pytest

from headstart.commands.advise.evidence import Evidence, Probe, Similarity
from headstart.commands.advise.facts import CutFacts, NetworkFacts
from headstart.commands.advise.recommendation import costs, recommend

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
