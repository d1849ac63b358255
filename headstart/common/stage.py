"""How a stage of dvc.yaml starts."""

import sys
from collections.abc import Callable

from headstart.common.lock import check_lock
from headstart.common.process import run_to_status


def run_stage(name: str, main: Callable[[], None]) -> None:
    """Run a stage's `main` and exit with the status of `run_to_status`.

    Args:
        name: Of the stage, as in dvc.yaml.
        main: Does its work.
    """

    def work() -> int:
        check_lock(name)
        main()
        return 0

    sys.exit(run_to_status(work))
