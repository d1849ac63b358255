"""Telling whether a file is still what it was, without reading it.

A state is what the file system says of a file, under whatever name: any write, also one that puts
the old time back, changes the time of the last change of its status.
"""

import os
from importlib.metadata import version
from typing import NamedTuple

from headstart.common.code import digest_of_code
from headstart.common.files import digest_of

_CODE = ("common", "images", "dataset")
_LIBRARIES = ("numpy", "opencv-python-headless", "pillow", "scipy", "simplejpeg")
# File systems count time in steps of up to two seconds (FAT).
_STEP_NS = 2 * 10**9


class FileState(NamedTuple):
    """What tells whether a file is still the same, without reading it."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    def is_settled(self, now_ns: int) -> bool:
        """Return whether a later write would show; one within a step of the clock would not."""
        return max(self.modified_ns, self.changed_ns) < now_ns - _STEP_NS


def state_of(path: str) -> FileState | None:
    """Return a file's state, or that of what a link leads to; None where there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 - a Path per photo doubles the time of a million
    except (OSError, ValueError):
        return None
    return FileState(
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


def digest_of_checking() -> str:
    """Return the digest of all that decides what checking a file finds, besides the file."""
    return digest_of(
        {
            "code": digest_of_code(_CODE),
            "versions": {name: version(name) for name in _LIBRARIES},
        }
    )
