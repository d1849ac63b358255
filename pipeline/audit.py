"""The cached features and labels in; out comes what may be wrong with the data."""

from headstart.audit.audit import audit
from headstart.audit.options import AuditOptions
from headstart.common import places
from headstart.common.params import load_section
from headstart.common.stage import run_stage
from headstart.dataset.manifest import Manifest, read_manifest
from headstart.features.file import FeatureFile


def run(features: FeatureFile, manifest: Manifest, options: AuditOptions) -> None:
    """List what may be wrong with the images and their labels."""
    audit(
        features,
        manifest,
        options,
        audit=places.AUDIT,
        neighbors=places.AUDIT_NEIGHBORS,
        metrics=places.AUDIT_METRICS,
    )


def main() -> None:
    """Audit as params.yaml says."""
    run(
        FeatureFile.open(places.FEATURES),
        read_manifest(places.MANIFEST),
        load_section("audit", AuditOptions),
    )


if __name__ == "__main__":
    run_stage("audit", main)
