"""The one exception that a user is meant to read, and how a stage tells it."""

import sys
from collections.abc import Callable


class InputError(Exception):
    """Something the user gave cannot be used.

    The message names the file, key or image, what was expected, what was received, and what to
    do. Stages and the command line print it on standard error, without a traceback, and exit
    with status 1.
    """


def exit_with(main: Callable[[], None]) -> None:
    """Run a stage's `main` and exit.

    An `InputError` becomes one message on standard error and status 1; anything else keeps its
    traceback, since it is a defect of this project.
    """
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
