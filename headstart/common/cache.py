"""The user's cache folder: what was expensive, kept under a digest of all that decides it.

It lies outside the project and outside DVC's outputs, so that projects, experiments and parallel
processes share it. Deleting it costs time and nothing else.
"""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

from headstart.common.files import sha256_of, write_json

ENVIRONMENT_VARIABLE = "HEADSTART_CACHE"

_INVENTORY = "inventory.json"


def cache_folder() -> Path:
    """Return the folder that $HEADSTART_CACHE names, else the user's own for this program."""
    named = os.environ.get(ENVIRONMENT_VARIABLE)
    return Path(named).expanduser() if named else Path(platformdirs.user_cache_dir("headstart"))


class Keep:
    """Folders of files under a digest; each appears whole or not at all, and is never changed.

    Attributes:
        root: Where they lie, a sub-folder of the cache folder named after their kind.
    """

    def __init__(self, kind: str, cache: Path | None = None) -> None:
        self.root = (cache or cache_folder()) / kind

    def find(self, digest: str) -> Path | None:
        """Return a kept folder whose files are all as they were written; None when there is none."""
        folder = self.root / digest
        if not is_sound(folder):
            return None
        # Tells `headstart cache prune` that it is in use. A cache that may only be read is fine.
        with contextlib.suppress(OSError):
            os.utime(folder)
        return folder

    @contextmanager
    def create(self, digest: str) -> Iterator[Path]:
        """Give an empty folder to fill; it is kept under `digest` when the block succeeds.

        Another process may have kept the same in the meantime; then either may stay.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.root, prefix=".") as temporary:
            filled = Path(temporary) / "filled"
            filled.mkdir()
            yield filled
            files = sorted(path for path in filled.rglob("*") if path.is_file())
            inventory = {path.relative_to(filled).as_posix(): sha256_of(path) for path in files}
            write_json(filled / _INVENTORY, inventory)
            final = self.root / digest
            # What lies there is damaged, or the same.
            shutil.rmtree(final, ignore_errors=True)
            with contextlib.suppress(OSError):
                filled.rename(final)


def is_sound(folder: Path) -> bool:
    """Return whether a kept folder holds what its inventory says, to the bit."""
    try:
        inventory = json.loads((folder / _INVENTORY).read_text(encoding="utf-8"))
        return all(sha256_of(folder / name) == digest for name, digest in inventory.items())
    except (OSError, ValueError, AttributeError):
        return False
