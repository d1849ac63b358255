"""The cached features in; out comes what tells an image that is unlike training."""

from headstart.common import places
from headstart.common.params import load_section
from headstart.common.stage import run_stage
from headstart.evaluation.novelty import write_novelty
from headstart.evaluation.options import NoveltyOptions
from headstart.features.file import FeatureFile


def run(features: FeatureFile, options: NoveltyOptions) -> None:
    """Fit the novelty of images, and count how many ordinary ones it turns away."""
    write_novelty(features, options, model=places.NOVELTY, metrics=places.NOVELTY_METRICS)


def main() -> None:
    """Fit the novelty as params.yaml says."""
    run(FeatureFile.open(places.FEATURES), load_section("novelty", NoveltyOptions))


if __name__ == "__main__":
    run_stage("novelty", main)
