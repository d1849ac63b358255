"""The cached features in; out come the trained heads, their scores and the curves of their fits."""

from headstart.common import places
from headstart.common.params import load_section
from headstart.common.stage import run_stage
from headstart.features.file import FeatureFile
from headstart.finetuning.options import FinetuneOptions
from headstart.heads import require_start
from headstart.heads.options import TrainOptions
from headstart.heads.training import train_heads, write_start


def run(features: FeatureFile, options: TrainOptions) -> None:
    """Fit every head, or take over its fit where nothing that decides it has changed."""
    train_heads(
        features,
        options,
        models=places.HEADS,
        metrics=places.HEADS_METRICS,
        plots=places.HEADS_PLOTS,
    )


def main() -> None:
    """Train the heads of params.yaml, and set aside the one that fine-tuning starts from."""
    options, later = load_section("train", TrainOptions), load_section("finetune", FinetuneOptions)
    require_start(later.start, options.heads)
    features = FeatureFile.open(places.FEATURES)
    later.check_backbone(features.header.identity)
    run(features, options)
    write_start(features, options, later.start, places.START)


if __name__ == "__main__":
    run_stage("train", main)
