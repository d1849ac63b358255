"""All that the stages left in; out comes one page to look at it."""

from headstart.common import places
from headstart.common.params import load_section
from headstart.common.stage import run_stage
from headstart.report.options import ReportOptions
from headstart.report.writing import write_report


def run(options: ReportOptions) -> None:
    """Write the page about the present run."""
    write_report(places.REPORT, options)


def main() -> None:
    """Report as params.yaml says."""
    run(load_section("report", ReportOptions))


if __name__ == "__main__":
    run_stage("report", main)
