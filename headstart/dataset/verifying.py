"""Reading every photo of the table of images again, whatever the file system says of it.

`prepare` reads a photo once and believes size, times and inode from then on. Where a disk, a copy
or a network folder may change bytes without a trace, only reading tells.
"""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple

from headstart.common.progress import progress
from headstart.common.threads import WORKERS
from headstart.dataset.file_states import states_of
from headstart.dataset.inspections import Inspections
from headstart.dataset.manifest import Manifest
from headstart.dataset.prepared import forget_prepared
from headstart.images import decoding
from headstart.images.decoding import UnreadableImage

_FILES_AT_ONCE = 1024


class Changed(NamedTuple):
    """A photo that is not what the table says.

    Attributes:
        path: Of the file.
        sha256: What the table says.
        problem: "differs" where other bytes were read, "cannot be read" where none were.
    """

    path: str
    sha256: str
    problem: Literal["differs", "cannot be read"]


def changed_photos(manifest: Manifest) -> list[Changed]:
    """Read all photos in parallel and return those with another content, sorted by path."""
    found: list[Changed] = []
    paths, digests = manifest.columns.path, manifest.columns.sha256
    with (
        ThreadPoolExecutor(WORKERS) as pool,
        progress(total=len(manifest), desc="Reading images") as bar,
    ):
        for start in range(0, len(manifest), _FILES_AT_ONCE):
            part = slice(start, start + _FILES_AT_ONCE)
            named = paths[part].tolist()
            for path, digest, read in zip(
                named, digests[part], pool.map(_digest, named), strict=True
            ):
                expected = digest.tobytes().hex()
                if read != expected:
                    found.append(
                        Changed(path, expected, "cannot be read" if read is None else "differs")
                    )
            bar.update(len(named))
    return found


def forget(changed: Sequence[Changed], cache: Path | None = None) -> None:
    """Forget what was found of these photos, so that the next `prepare` reads them again.

    Args:
        changed: Of `changed_photos`.
        cache: The cache folder, unless it is the user's own.
    """
    states = states_of([one.path for one in changed])
    with Inspections(cache) as known:
        known.forget([state for state in states if state is not None])
    forget_prepared({one.sha256 for one in changed}, cache)


def _digest(path: str) -> str | None:
    try:
        return hashlib.sha256(decoding.read(path)).hexdigest()
    except UnreadableImage:
        return None
