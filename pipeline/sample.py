"""The name of a data set that a dependency ships in; out comes a folder of images per class."""

import argparse
from pathlib import Path

from headstart.common import places
from headstart.common.stage import run_stage
from headstart.samples import SAMPLE_NAMES, SampleName, write_sample


def run(name: SampleName, folder: Path) -> None:
    """Write the data set, replacing what the folder held."""
    write_sample(name, folder)


def main() -> None:
    """Write the data set that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=SAMPLE_NAMES)
    name = parser.parse_args().name
    run(name, places.SAMPLES / name)


if __name__ == "__main__":
    run_stage("sample", main)
