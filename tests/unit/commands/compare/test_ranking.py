import numpy as np

from headstart.commands.compare.ranking import pareto_front


def test_front_holds_what_nobody_beats() -> None:
    scores = np.array([0.9, 0.8, 0.95, 0.85, 0.7])
    costs = np.array([10.0, 5.0, 20.0, 10.0, 5.0])
    assert pareto_front(scores, costs).tolist() == [True, True, True, False, False]


def test_equals_are_on_the_front_together() -> None:
    assert pareto_front(np.array([0.9, 0.9, 0.8]), np.array([3.0, 3.0, 3.0])).tolist() == [
        True, True, False
    ]  # fmt: skip


def test_a_single_candidate_is_the_front() -> None:
    assert pareto_front(np.array([0.1]), np.array([1.0])).tolist() == [True]
