import pytest

from headstart.commands.compare.halving import Score, cost, halve, plan


@pytest.mark.parametrize(("candidates", "passes"), [(2, 2.0), (3, 2.1), (10, 3.3), (30, 7.9)])
def test_cost_in_forward_passes_over_all_images(candidates: int, passes: float) -> None:
    assert cost(plan(candidates)) == pytest.approx(passes, abs=0.15)


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


def test_the_best_survive_and_the_rest_is_told() -> None:
    quality = {"a": 0.5, "b": 0.9, "c": 0.7, "d": 0.8, "e": 0.6, "f": 0.4, "g": 0.3}
    asked = []

    def score(name: str, share: float) -> Score:
        asked.append((name, round(share, 3)))
        return Score(quality[name], -1.0)

    finalists, dropped = halve(list(quality), score)
    assert finalists == ["b", "d"]
    assert {(one.candidate, round(one.share, 3)) for one in dropped} == {
        ("c", 0.316), ("a", 0.1), ("e", 0.1), ("f", 0.1), ("g", 0.1)
    }  # fmt: skip
    assert dropped[0].candidate == "c"
    assert dropped[0].score.accuracy == 0.7
    assert [pair for pair in asked if pair[1] > 0.1] == [("b", 0.316), ("c", 0.316), ("d", 0.316)]


def test_log_loss_settles_equal_accuracies_and_order_settles_the_rest() -> None:
    losses = {"a": 0.3, "b": 0.1, "c": 0.3, "d": 0.3}
    finalists, _ = halve(list(losses), lambda name, share: Score(1.0, -losses[name]))
    assert finalists == ["a", "b"]


def test_a_failed_candidate_takes_no_further_part() -> None:
    finalists, dropped = halve(
        ["a", "b", "c"], lambda name, share: None if name == "a" else Score(0.5, 0)
    )
    assert finalists == ["b", "c"]
    assert dropped == []


def test_two_candidates_are_run_on_all_images_at_once() -> None:
    finalists, dropped = halve(["a", "b"], lambda name, share: pytest.fail("nothing to decide"))
    assert (finalists, dropped) == (["a", "b"], [])
