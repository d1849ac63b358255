"""Auditing the data of a run, and writing what was found."""

from pathlib import Path

from headstart.audit.options import AuditOptions
from headstart.audit.table import write_audit
from headstart.common.files import write_json


def audit(
    options: AuditOptions,
    *,
    features: Path,
    manifest: Path,
    suspects: Path,
    evidence: Path,
    metrics: Path,
) -> None:
    """List what may be wrong with the images and their labels.

    Args:
        options: The section `audit`.
        features: The feature file; nothing else is computed.
        manifest: Table of its images.
        suspects: Table to write of what is suspected.
        evidence: Table to write of the images to look at beside it.
        metrics: Counts by kind; empty without an audit.

    Raises:
        InputError: a file cannot be read, or see `headstart.audit.finding.find_all`.
    """
    if not options.suspects:
        write_audit([], [], suspects, evidence)
        write_json(metrics, {})
        return
    # Only now: without an audit none of it is needed.
    from headstart.audit.finding import find_all
    from headstart.dataset.manifest import read_manifest
    from headstart.features.file import FeatureFile

    found = find_all(
        FeatureFile.open(features), read_manifest(manifest), options.suspects, options.seed
    )
    write_audit(found.suspects, found.evidence, suspects, evidence)
    write_json(metrics, found.metrics)
