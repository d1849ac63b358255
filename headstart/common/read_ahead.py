"""Remote files read before they are asked for, while earlier ones are decoded and computed.

A server answers after many milliseconds, but to many requests at once. Whoever knows what will be
read soon says so with `reading_ahead`; who reads it gets the bytes by `remote_bytes`, ready or on
their way. What waits in memory is bounded, and nobody waits for room: what was not begun is read by
who needs it.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from headstart.common import remote
from headstart.common.urls import is_url

MOST_FILES = 4 * remote.IN_FLIGHT
MOST_BYTES = 256 * 2**20
"""What is begun, or read and not asked for yet, stays below both; then nothing more is begun."""

Read = Callable[[str], bytes]


class _Ahead:
    """Files that are wanted soon, in order, and those that are begun."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted: dict[str, tuple[object, Read]] = {}
        self._begun: dict[str, tuple[object, Future[bytes]]] = {}
        self._sizes: dict[str, int] = {}
        self._held = 0
        self._pool: ThreadPoolExecutor | None = None

    def want(self, owner: object, path: str, read: Read) -> None:
        with self._lock:
            if path not in self._begun:
                self._wanted.setdefault(path, (owner, read))
        self._begin()

    def take(self, path: str) -> Future[bytes] | None:
        """Hand over what was begun of a file; None where it is to be read now."""
        with self._lock:
            self._wanted.pop(path, None)
            future = self._let_go(path)
        self._begin()
        return future

    def forget(self, owner: object) -> None:
        with self._lock:
            for path in [path for path, (of, _) in self._wanted.items() if of is owner]:
                del self._wanted[path]
            for path in [path for path, (of, _) in self._begun.items() if of is owner]:
                future = self._let_go(path)
                if future is not None:
                    future.cancel()
        self._begin()

    def _let_go(self, path: str) -> Future[bytes] | None:
        self._held -= self._sizes.pop(path, 0)
        found = self._begun.pop(path, None)
        return None if found is None else found[1]

    def _begin(self) -> None:
        with self._lock:
            while self._wanted and len(self._begun) < MOST_FILES and self._held < MOST_BYTES:
                path, (owner, read) = next(iter(self._wanted.items()))
                del self._wanted[path]
                if self._pool is None:
                    self._pool = ThreadPoolExecutor(remote.IN_FLIGHT, "reading-ahead")
                self._begun[path] = owner, self._pool.submit(self._read, path, read)

    def _read(self, path: str, read: Read) -> bytes:
        data = read(path)
        with self._lock:
            # Otherwise who asked for it meanwhile has it.
            if path in self._begun:
                self._held += len(data) - self._sizes.get(path, 0)
                self._sizes[path] = len(data)
        return data


_ahead = _Ahead()


@contextmanager
def reading_ahead(read: Read) -> Iterator[Callable[[Iterable[str]], None]]:
    """Give what takes the paths that will be read soon; those of this machine it passes over.

    Args:
        read: Reads one, in a thread of its own.
    """
    owner = object()

    def want(paths: Iterable[str]) -> None:
        for path in paths:
            if is_url(path):
                _ahead.want(owner, path, read)

    try:
        yield want
    finally:
        _ahead.forget(owner)


def remote_bytes(path: str, read: Read) -> bytes:
    """Return the bytes of a remote file: those that were read ahead, or else read now."""
    future = _ahead.take(path)
    return read(path) if future is None else future.result()
