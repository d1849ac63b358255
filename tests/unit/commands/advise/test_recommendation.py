from dataclasses import replace

import pytest

from headstart.commands.advise.evidence import Evidence, Probe, Similarity
from headstart.commands.advise.facts import CutFacts, NetworkFacts
from headstart.commands.advise.recommendation import nothing_to_try, recommend
from headstart.commands.advise.search import Found, Trial
from headstart.commands.advise.strategies import Arm, Size, arms, full_size

NETWORK = NetworkFacts(
    multiply_adds=1000,
    parameters=100,
    blocks=(
        CutFacts(name="block2", multiply_adds_below=800, parameters_above=60),
        CutFacts(name="block1", multiply_adds_below=400, parameters_above=90),
    ),
    last="top",
    forward_seconds=0.01,
)

NONE = Found(minutes=5, trials=(), finalists=(), left_out=(), why="no pilot fits into the time")


def probe(cut: str, gain: float, l2: float, half: float = 0.02) -> Probe:
    return Probe(
        cut=cut,
        # As of a transformer's last four blocks.
        pooling="last4" if cut == "top" else "cls+avg",
        feature_dim=16,
        multiply_adds=1,
        accuracy=0.8 + gain,
        interval=(0.7, 0.9),
        log_loss=0.5 - gain,
        gain=gain,
        gain_interval=(gain - half, gain + half),
        score=0.8 + gain,
        l2=l2,
    )


def evidence(earlier: float, *, pretrained: bool = True, half: float = 0.02) -> Evidence:
    return Evidence(
        n_classes=2,
        n_images=500,
        n_train=400,
        per_class=200,
        pretrained=pretrained,
        last="top",
        probes=(probe("top", 0.0, 0.1, 0.0), probe("block2", earlier, 7.0, half)),
        similarity=Similarity(confidence=0.5, entropy=0.4, information=2.0),
        network=NETWORK,
    )


def recommended(known: Evidence, gains: dict[str, tuple[float, float]] | None = None) -> object:
    last, frozen = known.probes[0], known.frozen
    ways = arms(pretrained=known.pretrained, last=(last.cut, last.l2), best=(frozen.cut, frozen.l2))
    found = NONE
    if gains is not None:
        tried = [arm for arm in ways if arm.unfreeze in gains]
        trials = tuple(trial(arm, *gains[arm.unfreeze]) for arm in tried)
        found = replace(NONE, trials=trials, finalists=tuple(tried), why="every fold was used")
    return recommend(known, found, {arm: full_size(arm.unfreeze, 400, 32) for arm in ways})


def trial(arm: Arm, gain: float, half: float) -> Trial:
    return Trial(
        arm=arm,
        size=Size(images=300, epochs=8),
        rounds=2,
        predicted_seconds=20.0,
        seconds=25.0,
        images=200,
        accuracy=0.9,
        log_loss=0.3,
        gain=gain,
        interval=(gain - half, gain + half),
        error=half / 2,
    )


@pytest.mark.parametrize(
    ("earlier", "gains", "strategy", "cut", "case"),
    [
        (0.0, {"last_block": (-0.01, 0.02)}, "freeze", "top", "few images, similar to ImageNet"),
        (0.05, {"all": (-0.01, 0.02)}, "freeze", "block2", "few images, unlike ImageNet"),
        (0.0, {"last_block": (0.03, 0.01)}, "last_block", "top", "many images, similar to"),
        (0.05, {"all": (0.1, 0.05)}, "all", "block2", "many images, unlike ImageNet"),
        # More likely a gain than not: no need of significance to do what is better on average.
        (0.0, {"all": (0.02, 0.04)}, "all", "top", "many images"),
        # A handful of images that like it: little is to be expected again.
        (0.0, {"all": (0.03, 0.4)}, "freeze", "top", "few images"),
        # Less than a point is not worth training the backbone.
        (0.0, {"all": (0.009, 0.001)}, "freeze", "top", "few images"),
        (0.004, None, "freeze", "top", "similar to ImageNet"),
        (0.05, None, "freeze", "block2", "unlike ImageNet"),
    ],
)
def test_what_gained_most_is_recommended(
    earlier: float,
    gains: dict[str, tuple[float, float]] | None,
    strategy: str,
    cut: str,
    case: str,
) -> None:
    advice = recommended(evidence(earlier), gains)
    assert (advice.strategy, advice.cut) == (strategy, cut)
    assert advice.case.startswith(case)
    assert advice.changes["finetune.unfreeze"] == ("none" if strategy == "freeze" else strategy)
    assert advice.changes["extract.layer"] == ("auto" if cut == "top" else cut)
    assert advice.changes["extract.pooling"] == ("last4" if cut == "top" else "cls+avg")
    # What its head chooses by itself is no worse than what suited the probe.
    assert advice.changes["train.heads.logistic.l2"] == "auto"


def test_of_two_ways_that_gain_the_one_that_gains_more() -> None:
    advice = recommended(evidence(0.0), {"last_block": (0.03, 0.01), "all": (0.06, 0.01)})
    assert advice.strategy == "all"
    assert advice.changes["finetune.epochs"] == 12  # 150 steps of 32


def test_without_pilots_it_says_so() -> None:
    assert "no pilot fits into the time" in recommended(evidence(0.0)).reasons[-1]
    blind = recommended(evidence(0.0, pretrained=False))
    assert blind.strategy == "scratch"
    assert "no pilot fits into the time" in blind.reasons[-1]


def test_a_tie_between_cuts_is_told_as_one() -> None:
    advice = recommended(evidence(0.05, half=0.06))
    assert advice.cut == "block2"
    assert advice.case == "similar to ImageNet"
    assert "a tie between cuts" in advice.reasons[1]
    assert (
        "block2, +5.0 (-1.0 to +11.0) points, cannot be told from the last layer, top"
        in advice.reasons[1]
    )
    assert "either will do" in advice.reasons[1]
    assert "tie" not in recommended(evidence(0.05)).reasons[1]


@pytest.mark.parametrize(
    ("gain", "half", "verdict"),
    [
        (-0.01, 0.02, "A tie: on these images the two cannot be told apart, and the frozen"),
        (-0.05, 0.02, "It does worse, and the frozen"),
        (0.009, 0.001, "A gain, but less than 1 point is to be expected on other images, and"),
        (0.06, 0.02, "are to be expected on other images: fine-tuning pays"),
        (0.02, 0.04, "not certain, but fine-tuning is the better bet"),
    ],
)
def test_what_pilots_say_is_told_with_its_certainty(gain: float, half: float, verdict: str) -> None:
    assert verdict in recommended(evidence(0.0), {"all": (gain, half)}).reasons[-1]


def test_next_to_perfect_nothing_is_tried() -> None:
    perfect, good = probe("top", 0.195, 1.0), probe("top", 0.18, 1.0)
    assert "less than 1 point is left" in (nothing_to_try(perfect, 5, pretrained=True) or "")
    assert nothing_to_try(good, 5, pretrained=True) is None
    assert nothing_to_try(perfect, 5, pretrained=False) is None
    assert "--minutes 0" in (nothing_to_try(good, 0, pretrained=True) or "")


def test_few_images_are_seen_more_often() -> None:
    assert [full_size("all", n, 32).epochs for n in (50, 200, 480, 100_000)] == [40, 24, 10, 10]
    assert full_size("scratch", 480, 32).epochs == 30


def test_probed_cuts_are_spread_over_the_network() -> None:
    assert NETWORK.probed((0.9, 0.75, 0.3)) == ("top", "block2", "block1")
