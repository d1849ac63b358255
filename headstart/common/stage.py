"""How a stage of dvc.yaml starts and how it fails."""

import sys
from collections.abc import Callable

from headstart.common.errors import InputError
from headstart.common.lock import check_lock


def run_stage(name: str, main: Callable[[], None]) -> None:
    """Run a stage's `main` and exit.

    An `InputError` becomes one message on standard error and status 1; anything else keeps its
    traceback, since it is a defect of this project.

    Args:
        name: Of the stage, as in dvc.yaml.
        main: Does its work.
    """
    try:
        check_lock(name)
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
