"""Names of files: paths on this machine, URLs, and members of tar shards.

A URL stays a string wherever it goes: pathlib would make `s3:/bucket` of `s3://bucket`.
"""

import re
from pathlib import Path, PurePosixPath

from headstart.common.errors import InputError

PROTOCOLS = ("s3", "gs", "gcs", "abfs", "abfss", "az", "http", "https", "memory")
"""What a URL may begin with."""

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_TAR = ".tar/"


def is_url(path: str | Path) -> bool:
    """Return whether that names a file elsewhere; a `Path` never does."""
    return isinstance(path, str) and "://" in path and _URL.match(path) is not None


def check_url(url: str, where: str) -> str:
    """Return a URL that can be read.

    Args:
        url: As a user wrote it.
        where: Who names it, for errors.

    Raises:
        InputError: it holds a password, or begins with a protocol that is not known. The message
            does not repeat a password.
    """
    match = _URL.match(url)
    if match is None or not match[2].strip("/"):
        raise InputError(f"{where}: expected a URL such as s3://bucket/folder, received {url!r}")
    protocol, rest = match[1], match[2]
    # abfs://container@account.host/... names no user.
    if ":" in rest.partition("/")[0].rpartition("@")[0]:
        raise InputError(
            f"{where}: a {protocol}:// URL holds a password, which would end up in tables and "
            "messages. Take it out; credentials belong into the environment (such as "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY) or the service's own files (~/.aws)"
        )
    if protocol not in PROTOCOLS:
        remedy = "; name the file by its path" if protocol == "file" else ""
        raise InputError(
            f"{where}: expected a URL that begins with one of "
            f"{', '.join(f'{name}://' for name in PROTOCOLS)}, received {protocol}://{remedy}"
        )
    return url


def name_of(path: str | Path) -> str:
    """Return the last part of a path or URL."""
    return path.rstrip("/").rpartition("/")[2] if isinstance(path, str) else path.name


def within(folder: str | Path, path: str) -> str:
    """Return a path that is relative to a folder or to a URL; one that is absolute stays."""
    if is_url(path):
        return path
    if isinstance(folder, str) and is_url(folder):
        return f"{folder.rstrip('/')}/{path}"
    return str(Path(folder) / path)


def absolute(path: str | Path) -> str:
    """Return a path from the root; a URL stays."""
    return str(path) if is_url(path) else str(Path(path).absolute())


def split_member(path: str | Path) -> tuple[str, str] | None:
    """Part `shards/000.tar/cat.jpg` into the tar and its member; None for any other path."""
    before, found, member = str(path).partition(_TAR)
    return (before + _TAR[:-1], member) if found and member else None


def suffix_of(path: str | Path) -> str:
    """Return the ending of a name, in lower case and with its dot; of a URL without its query."""
    if isinstance(path, str) and path.startswith(("http://", "https://")):
        path = path.partition("?")[0].partition("#")[0]
    return PurePosixPath(path).suffix.lower()
