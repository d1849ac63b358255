"""The photos of a source: checked now, or taken over where nothing about them has changed.

To learn whether a photo has changed DVC would read them all, and at a broken link it would stop in
its own words. So the stage runs each time, and looks at names, sizes and times.
"""

import hashlib
import re
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from headstart.common.cache import Keep, changing
from headstart.common.errors import InputError
from headstart.common.files import atomic_write, digest_of
from headstart.common.places import MANIFEST
from headstart.common.seal import checksum_file
from headstart.common.urls import is_url
from headstart.dataset.corrections import read_corrections
from headstart.dataset.file_states import digest_of_checking, state_of
from headstart.dataset.listing import Listing
from headstart.dataset.options import PrepareOptions
from headstart.dataset.sources import list_files

_KIND = "prepared"
_DIGEST = re.compile("[0-9a-f]{64}")


def prepare(
    options: PrepareOptions,
    *,
    manifest: Path,
    quarantine: Path,
    leaks: Path,
    corrections: Path,
    metrics: Path,
) -> None:
    """Check, compare and split the images of a source.

    Args:
        options: The source, the shares and what to do with duplicates.
        manifest: Table of the images to write.
        quarantine: Table of the files left out, with the reason.
        leaks: Table of the pictures that lie in two splits.
        corrections: Table of the corrections to write, as they were read.
        metrics: Counts to write.

    Raises:
        InputError: the source or the corrections cannot be used, too many of its images cannot be
            read, or a class cannot be trained.
    """
    now = time.time_ns()
    keep = Keep(_KIND)
    outputs = (manifest, checksum_file(manifest), quarantine, leaks, corrections, metrics)
    decisions = read_corrections(options.corrections)
    listing = list_files(options.sources)
    digest, settled = digest_of_states(listing, now)
    key = digest_of(
        {
            "options": options.model_dump(mode="json"),
            "corrections": decisions,
            "files": digest,
            "code": digest_of_checking(),
        }
    )
    kept = keep.find(key)
    if kept is not None:
        for path in outputs:
            with atomic_write(path) as temporary:
                shutil.copyfile(kept / path.name, temporary)
        return

    # Only now: numbers, pictures and trees are not needed to see that nothing has changed.
    from headstart.dataset.preparation import check_and_split

    lasting = check_and_split(
        listing,
        options,
        decisions,
        manifest=manifest,
        quarantine=quarantine,
        leaks=leaks,
        corrections=corrections,
        metrics=metrics,
    )
    if lasting and settled:
        with suppress(InputError), keep.create(key) as folder:
            for path in outputs:
                shutil.copyfile(path, folder / path.name)


def forget_prepared(sha256: set[str], cache: Path | None = None) -> None:
    """Forget all kept tables that list an image of one of these contents.

    Args:
        sha256: Hexadecimal digests.
        cache: The cache folder, unless it is the user's own.

    Raises:
        WriteError: the cache may not be written to.
    """
    keep = Keep(_KIND, cache)
    with changing(keep.root.parent):
        for folder in keep.root.iterdir() if keep.root.is_dir() else ():
            table = folder / MANIFEST.name
            if table.is_file() and not sha256.isdisjoint(_DIGEST.findall(table.read_text("utf-8"))):
                shutil.rmtree(folder)


def write_source_state(source: str, key: str, listings: Sequence[bool], state: Path) -> None:
    """Write a file that differs when a photo of another source may have changed.

    The stage that reads that source depends on it, and so need not run each time, too.

    Args:
        source: As for `list_files`, along with `key`.
        key: Where params.yaml names it.
        listings: Whether it is listed with labels, for each way that it is; empty where nothing
            reads it.
        state: The file.

    Raises:
        InputError: the source cannot be used.
    """
    now = time.time_ns()
    lines = []
    for labels in listings:
        digest, settled = digest_of_states(list_files(source, key=key, labels=labels), now)
        lines.append(digest if settled else f"{digest} {now}")
    with atomic_write(state) as temporary:
        temporary.write_text("\n".join(lines or ["not read"]) + "\n", encoding="utf-8")


def digest_of_states(listing: Listing, now: int) -> tuple[str, bool]:
    """Return the digest of all files' states, and whether later changes would show in it."""
    about = (listing.empty_classes, listing.column_names)
    total, settled = hashlib.sha256(repr(about).encode()), True
    for file in listing.files:
        state = state_of(file.path)
        total.update(repr((file, state)).encode())
        # Of a remote file without a state nothing tells whether it has changed.
        settled = settled and (not is_url(file.path) if state is None else state.is_settled(now))
    return total.hexdigest(), settled
