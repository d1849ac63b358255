"""One module per stage of dvc.yaml, with the stage's name."""

import sys
from collections.abc import Callable, Sequence

from pipeline.errors import InputError


def exit_with(main: Callable[[Sequence[str]], None]) -> None:
    """Run a stage's `main` on the command line's arguments and exit.

    An `InputError` becomes one message on standard error and status 1; anything else keeps its
    traceback, since it is a defect of this project.
    """
    try:
        main(sys.argv[1:])
    except InputError as error:
        sys.exit(f"error: {error}")
