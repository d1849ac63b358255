"""Writing report/index.html from what the pipeline left."""

from collections.abc import Mapping
from pathlib import Path

from headstart.common.files import atomic_write
from headstart.common.threads import one_thread_each
from headstart.report.collecting import collect
from headstart.report.options import ReportOptions
from headstart.report.rendering import render
from headstart.report.results import RunPlaces, read_results
from headstart.report.spatial import spatial_maps


def write_report(
    output: Path,
    options: ReportOptions,
    where: RunPlaces | None = None,
    stamp: Mapping[str, str] | None = None,
) -> None:
    """Collect, render and write the page; the same results and stamp give the same bytes.

    Args:
        output: The file to write.
        options: How much the page may hold.
        where: Where the pipeline left its results, if not where dvc.yaml says.
        stamp: What the head of the page says besides, by name: "written", "commit".

    Raises:
        InputError: there is no manifest, what is there does not fit together, or what draws a map
            is not installed.
    """
    options.check_packages()
    where = where or RunPlaces()
    # With several threads sums of products change from run to run.
    with one_thread_each():
        results = read_results(where)
        page = render(collect(where, results, options, spatial_maps(results), stamp))
    with atomic_write(output) as temporary:
        temporary.write_text(page, encoding="utf-8", newline="\n")
