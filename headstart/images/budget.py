"""A bound on how many pixels are decoded at once, over all threads of this process."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class Budget:
    """A semaphore with weights, first come, first served, so that large shares are not starved."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._free = capacity
        self._queue: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, share: int) -> Iterator[None]:
        """Wait until a share is free, and keep it for the duration of the block.

        A share above the capacity counts as the whole. A thread that holds one must not ask for
        another.
        """
        share = min(share, self._capacity)
        self._take(share)
        try:
            yield
        finally:
            with self._changed:
                self._free += share
                self._changed.notify_all()

    def _take(self, share: int) -> None:
        place = object()
        with self._changed:
            self._queue.append(place)
            try:
                while self._queue[0] is not place or self._free < share:
                    self._changed.wait()
                self._free -= share
            finally:
                # Also when interrupted; then those behind must not wait for this one.
                self._queue.remove(place)
                self._changed.notify_all()
