"""A source data set in; out come backbones trained on it, as weights that extract can name."""

from pathlib import Path

from headstart.common import places
from headstart.common.params import load_section
from headstart.common.stage import run_stage
from headstart.pretraining.options import PretrainOptions
from headstart.pretraining.runs import pretrain_runs


def run(options: PretrainOptions, folder: Path) -> None:
    """Train every run's backbone, or take it over where nothing that decides it has changed."""
    pretrain_runs(options, folder)


def main() -> None:
    """Train the backbones of params.yaml."""
    run(load_section("pretrain", PretrainOptions), places.PRETRAINED)


if __name__ == "__main__":
    run_stage("pretrain", main)
