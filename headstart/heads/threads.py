"""How many threads a fit's linear algebra gets."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import ThreadpoolController

SMALL_BYTES = 8 * 1024**2
"""Up to this size of the features, threads of one product wait for each other longer than they
work; beside other processes they make it many times slower."""

LARGE_BYTES = 256 * 1024**2
"""Up to this size several fits run side by side, each on one thread; above it, one after another
on all threads, since each needs its own copy of the features."""

WORKERS = os.cpu_count() or 1


@contextmanager
def one_thread_each(wanted: bool = True) -> Iterator[None]:
    """Keep linear algebra to the calling thread while the block runs.

    The setting is the process's: enter it before starting threads, not in them alone.

    Args:
        wanted: Whether to change anything.
    """
    if not wanted:
        yield
        return
    with ThreadpoolController().select(user_api="blas").limit(limits=1):
        yield
