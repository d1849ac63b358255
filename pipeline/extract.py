"""The table of images in; out come their bottleneck features, each computed once."""

from headstart.common import places
from headstart.common.params import load_section
from headstart.common.stage import run_stage
from headstart.dataset.manifest import Manifest, read_manifest
from headstart.extraction.feature_rows import write_features
from headstart.extraction.options import ExtractOptions


def run(manifest: Manifest, options: ExtractOptions) -> None:
    """Compute what the feature store lacks, and assemble the feature file."""
    write_features(
        manifest,
        options,
        features=places.FEATURES,
        views=places.VIEWS_PLOT,
        metrics=places.EXTRACT_METRICS,
    )


def main() -> None:
    """Extract the features of data/manifest.csv."""
    run(read_manifest(places.MANIFEST), load_section("extract", ExtractOptions))


if __name__ == "__main__":
    run_stage("extract", main)
