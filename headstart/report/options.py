"""Options of the page: the section `report`."""

from typing import Annotated, Literal

from pydantic import Field

from headstart.common.params import Section, Seed

Projection = Literal["pca", "tsne", "umap"]


class ReportOptions(Section):
    """How much the page of `headstart report` holds."""

    seed: Seed
    pictures: Annotated[int, Field(ge=0, le=5000)]
    heat_maps: Annotated[int, Field(ge=0, le=500)]
    projections: Annotated[list[Projection], Field(min_length=1)]
