"""Ctrl-C and SIGTERM: one line, while a program of this project starts and while it works."""

import os
import signal
import sys
from contextlib import suppress

MESSAGES = {
    signal.SIGINT: b"interrupted; what was finished is kept\n",
    signal.SIGTERM: b"terminated; what was finished is kept\n",
}

SPOKEN_FOR = "HEADSTART_SPOKEN_FOR"
"""Environment variable of stages that a command runs, which says for them that it is interrupted.

Ctrl-C reaches them all.
"""

guarded = False
"""Whether this process is a program of this project, rather than one that uses the library."""

_error_stream = 2


def guard() -> None:
    """Let an interruption end a program of this project with one line from now on.

    Called before anything heavy is imported, and imports nothing heavy itself. Nothing is under
    way then, and an exception could be lost or torn in some package's imports.
    """
    global guarded, _error_stream
    # runpy calls a program "-m" while it looks for the module. By os.path, since importing pathlib
    # takes time in which nothing would answer an interruption.
    if guarded or os.path.basename(sys.argv[0]) not in ("-m", "headstart"):  # noqa: PTH119
        return
    guarded = True
    # The descriptor itself may be silenced for a while.
    with suppress(OSError):
        _error_stream = os.dup(2)
    for number in MESSAGES:
        # `nohup` and schedulers may have asked to ignore it.
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, leave)


def leave(number: int, _: object = None) -> None:
    """Say so and end the process, whatever it is doing; the handler of a signal."""
    with suppress(OSError):
        os.write(_error_stream, message_of(number))
    os._exit(128 + number)


def message_of(number: int) -> bytes:
    """Return what to say of a signal; nothing where another process does."""
    return b"" if SPOKEN_FOR in os.environ else MESSAGES[signal.Signals(number)]
