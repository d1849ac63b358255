from collections.abc import Callable, Sequence

import numpy as np
import pytest

from headstart.commands.compare.answers import Answers
from headstart.commands.compare.halving import Judge, Merit, Trial, halve, needed, shares

N = 200


def trial(accuracy: float, *, multiply_adds: int = 1, log_loss: float = 1.0, n: int = N) -> Trial:
    """A candidate that is right on the first of the images."""
    merit = Merit(
        validation_accuracy=accuracy,
        multiply_adds=multiply_adds,
        trained_parameters=1,
        validation_log_loss=log_loss,
    )
    answers = Answers(
        images=np.array([f"{number:064x}" for number in range(n)]),
        right=(np.arange(n) < round(accuracy * n)).astype(np.float64),
        losses=np.full(n, log_loss),
        groups=np.full(n, -1),
    )
    return Trial(merit, answers)


def each(judge: Callable[[str, float], Trial | None]) -> Judge[str]:
    """Judge one by one, whatever it costs."""
    return lambda names, share, keep: [judge(name, share) for name in names]


def test_rounds_see_enough_images_or_there_are_none() -> None:
    assert shares(0.1) == pytest.approx([0.1, 0.316, 1], abs=1e-3)
    assert shares(0.25) == (0.25, 1.0)
    # Little is left to save.
    assert shares(0.6) == (1.0,)
    assert shares(3.0) == (1.0,)
    assert needed(2) == 120
    assert needed(100) == 1000


def test_what_is_told_apart_goes_at_once_and_the_rest_stays() -> None:
    quality = {"a": 0.95, "b": 0.94, "c": 0.6, "d": 0.935, "e": 0.5, "f": 0.96, "g": 0.7}
    asked = []

    def judge(name: str, share: float) -> Trial:
        asked.append((name, round(share, 3)))
        return trial(quality[name], multiply_adds=int(1000 * quality[name]))

    finalists, dropped = halve(list(quality), each(judge))
    # Five of 200 images may be chance, and what is better here costs more.
    assert finalists == ["a", "b", "d", "f"]
    assert [(one.candidate, one.reason) for one in dropped] == [
        ("g", "worse"), ("c", "worse"), ("e", "worse")
    ]  # fmt: skip
    assert {round(one.share, 3) for one in dropped} == {0.1}
    assert dropped[0].merit.validation_accuracy == 0.7
    assert [name for name, share in asked if share > 0.1] == ["a", "b", "d", "f"]


def test_of_equals_the_cheaper_stay_while_more_are_left_than_there_is_room_for() -> None:
    costs = {"a": 5, "b": 1, "c": 2, "d": 4, "e": 3}
    finalists, dropped = halve(
        list(costs), each(lambda name, share: trial(1.0, multiply_adds=costs[name]))
    )
    assert finalists == ["b", "c"]
    assert [(one.candidate, one.reason) for one in dropped] == [
        ("e", "tie"), ("d", "tie"), ("a", "tie")
    ]  # fmt: skip


def test_equals_of_one_cost_all_stay() -> None:
    finalists, dropped = halve(list("abcde"), each(lambda name, share: trial(0.9)))
    assert finalists == list("abcde")
    assert dropped == []


def test_at_least_two_see_all_images() -> None:
    quality = {"a": 0.2, "b": 0.9, "c": 0.3, "d": 0.1}
    finalists, dropped = halve(list(quality), each(lambda name, share: trial(quality[name])))
    assert finalists == ["b", "c"]
    assert [one.candidate for one in dropped] == ["a", "d"]


@pytest.mark.parametrize(("n", "told"), [(10, False), (12, True)])
def test_a_handful_of_images_tells_nothing_apart(n: int, told: bool) -> None:
    """Of 10 images five, of 12 six, are right for one alone."""
    quality = {"a": 0.5, "b": 1.0, "c": 1.0}
    _, dropped = halve(list(quality), each(lambda name, share: trial(quality[name], n=n)))
    assert [one.candidate for one in dropped] == (["a"] if told else [])


def test_candidates_are_compared_on_images_of_both() -> None:
    one, other = trial(0.5), trial(1.0)
    assert one.answers.is_behind(other.answers)
    assert not other.answers.is_behind(one.answers)
    elsewhere = Answers(
        images=np.array([f"other {number}" for number in range(N)]),
        right=other.answers.right,
        losses=other.answers.losses,
        groups=other.answers.groups,
    )
    assert not one.answers.is_behind(elsewhere)
    together = Answers(
        images=one.answers.images,
        right=one.answers.right,
        losses=one.answers.losses,
        groups=np.zeros(N, np.int64),
    )
    # All of one group are one image.
    assert not together.is_behind(other.answers)


def test_a_failed_candidate_takes_no_further_part() -> None:
    finalists, dropped = halve(
        ["a", "b", "c"], each(lambda name, share: None if name == "a" else trial(0.5))
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

    def judge(names: Sequence[str], share: float, keep: int) -> list[Trial] | None:
        asked.append((len(names), round(share, 3), keep))
        return None if share < 0.2 else [trial(1.0 - 0.1 * ord(name) % 0.7) for name in names]

    halve(list("abcdefg"), judge)
    assert asked == [(7, 0.1, 3), (7, 0.316, 3)]
