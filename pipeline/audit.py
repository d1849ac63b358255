"""The cached features and labels in; out comes what may be wrong with the data."""

from headstart.audit.audit import audit
from headstart.audit.options import AuditOptions
from headstart.common import places
from headstart.common.params import load_section
from headstart.common.stage import run_stage


def main() -> None:
    """Audit as params.yaml says."""
    audit(
        load_section("audit", AuditOptions),
        features=places.FEATURES,
        manifest=places.MANIFEST,
        suspects=places.AUDIT,
        evidence=places.AUDIT_NEIGHBORS,
        metrics=places.AUDIT_METRICS,
    )


if __name__ == "__main__":
    run_stage("audit", main)
