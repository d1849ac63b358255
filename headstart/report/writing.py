"""Writing report/index.html from what the pipeline left."""

from collections.abc import Sequence
from pathlib import Path

from headstart.common.files import atomic_write
from headstart.report.collecting import collect
from headstart.report.options import ReportOptions
from headstart.report.rendering import render
from headstart.report.results import Places, read_results
from headstart.report.spatial import spatial_maps

OUTPUT = Path("report/index.html")


def write_report(
    output: Path, heads: Sequence[str], options: ReportOptions, places: Places | None = None
) -> None:
    """Collect, render and write the page; the same results give the same bytes.

    Args:
        output: The file to write.
        heads: Names of the heads, in the order in which they are shown.
        options: How much the page may hold.
        places: Where the pipeline left its results, if not where dvc.yaml says.

    Raises:
        InputError: there is no manifest, or what is there does not fit together.
    """
    places = places or Places()
    results = read_results(places, heads)
    page = render(collect(places, results, options, spatial_maps(results)))
    with atomic_write(output) as temporary:
        temporary.write_text(page, encoding="utf-8", newline="\n")
