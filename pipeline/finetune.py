"""Features, images and a trained head in; out comes a fine-tuned model, if one is asked for."""

from headstart.common import places
from headstart.common.params import load_section
from headstart.common.stage import run_stage
from headstart.dataset.manifest import Manifest, read_manifest
from headstart.features.file import FeatureFile
from headstart.finetuning.options import FinetuneOptions
from headstart.finetuning.results import fine_tune


def run(features: FeatureFile, manifest: Manifest, options: FinetuneOptions) -> None:
    """Train the upper part of the backbone, from the cached activations of the lower part."""
    fine_tune(
        features,
        manifest,
        options,
        heads=places.START,
        model=places.FINETUNED,
        metrics=places.FINETUNE_METRICS,
        plots=places.FINETUNED_PLOTS,
    )


def main() -> None:
    """Fine-tune as params.yaml says."""
    run(
        FeatureFile.open(places.FEATURES),
        read_manifest(places.MANIFEST),
        load_section("finetune", FinetuneOptions),
    )


if __name__ == "__main__":
    run_stage("finetune", main)
