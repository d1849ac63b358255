"""Features and trained models in; out come the test scores, and which model validation chose."""

from headstart.common import places
from headstart.common.params import load_section
from headstart.common.stage import run_stage
from headstart.dataset.manifest import Manifest, read_manifest
from headstart.evaluation.evaluate import evaluate
from headstart.evaluation.options import EvaluateOptions
from headstart.features.file import FeatureFile


def run(features: FeatureFile, manifest: Manifest, options: EvaluateOptions) -> None:
    """Score every model on the test images and name the one that validation chose."""
    evaluate(
        features,
        manifest,
        options,
        heads=places.HEADS,
        trained=places.HEADS_METRICS,
        finetuned=places.FINETUNED,
        known_leaks=places.LEAKS,
        fits=places.HEADS_PLOTS,
        finetuned_fit=places.FINETUNED_PLOTS,
        metrics=places.TEST_METRICS,
        summary=places.SUMMARY_METRICS,
        plots=places.TEST_PLOTS,
        curves=places.CURVES,
        predictions=places.PREDICTIONS,
        leaks=places.FEATURE_LEAKS,
        weak_clusters=places.WEAK_CLUSTERS,
        operating=places.OPERATING,
    )


def main() -> None:
    """Evaluate the models of this run."""
    run(
        FeatureFile.open(places.FEATURES),
        read_manifest(places.MANIFEST),
        load_section("evaluate", EvaluateOptions),
    )


if __name__ == "__main__":
    run_stage("evaluate", main)
