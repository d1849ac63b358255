"""Writing files so that a kill at any moment leaves the old one or the new one, never a half.

What is unfinished lies beside its target in a hidden folder, `.headstart-<8 hex digits>`, which
the process that fills it holds by a lock. A kill lets the lock go, and whoever writes there next
deletes the folder.
"""

import csv
import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from headstart.common.errors import InputError

if TYPE_CHECKING:
    import h5py

TEMPORARY_PATTERN = ".headstart-*"
"""What git and DVC are told to ignore."""

TEMPORARY_NAME = re.compile(r"\.headstart-[0-9a-f]{8}")

_LOCK = "lock"
_REPLACED = "replaced-"
_ABANDONED_SECONDS = 3600.0
_OVERHEAD = 2**20

_FULL = "make room, for example with `headstart cache prune`"
_FORBIDDEN = "make it writable"
_BLOCKED = "move away what lies there"
_REMEDIES = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: "raise the limit on the size of files (`ulimit -f`)",
    errno.EIO: "check the disk",
    errno.EROFS: _FORBIDDEN,
    errno.EACCES: _FORBIDDEN,
    errno.EPERM: _FORBIDDEN,
    errno.EMFILE: "raise the limit on open files (`ulimit -n`)",
    errno.ENFILE: "close other programs",
    errno.ENOTDIR: _BLOCKED,
    errno.EEXIST: _BLOCKED,
    errno.EISDIR: _BLOCKED,
    errno.ENOTEMPTY: _BLOCKED,
    errno.ELOOP: "remove the symbolic link",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOENT: "something has taken it away meanwhile; run the same again",
    errno.ESTALE: "something has taken it away meanwhile; run the same again",
}
# Libraries in C++ hand on the system's words alone, in errors of their own.
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)


class WriteError(InputError):
    """The system refused to write.

    Attributes:
        path: What could not be written.
        said: What the system said, and where that helps, of which path.
        remedy: What to do.
    """

    def __init__(self, path: Path, said: str, remedy: str) -> None:
        super().__init__(path, said, remedy)
        self.path = path
        self.said = said
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.path}: cannot be written to ({self.said}); {self.remedy}"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the system says against writing `path` within the block into a `WriteError`.

    Errors of other kinds, or about a file elsewhere that the block reads, pass.
    """
    try:
        yield
    except (InputError, BlockingIOError, BrokenPipeError):
        raise
    # C++ libraries raise RuntimeError and the like, with the system's words in the text.
    except Exception as error:
        code = _code(error, path)
        if code is None:
            raise
        said = os.strerror(code)
        if code in (errno.ENOTDIR, errno.EEXIST):
            said += "".join(f": {one}" for one in (path, *path.parents) if one.is_file())
        remedy = _REMEDIES.get(code, "put that right and run the same again")
        raise WriteError(path, said, remedy) from error


def _code(error: Exception, path: Path) -> int | None:
    """Return the number of the system's error; None when this is none, or not about `path`."""
    if not isinstance(error, OSError) or error.errno is None:
        return next((code for code in _OF_THE_DISK if os.strerror(code) in str(error)), None)
    if error.filename is None:
        return error.errno if error.errno in _REMEDIES else None
    named, target = Path(os.fsdecode(error.filename)).absolute(), path.absolute()
    about = named.is_relative_to(target.parent) or target.is_relative_to(named)
    return error.errno if about else None


def what_it_said(error: OSError) -> str:
    """Return what the system said, without what libraries add."""
    return os.strerror(error.errno) if error.errno else str(error)


@contextmanager
def atomic_write(path: Path, room: int = 0) -> Iterator[Path]:
    """Give a temporary path; move it to `path` when the block succeeds.

    Args:
        path: The file to write; its folder is made when missing.
        room: See `expect_room`.

    Yields:
        The path to write to, of the same suffixes. After the block it is flushed to disk and
        renamed; when the block raises it is deleted and `path` is untouched.

    Raises:
        WriteError: the system refuses to make, write, flush or rename it.
    """
    with writing(path), temporary_folder(path.parent) as folder:
        # Some writers choose the format by the suffixes.
        temporary = folder / f"new-{path.name}"
        temporary.touch(exist_ok=False)
        if room:
            expect_room(folder, room)
        yield temporary
        _flush(temporary)
        temporary.replace(path)
        _flush(path.parent)


def reserve(descriptor: int, size: int) -> None:
    """Make a file so many bytes long, and sure to have them; where the system cannot, do nothing.

    Who writes through a map of a file without is killed when the disk is full.

    Raises:
        OSError: the disk has no room, or files may not be so long.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)


def expect_room(folder: Path, size: int) -> None:
    """Make sure of the room for arrays that a library is about to write by itself.

    Those in C++ fail without the system's words where the disk is full, or crash; see `open_hdf5`.

    Args:
        folder: Where they will lie.
        size: Of the arrays in bytes; something is added for what stands around them.

    Raises:
        OSError: there is no room for them, or files may not be so long.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        reserve(file.fileno(), size + _OVERHEAD)


@contextmanager
def atomic_folder(path: Path, *, flush: bool = True) -> Iterator[Path]:
    """Give an empty folder; put it in the place of `path`, as a whole, when the block succeeds.

    Args:
        path: The folder to write.
        flush: Whether its files must outlast a power cut, which takes 10 ms for each.

    Raises:
        WriteError: as `atomic_write`.
    """
    with writing(path), temporary_folder(path.parent) as temporary:
        filled, replaced = temporary / "new", temporary / f"{_REPLACED}{path.name}"
        filled.mkdir()
        yield filled
        for below in filled.rglob("*") if flush else ():
            if below.is_file() and not below.is_symlink():
                _flush(below)
        if os.path.lexists(path):
            path.rename(replaced)
        try:
            filled.rename(path)
        except BaseException:
            if os.path.lexists(replaced):
                replaced.rename(path)
            raise
        _flush(path.parent)


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """Give a folder below `parent`, which no other process touches; it goes with the block.

    It holds a file called "lock" and nothing else. What killed processes left below `parent` is
    deleted first, so that a run that needed gigabytes can start again where there is no room for
    two.

    Raises:
        WriteError: `parent` may not be written to.
    """
    with writing(parent):
        parent.mkdir(parents=True, exist_ok=True)
        sweep(parent)
        folder, descriptor = _make_held(parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _make_held(parent: Path) -> tuple[Path, int]:
    while True:
        folder = parent / f".headstart-{secrets.token_hex(4)}"
        folder.mkdir()
        with ExitStack() as undo:
            undo.callback(shutil.rmtree, folder, ignore_errors=True)
            # Another process may take it for abandoned before it is locked; that one deletes it.
            with suppress(FileNotFoundError):
                descriptor = open_lock(folder)
                undo.callback(os.close, descriptor)
                if take_lock(descriptor) is not False and is_lock_of(descriptor, folder):
                    undo.pop_all()
                    return folder, descriptor


def sweep(folder: Path) -> None:
    """Delete what killed processes left below a folder; never what a running one holds."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if TEMPORARY_NAME.fullmatch(entry.name):
                delete_abandoned(Path(entry.path))


def delete_abandoned(temporary: Path) -> bool:
    """Delete a temporary file or folder, unless it may be in use; return whether it is gone."""
    with suppress(OSError):
        if temporary.is_symlink():
            return False
        if not has_lock(temporary):
            if is_abandoned(temporary):
                _delete(temporary)
        else:
            descriptor = open_lock(temporary)
            try:
                if take_lock(descriptor):
                    _bring_back(temporary)
                    _delete(temporary)
            finally:
                os.close(descriptor)
    return not os.path.lexists(temporary)


def _bring_back(temporary: Path) -> None:
    """Undo the first half of an exchange of folders whose second half a kill prevented."""
    for replaced in temporary.glob(f"{_REPLACED}*"):
        path = temporary.parent / replaced.name.removeprefix(_REPLACED)
        if not os.path.lexists(path):
            replaced.rename(path)


def is_abandoned(temporary: Path) -> bool:
    """Return whether a hidden file or folder was left by a killed process, or by an older release.

    That is one whose lock is free, or that has none and was not written to for an hour.
    """
    if has_lock(temporary):
        return not is_held(temporary)
    try:
        newest = max(path.lstat().st_mtime for path in (temporary, *temporary.rglob("*")))
    except OSError:
        return False
    return time.time() - newest > _ABANDONED_SECONDS


def is_held(folder: Path) -> bool:
    """Return whether a process holds a folder, or none can tell: a file system without locks."""
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def has_lock(folder: Path) -> bool:
    """Return whether there is a lock in a folder, held or not."""
    return os.path.lexists(folder / _LOCK)


def open_lock(folder: Path) -> int:
    """Open a folder's lock, made if it is missing, and return its descriptor."""
    path = folder / _LOCK
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except PermissionError:
        # Another user's. Where only a lock for writing can be exclusive, as on NFS, nobody can
        # tell; elsewhere this does.
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)


def take_lock(descriptor: int, *, wait: bool = False) -> bool | None:
    """Lock for this process alone; return whether that is done, None where there are no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def is_lock_of(descriptor: int, folder: Path) -> bool:
    """Return whether a lock still lies in its folder: who held it may have deleted both."""
    return os.path.samestat(os.fstat(descriptor), (folder / _LOCK).stat(follow_symlinks=False))


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink()


def copy_folder(source: Path, target: Path) -> None:
    """Copy the files below a folder, which may be read-only, as ordinary ones."""
    with writing(target):
        target.mkdir(parents=True)
        for path in sorted(source.rglob("*")):
            copy = target / path.relative_to(source)
            if path.is_dir():
                copy.mkdir()
            else:
                shutil.copyfile(path, copy)


def _flush(path: Path) -> None:
    """Write a file or a folder's list of names to the disk.

    Without that of the folder a power cut could lose a rename though the data reached the disk.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, keys in the order given, atomically.

    Raises:
        ValueError: `content` holds NaN or infinity, which JSON has no way to say.
    """
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read what `write_json` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


def sha256_of(path: Path) -> str:
    """Return the hexadecimal sha256 of a file's bytes, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_table(path: Path, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a CSV file, UTF-8, lines ended by a newline alone, atomically.

    Args:
        path: The file.
        columns: The header line.
        rows: Values in the order of `columns`.
    """
    with (
        atomic_write(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def digest_of(content: Any) -> str:
    """Return the hexadecimal sha256 of the canonical JSON of `content`."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
