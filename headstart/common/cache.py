"""The user's cache folder: what was expensive, kept under a digest of all that decides it.

It lies outside the project and outside DVC's outputs, so that projects, experiments and parallel
processes share it. Deleting it costs time and nothing else.
"""

import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import platformdirs

from headstart.common.errors import InputError
from headstart.common.files import digest_of, read_json, sha256_of, temporary_name, write_json
from headstart.common.progress import notify
from headstart.common.seal import read_sealed_json, write_sealed_json

ENVIRONMENT_VARIABLE = "HEADSTART_CACHE"

TEMPORARY_FOLDER = re.compile(r"\.[a-z0-9_]{8}(-.+)?")
"""Names of folders that are being filled or deleted; a user's own hidden folders have others."""

_ABANDONED_SECONDS = 3600.0
_CARD, _CONTENT, _LOCK = "card.json", "content.json", "lock"


def cache_folder() -> Path:
    """Return the folder that $HEADSTART_CACHE names, else the user's own for this program."""
    named = os.environ.get(ENVIRONMENT_VARIABLE)
    folder = Path(named).expanduser() if named else platformdirs.user_cache_path("headstart")
    return folder.absolute()


class Keep:
    """Folders of files under a digest; each appears whole or not at all, and is never changed.

    Attributes:
        root: Where they lie, a sub-folder of the cache folder named after their kind.
    """

    def __init__(self, kind: str, cache: Path | None = None) -> None:
        self.root = (cache or cache_folder()) / kind

    def find(self, digest: str) -> Path | None:
        """Return a kept folder whose files are all as they were written; None when there is none.

        A damaged one is deleted, with a message.
        """
        folder = self.root / digest
        if not check_kept(folder):
            return None
        # Tells `headstart cache prune` that it is in use. A cache that may only be read is fine.
        with suppress(OSError):
            os.utime(folder)
        return folder

    @contextmanager
    def create(self, digest: str, **about: Any) -> Iterator[Path]:
        """Give an empty folder to fill; it is kept under `digest` when the block succeeds.

        Another process may have kept the same in the meantime; then that stays.

        Args:
            digest: Of all that decides the content.
            about: JSON values that the folder's card says besides the checksums.

        Raises:
            InputError: the cache may not be written to.
        """
        with temporary_folder(self.root) as temporary:
            filled = temporary / digest
            filled.mkdir()
            yield filled
            if (filled / _CARD).exists():
                raise ValueError(f"{_CARD} is what a kept folder's checksums are called")
            files = sorted(path for path in filled.rglob("*") if path.is_file())
            checksums = {path.relative_to(filled).as_posix(): sha256_of(path) for path in files}
            write_sealed_json(filled / _CARD, {**about, "files": checksums})
            if not check_kept(self.root / digest):
                with suppress(OSError):
                    filled.rename(self.root / digest)

    def get(self, key: Any) -> Any:
        """Return the JSON value that is kept for `key`; None when there is none."""
        folder = self.find(digest_of(key))
        return None if folder is None else read_json(folder / _CONTENT)

    def put(self, key: Any, content: Any) -> None:
        """Keep a JSON value; a cache that may only be read stays as it is.

        Args:
            key: JSON types: all that decides the value, versions of code included.
            content: The value, not None.
        """
        with suppress(InputError), self.create(digest_of(key), key=key) as folder:
            write_json(folder / _CONTENT, content)


def read_card(folder: Path) -> dict[str, Any]:
    """Return what a kept folder's card says: `about` of `Keep.create`, and the checksums."""
    return read_sealed_json(folder / _CARD, "`headstart cache verify` deletes the folder")


def check_kept(folder: Path) -> bool:
    """Return whether a kept folder is there and its files are as they were written, to the bit.

    A damaged one is deleted, with a message.
    """
    try:
        for name, checksum in read_card(folder)["files"].items():
            if sha256_of(folder / name) != checksum:
                raise ValueError(f"the checksum of {name} does not fit")
    except (InputError, OSError, ValueError) as error:
        if folder.is_dir():
            notify(
                f"warning: {folder}: a part of the cache is damaged: {error}. It is deleted; what "
                "it held is made again when it is needed."
            )
            discard(folder)
        return False
    return True


def discard(folder: Path) -> None:
    """Delete a folder, of which nobody ever sees a half."""
    with suppress(OSError):
        shutil.rmtree(folder.rename(temporary_name(folder)))


@contextmanager
def temporary_folder(root: Path) -> Iterator[Path]:
    """Give an empty folder below `root`, which no other process touches; it goes with the block.

    What killed processes left below `root` is deleted first, so that a run that needed gigabytes
    and was killed can start again where there is no room for two.

    Raises:
        InputError: `root` may not be written to.
    """
    with _writing(root):
        root.mkdir(parents=True, exist_ok=True)
        for left in list(root.iterdir()):
            if TEMPORARY_FOLDER.fullmatch(left.name) and left.is_dir() and is_abandoned(left):
                discard(left)
        folder = Path(tempfile.mkdtemp(dir=root, prefix="."))
    try:
        with claim(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def claim(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a folder, made if it is missing, for this process alone; a kill lets it go.

    Args:
        folder: It gets a file that is locked.
        wait: Whether to wait while another process holds it.

    Raises:
        BlockingIOError: another process holds it, and `wait` is False.
        InputError: it may not be written to.
    """
    with ExitStack() as stack:
        locked = False
        while not locked:
            # Whoever held it may have deleted it, the locked file included.
            with _writing(folder), suppress(FileNotFoundError):
                try:
                    folder.mkdir(parents=True, exist_ok=True)
                except FileExistsError:
                    # A file lies there; or a folder that was deleted just after it was found.
                    if folder.is_file():
                        raise
                    continue
                file = stack.enter_context((folder / _LOCK).open("w"))
                _lock(file.fileno(), folder, wait=wait)
                locked = os.path.samestat(os.fstat(file.fileno()), (folder / _LOCK).stat())
        yield


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except BlockingIOError:
        raise
    except OSError as error:
        raise InputError(
            f"{folder}: the cache cannot be written to ({error.strerror}); make it writable, make "
            f"room, or name another folder with {ENVIRONMENT_VARIABLE}"
        ) from error


def _lock(descriptor: int, folder: Path, *, wait: bool) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if not wait:
            raise
        notify(f"waiting for another process that works in {folder}")
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:
        # A file system without locks; `is_held` cannot tell there either.
        pass


def is_held(folder: Path) -> bool:
    """Return whether a process holds a folder, or none can tell: a file system without locks."""
    try:
        with (folder / _LOCK).open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def is_abandoned(temporary: Path) -> bool:
    """Return whether a hidden file or folder was left by a killed process, or by an older release.

    That is one whose lock is free, or that has none and was not written to for an hour.
    """
    if (temporary / _LOCK).is_file():
        return not is_held(temporary)
    try:
        newest = max(path.stat().st_mtime for path in (temporary, *temporary.rglob("*")))
    except FileNotFoundError:
        return False
    return time.time() - newest > _ABANDONED_SECONDS
