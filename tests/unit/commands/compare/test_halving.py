import itertools
from collections.abc import Callable, Sequence

import pytest

from headstart.commands.compare.halving import Judge, Merit, halve, plan


def each(judge: Callable[[str, float], Merit | None]) -> Judge[str]:
    """Judge one by one, whatever it costs."""
    return lambda names, share, keep: [judge(name, share) for name in names]


def merit(accuracy: float, *, multiply_adds: int = 1, log_loss: float = 1.0) -> Merit:
    return Merit(
        validation_accuracy=accuracy, multiply_adds=multiply_adds, validation_log_loss=log_loss
    )


@pytest.mark.parametrize(("candidates", "passes"), [(2, 2.0), (3, 2.1), (10, 3.3), (30, 7.9)])
def test_cost_in_forward_passes_over_all_images(candidates: int, passes: float) -> None:
    rungs = plan(candidates)
    # Images of earlier rounds lie in the feature store.
    cost = rungs[0].candidates * rungs[0].share + sum(
        rung.candidates * (rung.share - before.share) for before, rung in itertools.pairwise(rungs)
    )
    assert cost == pytest.approx(passes, abs=0.15)


@pytest.mark.parametrize("candidates", range(2, 60))
def test_rounds_grow_in_images_and_shrink_in_candidates(candidates: int) -> None:
    rungs = plan(candidates)
    assert rungs[0].candidates == candidates
    assert rungs[-1].share == 1.0
    assert rungs[-1].candidates >= 2
    shares = [rung.share for rung in rungs]
    counts = [rung.candidates for rung in rungs]
    assert shares == sorted(set(shares))
    assert counts == sorted(set(counts), reverse=True)


def test_the_best_survive_and_the_rest_is_reported() -> None:
    quality = {"a": 0.5, "b": 0.9, "c": 0.7, "d": 0.8, "e": 0.6, "f": 0.4, "g": 0.3}
    asked = []

    def judge(name: str, share: float) -> Merit:
        asked.append((name, round(share, 3)))
        return merit(quality[name])

    finalists, dropped = halve(list(quality), each(judge))
    assert finalists == ["b", "d"]
    assert {(one.candidate, round(one.share, 3)) for one in dropped} == {
        ("c", 0.316), ("a", 0.1), ("e", 0.1), ("f", 0.1), ("g", 0.1)
    }  # fmt: skip
    assert dropped[0].candidate == "c"
    assert dropped[0].merit.validation_accuracy == 0.7
    assert [pair for pair in asked if pair[1] > 0.1] == [("b", 0.316), ("c", 0.316), ("d", 0.316)]


def test_of_equals_the_cheaper_stay() -> None:
    costs = {"a": 3, "b": 1, "c": 2, "d": 4}
    finalists, dropped = halve(
        list(costs),
        each(lambda name, share: merit(1.0, multiply_adds=costs[name], log_loss=1 / costs[name])),
    )
    assert finalists == ["b", "c"]
    assert [one.candidate for one in dropped] == ["a", "d"]


def test_log_loss_decides_between_equals_of_one_cost_and_order_between_the_rest() -> None:
    losses = {"a": 0.3, "b": 0.1, "c": 0.3, "d": 0.3}
    finalists, _ = halve(list(losses), each(lambda name, share: merit(1.0, log_loss=losses[name])))
    assert finalists == ["a", "b"]


def test_a_failed_candidate_takes_no_further_part() -> None:
    finalists, dropped = halve(
        ["a", "b", "c"], each(lambda name, share: None if name == "a" else merit(0.5))
    )
    assert finalists == ["b", "c"]
    assert dropped == []


def test_two_candidates_are_run_on_all_images_at_once() -> None:
    finalists, dropped = halve(
        ["a", "b"], lambda names, share, keep: pytest.fail("nothing to decide")
    )
    assert (finalists, dropped) == (["a", "b"], [])


def test_a_round_that_does_not_pay_drops_nobody() -> None:
    asked = []

    def judge(names: Sequence[str], share: float, keep: int) -> list[Merit] | None:
        asked.append((len(names), round(share, 3), keep))
        return None if share < 0.2 else [merit(ord(name)) for name in names]

    finalists, dropped = halve(list("abcdefg"), judge)
    assert asked == [(7, 0.1, 3), (7, 0.316, 2)]
    assert finalists == ["f", "g"]
    assert [one.candidate for one in dropped] == ["e", "d", "c", "b", "a"]
