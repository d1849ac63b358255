"""Read manifest, features, heads, scores and curves, write one page to look at them."""

from collections.abc import Sequence
from pathlib import Path

from headstart.commands.params import load_params
from headstart.common.errors import exit_with
from headstart.finetuning.card import NAME as FINETUNED
from headstart.report.options import ReportOptions
from headstart.report.writing import OUTPUT, write_report


def run(output: Path, heads: Sequence[str], options: ReportOptions) -> None:
    """Write the page.

    Args:
        output: The file to write.
        heads: Names of the heads, in the order in which they are shown.
        options: The section `report`.
    """
    write_report(output, heads, options)


def main(arguments: Sequence[str]) -> None:
    """Write the page about the present run."""
    params = load_params()
    run(OUTPUT, [*params.train.heads, FINETUNED], params.report)


if __name__ == "__main__":
    exit_with(main)
