"""Options of the page: the section `report`."""

from importlib.util import find_spec
from typing import Annotated, Literal

from pydantic import Field

from headstart.common.errors import InputError
from headstart.common.params import Section, Seed

Projection = Literal["pca", "tsne", "umap"]


class ReportOptions(Section):
    """How much the page of `headstart report` holds."""

    seed: Seed
    pictures: Annotated[int, Field(ge=0, le=5000)]
    heat_maps: Annotated[int, Field(ge=0, le=500)]
    projections: Annotated[list[Projection], Field(min_length=1)]

    def check_packages(self) -> None:
        """Check that what draws the maps is installed.

        Raises:
            InputError: it is not.
        """
        if "umap" in self.projections and find_spec("umap") is None:
            raise InputError(
                "params.yaml: report.projections: umap needs the package umap-learn, which is not "
                "installed: run `pip install umap-learn`, or take umap off the list"
            )
