"""Options of the audit: the section `audit`."""

from typing import Annotated

from pydantic import Field

from headstart.common.params import Section, Seed


class AuditOptions(Section):
    """How much the audit lists."""

    suspects: Annotated[int, Field(ge=0, le=100_000)]
    seed: Seed
