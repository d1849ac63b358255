"""Auditing the data of a run, and writing what was found."""

from pathlib import Path

from headstart.audit.options import AuditOptions
from headstart.audit.table import write_audit
from headstart.common.files import write_json
from headstart.dataset.manifest import Manifest
from headstart.features.file import FeatureFile


def audit(
    file: FeatureFile,
    manifest: Manifest,
    options: AuditOptions,
    *,
    audit: Path,
    neighbors: Path,
    metrics: Path,
) -> None:
    """List what may be wrong with the images and their labels.

    Args:
        file: The features; no other is computed.
        manifest: Their images.
        options: The section `audit`.
        audit: Table of what is suspected.
        neighbors: Table of the images to look at beside it.
        metrics: Counts by kind; empty without an audit.

    Raises:
        InputError: see `headstart.audit.finding.find_all`.
    """
    if not options.suspects:
        write_audit([], [], audit, neighbors)
        write_json(metrics, {})
        return
    # Only now: without an audit none of it is needed.
    from headstart.audit.finding import find_all

    found = find_all(file, manifest, options.suspects, options.seed)
    write_audit(found.suspects, found.evidence, audit, neighbors)
    write_json(metrics, found.metrics)
