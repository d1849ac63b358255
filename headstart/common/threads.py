"""Which threads a computation gets: those of one product, or one for each of several parts."""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from threadpoolctl import ThreadpoolController

Item = TypeVar("Item")
Result = TypeVar("Result")

WORKERS = os.cpu_count() or 1

_this_thread = threading.local()


def limit_threads(count: int) -> None:
    """Let this process prepare images and run engines by so many threads; before one is loaded."""
    # joblib.cpu_count asks the one each time, TensorFlow the other once.
    os.environ["LOKY_MAX_CPU_COUNT"] = str(count)
    os.environ["TF_NUM_INTRAOP_THREADS"] = str(count)


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Keep linear algebra to the calling thread while the block runs.

    Threads of one product wait for each other by spinning, which beside other processes makes
    small and narrow products many times slower; parts of the data in `in_order` do not.

    The setting is the process's: enter it before starting threads, not in them alone.
    """
    with ThreadpoolController().select(user_api="blas").limit(limits=1):
        yield


def in_order(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield `function` of every item, computed by as many threads as there are cores.

    Results come in the items' order, so that a sum of them has the same bits every time, and not
    many more are held than there are threads. Within a thread of another call the items are
    computed one after the other: the cores have work already.

    Args:
        function: Spends its time outside of Python's lock, as numpy does.
        items: What to compute it of.
    """
    items = list(items)
    workers = min(WORKERS, len(items))
    if workers < 2 or getattr(_this_thread, "is_worker", False):
        yield from map(function, items)
        return
    with ThreadPoolExecutor(workers, initializer=_become_worker) as pool:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _become_worker() -> None:
    _this_thread.is_worker = True
