"""The library's own code as digests, which tell whether a result is of the installed code."""

import hashlib
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from headstart.common.files import digest_of

LIBRARY = Path(__file__).parents[1]
"""The folder of the installed package `headstart`."""


def digest_of_code(packages: Iterable[str]) -> str:
    """Return one digest of some packages of the library; their order does not matter.

    Args:
        packages: Their names, such as "common" and "heads".
    """
    return digest_of({name: digest_of_package(name) for name in packages})


@cache
def digest_of_package(name: str) -> str:
    """Return the digest of all files of a package: code and data, names and contents.

    It is computed once per process, since running code does not follow its files.

    Args:
        name: Of a folder or a file in the library, such as "common" or "__init__.py".

    Raises:
        FileNotFoundError: the library has none of that name.
    """
    return digest_of_files(LIBRARY / name)


def digest_of_files(path: Path) -> str:
    """Return the hexadecimal sha256 of a file, or of a folder's relative paths and contents.

    Compiled code and hidden files, which come and go unasked, do not count.
    """
    total = hashlib.sha256()
    for name, file in _files(path):
        # Each name and each content has a fixed length in the sum, so none can pass for another.
        total.update(hashlib.sha256(name.encode()).digest())
        total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


def _files(path: Path) -> list[tuple[str, Path]]:
    if path.is_file():
        return [("", path)]
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: the library has no such file or folder")
    found = []
    for folder, folders, names in os.walk(path):
        folders[:] = [name for name in folders if name != "__pycache__" and name[0] != "."]
        files = [Path(folder, name) for name in names if name[0] != "."]
        found += [(file.relative_to(path).as_posix(), file) for file in files]
    return sorted(found)
