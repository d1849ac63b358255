import threading

import numpy as np
import pytest

from headstart.common import threads
from headstart.common.threads import in_order


@pytest.fixture(autouse=True)
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "WORKERS", 4)


def test_results_come_in_the_order_of_the_items() -> None:
    started = [threading.Event() for _ in range(40)]

    def square(item: int) -> int:
        started[item].set()
        # Each but every fourth waits for one that comes after it.
        if item % 4 != 3:
            started[item + 1].wait(5)
        return item * item

    assert list(in_order(square, range(40))) == [item * item for item in range(40)]


def test_within_a_part_parts_are_computed_by_the_same_thread() -> None:
    def inner(_: int) -> set[int]:
        return set(in_order(lambda _: threading.get_ident(), range(5))) | {threading.get_ident()}

    assert [len(found) for found in in_order(inner, range(8))] == [1] * 8


def test_the_error_of_a_part_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        list(in_order(lambda item: 1 // item, [2, 1, 0, 1, 2]))


def test_few_results_are_held_at_a_time() -> None:
    done: list[int] = []
    results = in_order(done.append, range(1000))
    next(results)
    assert len(done) < 50
    # It is declared as the iterator that callers need; closing is a generator's.
    results.close()  # type: ignore[attr-defined]
    assert len(done) < 50


def test_one_thread_each_gives_the_threads_back() -> None:
    from threadpoolctl import threadpool_info

    def of_blas() -> list[int]:
        return [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]

    before = of_blas()
    with threads.one_thread_each():
        assert set(of_blas()) == {1}
        np.ones((3, 3)) @ np.ones((3, 3))
    assert of_blas() == before
