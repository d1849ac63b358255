"""Writing HDF5 files so that a full disk ends in an error rather than in a crash."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from headstart.common.files import atomic_write

if TYPE_CHECKING:
    import h5py


@contextmanager
def write_hdf5(path: Path, **options: Any) -> Iterator["h5py.File"]:
    """Give an HDF5 file to fill; it is at `path` when the block succeeds.

    Args:
        path: The file, written atomically.
        options: Further arguments of `h5py.File`.

    Raises:
        WriteError: as `atomic_write`.
    """
    with atomic_write(path) as temporary, open_hdf5(temporary, **options) as file:
        yield file


@contextmanager
def open_hdf5(path: Path, **options: Any) -> Iterator["h5py.File"]:
    """Open a new HDF5 file to write; an error of the disk is raised when all is done.

    HDF5 itself does not take a full disk well: it fails again while it closes, prints a traceback
    per object, and may crash the process.

    Raises:
        OSError: the file could not be written as a whole.
    """
    import h5py

    with path.open("wb+", buffering=0) as raw:
        patient = _Patient(raw)
        try:
            with h5py.File(patient, "w", **options) as file:
                yield file
        finally:
            if patient.error is not None:
                raise patient.error


class _Patient:
    """A file that remembers its first error of writing and goes on."""

    def __init__(self, raw: Any) -> None:
        self._raw: BinaryIO = raw
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        rest = memoryview(data)
        try:
            while self.error is None and rest:
                rest = rest[self._raw.write(rest) :]
        except OSError as error:
            self.error = error
        return len(data)

    def truncate(self, size: int) -> int:
        try:
            return self._raw.truncate(size) if self.error is None else size
        except OSError as error:
            self.error = error
            return size

    def readinto(self, buffer: Any) -> int:
        # BinaryIO does not declare it, but every unbuffered file has it.
        return self._raw.readinto(buffer)  # type: ignore[attr-defined, no-any-return]

    def read(self, size: int = -1) -> bytes:
        return self._raw.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        return self._raw.tell()

    def flush(self) -> None:
        """Nothing is buffered."""
