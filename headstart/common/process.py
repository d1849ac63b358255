"""How a stage or command works, is interrupted, fails and ends."""

import gc
import io
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

from headstart.common import interruption
from headstart.common.errors import InputError
from headstart.common.system_errors import remedy_for
from headstart.common.text import printable_lines

_received: int | None = None
_at_work = False


def run_to_status(work: Callable[[], int]) -> int:
    """Do the work of a stage or command and return the process's status.

    An `InputError` becomes one message on standard error, and so does what the system refuses,
    such as a full disk. An interruption (SIGINT, SIGTERM) is a KeyboardInterrupt within the work,
    so that unfinished files are tidied up, and one line afterwards; a second one ends the process
    at once. Anything else keeps its traceback, since it is a defect of this project. A program of
    this project ends here: while the interpreter shuts down, no signal could be answered.

    Work within such work, a stage that a command runs in its own process, has its errors told
    alike; interruption and end are the whole's.

    Args:
        work: Returns the status if nothing happens.

    Returns:
        The status: 1 for an error that the user can mend, 130 or 143 when interrupted.
    """
    global _received, _at_work
    if _at_work:
        return _run_part(work)
    _received, _at_work = None, True
    for stream in (sys.stdout, sys.stderr):
        # A name that the encoding cannot say must not end the program.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    before = _handle(_interrupt)
    try:
        status = work()
        sys.stdout.flush()
        _restore(before)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            _received = _received or signal.SIGINT
        # Packages turn KeyboardInterrupt into errors of their own.
        elif _received is None:
            _restore(before)
            status = _tell(error)
    finally:
        _at_work = False
    if _received is not None:
        # Generators that were left in the middle close what they hold.
        gc.collect()
        _restore(dict.fromkeys(before, signal.SIG_IGN))
        _close_bars()
        print(interruption.message_of(_received).decode(), end="", file=sys.stderr)
        status = 128 + _received
    if interruption.guarded:
        sys.stderr.flush()
        os._exit(status)
    _restore(before)
    return status


def _run_part(work: Callable[[], int]) -> int:
    try:
        status = work()
    except BaseException as error:
        if _received is not None or isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt from error
        status = _tell(error)
    if _received is not None:
        # A package has swallowed it.
        raise KeyboardInterrupt
    return status


def _tell(error: BaseException) -> int:
    """Print what a user can mend; raise the rest again."""
    if isinstance(error, BrokenPipeError):
        # The reader (`| head`) has gone; close quietly, as other tools do.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    if isinstance(error, OSError) and error.errno is not None:
        files = [name for name in (error.filename, error.filename2) if name is not None]
        what = ": ".join([*map(str, files), os.strerror(error.errno)])
        error = InputError(f"{what}; {remedy_for(error.errno)}")
    if not isinstance(error, InputError):
        raise error
    sys.stdout.flush()
    print(printable_lines(f"error: {error}"), file=sys.stderr)
    return 1


def _handle(handler: Callable[[int, Any], object]) -> dict[int, Any]:
    """Handle the signals that are not ignored; return what handled them before."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    found = {number: signal.getsignal(number) for number in interruption.MESSAGES}
    before: dict[int, Any] = {
        number: old for number, old in found.items() if old not in (signal.SIG_IGN, None)
    }
    _restore(dict.fromkeys(before, handler))
    return before


def _restore(handlers: dict[int, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _interrupt(number: int, _: object) -> NoReturn:
    global _received
    _received = number
    _handle(interruption.leave)
    raise KeyboardInterrupt


def _close_bars() -> None:
    # Imported only where a bar has been drawn.
    if "tqdm" in sys.modules:
        from tqdm import tqdm

        for bar in list(getattr(tqdm, "_instances", ())):
            bar.close()
