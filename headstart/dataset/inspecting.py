"""Reading a photo in full: whether it can be used, and what it looks like."""

import hashlib
from pathlib import Path

from headstart.common.urls import is_url
from headstart.dataset import duplicates
from headstart.dataset.file_states import note_read, state_of
from headstart.dataset.inspections import Inspected
from headstart.images import decoding
from headstart.images.decoding import MAX_BYTES, UnreadableImage


def inspect_file(path: str | Path) -> Inspected:
    """Read a photo to its last row.

    Raises:
        UnreadableImage: it cannot be used.
    """
    if not is_url(path):
        return _inspect(decoding.read(path))
    url = str(path)
    state = state_of(url)
    if state is not None and state.size > MAX_BYTES:
        raise UnreadableImage(f"{state.size:,} bytes; at most {MAX_BYTES:,} are read")
    data = decoding.read(url)
    note_read(url, data)
    return _inspect(data)


def _inspect(data: bytes) -> Inspected:
    inspection = decoding.inspect(data, duplicates.THUMBNAIL_SIDE)
    return Inspected(
        hashlib.sha256(data).hexdigest(),
        inspection.width,
        inspection.height,
        duplicates.describe(inspection.thumbnail),
        duplicates.sharpness(inspection.thumbnail),
        inspection.remark,
    )


def inspect_or_none(path: str) -> Inspected | None:
    """Read a photo to its last row; None when it cannot be used."""
    try:
        return inspect_file(path)
    except UnreadableImage:
        return None
