"""Hidden folders for what is unfinished, held by a lock, and deleted when a kill has let it go.

They lie beside what they will become, as `.headstart-<8 hex digits>`; whoever writes there next
deletes those that nobody holds.
"""

import fcntl
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from headstart.common.system_errors import writing

TEMPORARY_PATTERN = ".headstart-*"
"""What git and DVC are told to ignore."""

TEMPORARY_NAME = re.compile(r"\.headstart-[0-9a-f]{8}")

REPLACED = "replaced-"
"""How a folder is called that waits in a temporary one until another has its place."""

_LOCK = "lock"
_ABANDONED_SECONDS = 3600.0


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
    for replaced in temporary.glob(f"{REPLACED}*"):
        path = temporary.parent / replaced.name.removeprefix(REPLACED)
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
