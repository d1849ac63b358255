"""Options of the promises: the section `check`."""

from typing import Annotated, Literal

from pydantic import AfterValidator

from headstart.common.params import Section
from headstart.configuration.promise import Promise


def _check_promise(text: str) -> str:
    Promise.parse(text)
    return text


class CheckOptions(Section):
    """What the scores of a run must hold."""

    judge: Literal["interval", "value"]
    promises: list[Annotated[str, AfterValidator(_check_promise)]]
