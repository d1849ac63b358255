"""How many pixels are decoded at once is bounded, whoever asks."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from headstart.images.budget import Budget


def test_no_more_than_the_capacity_is_held_and_all_come_to_an_end():
    budget, lock = Budget(10), threading.Lock()
    held, most, ended = 0, 0, 0

    def work(share: int) -> None:
        nonlocal held, most, ended
        with budget.hold(share):
            with lock:
                held += min(share, 10)
                most = max(most, held)
            time.sleep(0.0005)
            with lock:
                held -= min(share, 10)
                ended += 1

    shares = np.random.default_rng(0).choice([0, 1, 3, 7, 10, 25], 300).tolist()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, shares))
    assert (held, ended) == (0, 300)
    assert most == 10


def test_a_large_share_is_not_overtaken():
    budget, order = Budget(10), []
    inside, leave = threading.Event(), threading.Event()

    def first() -> None:
        with budget.hold(5):
            inside.set()
            leave.wait(10)

    def note(share: int) -> None:
        with budget.hold(share):
            order.append(share)

    threads = [threading.Thread(target=first)]
    threads[0].start()
    assert inside.wait(10)
    for share in (10, 1):  # the small one would fit, but comes later
        threads.append(threading.Thread(target=note, args=(share,)))
        threads[-1].start()
        while len(budget._queue) < len(threads) - 1:
            time.sleep(0.001)
    leave.set()
    for thread in threads:
        thread.join(10)
    assert order == [10, 1]


def test_a_share_is_given_back_when_the_work_fails():
    budget = Budget(2)
    for _ in range(3):
        with pytest.raises(MemoryError), budget.hold(2):
            raise MemoryError
    with budget.hold(2):
        pass
