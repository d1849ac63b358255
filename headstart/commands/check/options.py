"""Options of the promises: the section `check`."""

from typing import Literal

from headstart.common.params import Section


class CheckOptions(Section):
    """What the scores of a run must hold."""

    judge: Literal["interval", "value"]
    promises: list[str]
