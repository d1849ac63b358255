"""Many small cases in worker processes, each of which may hang, crash or be noisy."""

import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from typing import NamedTuple

LIMIT = 5.0
"""Seconds after which a case counts as hanging."""


class Verdict(NamedTuple):
    """What became of one case.

    Attributes:
        case: Its number.
        subject: What it was done to.
        outcome: One word; "hang" and "crash" are the watchdog's own.
        detail: Enough to do it again and to see what happened.
    """

    case: int
    subject: str
    outcome: str
    detail: str


Judge = Callable[[int], Verdict]


class _Worker:
    def __init__(self, make: Callable[[], Judge], describe: Callable[[int], str]) -> None:
        self._make, self._describe = make, describe
        self.case: int | None = None
        self._started = 0.0
        self._start()

    def _start(self) -> None:
        # Not forked: the worker's libraries start threads of their own.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, self._make), daemon=True)
        self._process.start()
        theirs.close()
        if self.connection.recv() != "ready":
            raise RuntimeError("a worker could not start")

    def give(self, case: int) -> None:
        self.case, self._started = case, time.monotonic()
        self.connection.send(case)

    def take(self) -> Verdict | None:
        """Return what became of the case; None while it is under way."""
        assert self.case is not None
        verdict: Verdict | None = None
        try:
            if self.connection.poll():
                verdict = self.connection.recv()
            elif time.monotonic() - self._started > LIMIT:
                verdict = self._lost("hang", f"no answer after {LIMIT:.0f} s")
        except (EOFError, ConnectionError):
            self._process.join()
            verdict = self._lost("crash", f"the process ended with {self._process.exitcode}")
        if verdict is not None:
            self.case = None
        return verdict

    def _lost(self, outcome: str, detail: str) -> Verdict:
        assert self.case is not None
        self.stop()
        self._start()
        return Verdict(self.case, self._describe(self.case), outcome, detail)

    def stop(self) -> None:
        """End the process, by force if it is at work."""
        if self.case is not None:
            self._process.kill()
        self.connection.close()
        self._process.join()


def judge_all(
    cases: Iterable[int],
    make: Callable[[], Judge],
    describe: Callable[[int], str],
    workers: int = os.cpu_count() or 1,
) -> Iterator[Verdict]:
    """Judge cases in workers and yield what became of each, in any order.

    Args:
        cases: Their numbers.
        make: Makes the judge within each worker; what it takes does not count.
        describe: Names what a case is done to, in case that no answer comes.
        workers: How many processes.
    """
    pool = [_Worker(make, describe) for _ in range(workers)]
    remaining = iter(cases)
    try:
        for worker in pool:
            _give_next(worker, remaining)
        while busy := [worker for worker in pool if worker.case is not None]:
            wait([worker.connection for worker in busy], timeout=0.5)
            for worker in busy:
                verdict = worker.take()
                if verdict is not None:
                    _give_next(worker, remaining)
                    yield verdict
    finally:
        for worker in pool:
            worker.stop()


def _give_next(worker: _Worker, remaining: Iterator[int]) -> None:
    case = next(remaining, None)
    if case is not None:
        worker.give(case)


def _work(connection: Connection, make: Callable[[], Judge]) -> None:
    try:
        judge = make()
    except BaseException:
        traceback.print_exc()
        connection.send("failed")
        raise
    # What libraries say on standard error belongs to the case at hand.
    noise, told = os.memfd_create("noise"), os.dup(2)
    os.dup2(noise, 2)
    connection.send("ready")
    while True:
        try:
            case = connection.recv()
        except EOFError:
            os.dup2(told, 2)
            return
        try:
            verdict = judge(case)
        except BaseException:
            verdict = Verdict(case, "judge", "crash", traceback.format_exc())
        sys.stderr.flush()
        noise_text = _take(noise)
        if noise_text and verdict.outcome in ("accepted", "refused", "same"):
            verdict = verdict._replace(outcome="noise", detail=f"{verdict.detail}: {noise_text}")
        connection.send(verdict)


def _take(noise: int) -> str:
    """Return what came on standard error and is none of this project's own warnings."""
    text = os.pread(noise, 10_000, 0).decode(errors="replace")
    os.ftruncate(noise, 0)
    os.lseek(noise, 0, os.SEEK_SET)
    lines = [line for line in text.splitlines() if not line.startswith("warning: ")]
    return " ".join(lines)[:200]
