"""Options of the scores: the sections `novelty` and `evaluate`."""

from typing import Annotated

from pydantic import Field

from headstart.common.params import ClassName, NotNegative, Section, Seed


class NoveltyOptions(Section):
    """When an image is unlike anything in training."""

    keep: Annotated[float, Field(gt=0, lt=1)]


class EvaluateOptions(Section):
    """How models are judged."""

    seed: Seed
    slices: list[str]
    coverage: Annotated[float, Field(gt=0, lt=1)] | None
    costs: dict[ClassName, dict[ClassName, NotNegative]]
    abstain_cost: NotNegative | None
