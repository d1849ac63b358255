"""Options of the scores: the sections `novelty` and `evaluate`."""

from typing import Annotated

from pydantic import Field

from headstart.common.params import Section, Seed


class NoveltyOptions(Section):
    """When an image is unlike anything in training."""

    keep: Annotated[float, Field(gt=0, lt=1)]


class EvaluateOptions(Section):
    """How models are judged."""

    seed: Seed
