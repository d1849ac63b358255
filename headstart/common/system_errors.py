"""What the system says against writing, as one message: the path, its words, and what to do."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headstart.common.errors import InputError

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
        raise WriteError(path, said, remedy_for(code)) from error


def _code(error: Exception, path: Path) -> int | None:
    """Return the number of the system's error; None when this is none, or not about `path`."""
    if not isinstance(error, OSError) or error.errno is None:
        return next((code for code in _OF_THE_DISK if os.strerror(code) in str(error)), None)
    if error.filename is None:
        return error.errno if error.errno in _REMEDIES else None
    named, target = Path(os.fsdecode(error.filename)).absolute(), path.absolute()
    about = named.is_relative_to(target.parent) or target.is_relative_to(named)
    return error.errno if about else None


def remedy_for(code: int) -> str:
    """Return what to do about an error of the system."""
    return _REMEDIES.get(code, "put that right and run the same again")


def what_it_said(error: OSError) -> str:
    """Return what the system said, without what libraries add."""
    return os.strerror(error.errno) if error.errno else str(error)
