"""Options of the photos: the section `prepare`."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from headstart.common.params import Section, Seed, Share

Source = Annotated[str, Field(min_length=1)]


class PrepareOptions(Section):
    """Which photos, and how they are split."""

    source: Source | Annotated[list[Source], Field(min_length=1)]
    validation: Share
    test: Share
    seed: Seed
    max_unreadable: Annotated[float, Field(ge=0, le=1)]
    near_duplicates: Literal["keep", "together", "drop"]
    corrections: Annotated[str, Field(min_length=1)] | None
    correct: Literal["all", "test"]

    @property
    def sources(self) -> tuple[str, ...]:
        """All sources, in order."""
        return (self.source,) if isinstance(self.source, str) else tuple(self.source)

    @property
    def named_source(self) -> str:
        """The sources, for a message."""
        return ", ".join(self.sources)

    @model_validator(mode="after")
    def _leave_something_to_train_on(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError("validation + test must leave a share for training (sum below 1)")
        return self
