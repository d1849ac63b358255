"""The user's cache folder: what was expensive, kept under a digest of all that decides it.

It lies outside the project and outside DVC's outputs, so that projects, experiments and parallel
processes share it. Deleting it costs time and nothing else. A tag in it says that it is
Headstart's: nothing is read, written or deleted in a folder that may be somebody else's.
"""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import platformdirs

from headstart.common.errors import InputError
from headstart.common.files import atomic_write, digest_of, read_json, sha256_of, write_json
from headstart.common.progress import notify
from headstart.common.seal import read_sealed_json, write_sealed_json
from headstart.common.system_errors import WriteError, what_it_said, writing
from headstart.common.temporaries import (
    TEMPORARY_NAME,
    is_lock_of,
    open_lock,
    take_lock,
    temporary_folder,
)

ENVIRONMENT_VARIABLE = "HEADSTART_CACHE"

FEATURES, RUNS, INSPECTIONS = "features", "finetune", "inspections"
PICTURES, PAGES = "pictures", "pages"
TARS = "tars"
KINDS = {
    INSPECTIONS: "checks of photos",
    "prepared": "tables of photos",
    FEATURES: "features",
    "texts": "text vectors of class names",
    "models": "converted models",
    "costs": "sizes of networks",
    "cuts": "layers that were looked for",
    "times": "times of networks",
    "advice": "measurements for advice",
    "comparisons": "results of comparisons",
    "fits": "fitted heads",
    "pretrained": "pretrained backbones",
    RUNS: "unfinished fine-tuning runs",
    PICTURES: "small pictures",
    PAGES: "parts of reports",
    TARS: "contents of tar shards",
}
"""Sub-folders of the cache folder and what they hold."""

UNSEALED = frozenset({RUNS, INSPECTIONS, PICTURES})
"""Kinds of which a folder grows, so that it has no checksums as a whole."""

TAG_FILE = "CACHEDIR.TAG"
# Source: https://bford.info/cachedir/. Backup programs leave such folders out.
_SIGNATURE = "Signature: 8a477f597d28d172789f06886806bc55"
_LAYOUT = 1
_MARK = "# Headstart's cache, layout "
_TAG = (
    f"{_SIGNATURE}\n{_MARK}{_LAYOUT}\n"
    "# Deleting this folder costs time and nothing else; `headstart cache` looks into it.\n"
)

DIGEST = re.compile(r"[0-9a-f]{64}")
OUTDATED = re.compile(r"(classifier-)?[0-9a-f]{64}\.(json|h5)")
"""Names of files that older releases wrote for what is folders now."""

_OLD_TEMPORARY = re.compile(r"\.[a-z0-9_]{8}(-.+)?")

_CARD, _CONTENT = "card.json", "content.json"


def cache_folder() -> Path:
    """Return the folder that $HEADSTART_CACHE names, else the user's own for this program."""
    named = os.environ.get(ENVIRONMENT_VARIABLE)
    folder = Path(named).expanduser() if named else platformdirs.user_cache_path("headstart")
    return folder.absolute()


_ours: set[Path] = set()


def open_cache(root: Path | None = None) -> Path:
    """Return a cache folder once it is sure that no one else's is taken for it; make nothing.

    That is one with Headstart's tag, an empty one, or one that is not there yet. One without a tag,
    as older releases left it, must hold nothing that they did not write.

    Args:
        root: The folder; the user's by default.

    Raises:
        InputError: it is something else, or cannot be looked into.
    """
    root = cache_folder() if root is None else root.absolute()
    if root not in _ours:
        try:
            tagged = _is_tagged(root)
            foreign = None if tagged else _foreign(root)
        except OSError as error:
            raise InputError(
                f"{root}: expected Headstart's cache, or a folder that may become it; received "
                f"{what_it_said(error)}: {error.filename}. Put that right, or name another folder "
                f"with {ENVIRONMENT_VARIABLE}"
            ) from None
        if foreign is not None:
            raise InputError(
                f"{root}: expected Headstart's cache, or an empty folder that may become it; "
                f"received a folder that holds {foreign}. Nothing was touched; name an empty or a "
                f"new folder with {ENVIRONMENT_VARIABLE}"
            )
        if tagged:
            _ours.add(root)
    return root


def _is_tagged(root: Path) -> bool:
    try:
        lines = (root / TAG_FILE).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return False
    if lines[:1] != [_SIGNATURE]:
        return False
    layout = next((line.removeprefix(_MARK) for line in lines if line.startswith(_MARK)), None)
    if layout not in (None, str(_LAYOUT)):
        raise InputError(
            f"{root / TAG_FILE}: expected layout {_LAYOUT} of Headstart's cache, received "
            f"{layout}: another release made it; update Headstart, or name another folder with "
            f"{ENVIRONMENT_VARIABLE}"
        )
    return layout is not None


def _foreign(root: Path) -> str | None:
    """Return the first path, from the root, that no release of Headstart has written.

    A folder of a kind may be linked to a larger disk, where no command deletes anything.
    """
    for name, is_folder in _listed(root):
        if TEMPORARY_NAME.fullmatch(name):
            continue
        if name not in KINDS or not is_folder:
            return name
        for inside, _ in _listed(root / name):
            known = DIGEST.fullmatch(inside) or OUTDATED.fullmatch(inside)
            if not known and not is_temporary(inside):
                return f"{name}/{inside}"
    return None


def _listed(folder: Path) -> list[tuple[str, bool]]:
    try:
        with os.scandir(folder) as entries:
            return sorted((entry.name, entry.is_dir()) for entry in entries)
    except FileNotFoundError:
        return []


def is_temporary(name: str) -> bool:
    """Return whether that is the name of what is being written or deleted below a kind's folder."""
    return bool(TEMPORARY_NAME.fullmatch(name) or _OLD_TEMPORARY.fullmatch(name))


@contextmanager
def changing(root: Path) -> Iterator[None]:
    """Write below a cache folder in the block, having put Headstart's tag into it.

    Raises:
        WriteError: it may not be written to.
        InputError: it is somebody else's.
    """
    try:
        if not (root / TAG_FILE).is_file():
            _ours.discard(root)
            open_cache(root)
            with atomic_write(root / TAG_FILE) as temporary:
                temporary.write_text(_TAG, encoding="utf-8")
        yield
    except WriteError as error:
        if not error.path.absolute().is_relative_to(root) or ENVIRONMENT_VARIABLE in error.remedy:
            raise
        remedy = f"{error.remedy}, or name another folder with {ENVIRONMENT_VARIABLE}"
        raise WriteError(error.path, error.said, remedy) from error


class Keep:
    """Folders of files under a digest; each appears whole or not at all, and is never changed.

    Attributes:
        root: Where they lie, a sub-folder of the cache folder named after their kind.
    """

    def __init__(self, kind: str, cache: Path | None = None) -> None:
        self.root = open_cache(cache) / kind

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
            WriteError: the cache may not be written to.
        """
        kept = self.root / digest
        with changing(self.root.parent), writing(kept), temporary_folder(self.root) as temporary:
            filled = temporary / digest
            filled.mkdir()
            yield filled
            self._write_card(filled, about)
            if not check_kept(kept):
                try:
                    filled.rename(kept)
                except OSError:
                    # Another process was quicker.
                    if not check_kept(kept):
                        raise

    @contextmanager
    def create_if_possible(self, digest: str) -> Iterator[Path]:
        """As `create`; where nothing can be kept, say so once and give a folder that goes again.

        For what is worth having though the next run must make it anew.
        """
        with ExitStack() as stack:
            try:
                folder = stack.enter_context(self.create(digest))
            except WriteError as error:
                self._tell(error)
                name = stack.enter_context(tempfile.TemporaryDirectory(prefix="headstart-"))
                folder = Path(name)
            yield folder
            try:
                stack.close()
            except WriteError as error:
                self._tell(error)

    def _write_card(self, filled: Path, about: dict[str, Any]) -> None:
        if (filled / _CARD).exists():
            raise ValueError(f"{_CARD} is what a kept folder's checksums are called")
        files = sorted(path for path in filled.rglob("*") if path.is_file())
        checksums = {path.relative_to(filled).as_posix(): sha256_of(path) for path in files}
        write_sealed_json(filled / _CARD, {**about, "files": checksums})

    def _tell(self, error: WriteError) -> None:
        if self.root.parent not in _told:
            _told.add(self.root.parent)
            notify(f"warning: {error}. This run goes on; the next one computes the same again")

    def get(self, key: Any) -> Any:
        """Return the JSON value that is kept for `key`; None when there is none."""
        folder = self.find(digest_of(key))
        return None if folder is None else read_json(folder / _CONTENT)

    def put(self, key: Any, content: Any) -> None:
        """Keep a JSON value; a cache that may only be read stays as it is, which is told once.

        Args:
            key: JSON types: all that decides the value, versions of code included.
            content: The value, not None.
        """
        try:
            with self.create(digest_of(key), key=key) as folder:
                write_json(folder / _CONTENT, content)
        except WriteError as error:
            self._tell(error)


_told: set[Path] = set()


def read_card(folder: Path) -> dict[str, Any]:
    """Return what a kept folder's card says: `about` of `Keep.create`, and the checksums."""
    return read_sealed_json(folder / _CARD, "`headstart cache verify` deletes the folder")


def check_kept(folder: Path) -> bool:
    """Return whether a kept folder is there and its files are as they were written, to the bit.

    A damaged one is deleted, with a message.
    """
    try:
        (folder / _CARD).open("rb").close()
        for name, checksum in read_card(folder)["files"].items():
            if sha256_of(folder / name) != checksum:
                raise ValueError(f"the checksum of {name} does not fit")
    # A card of another kind is sealed, too.
    except (FileNotFoundError, ValueError, KeyError, AttributeError, InputError) as error:
        if folder.is_dir():
            _discard_damaged(folder, error)
        return False
    except OSError as error:
        # Which says nothing of what is in it: another user's, or too many open files.
        if folder.is_dir():
            problem = f"a part of the cache cannot be read ({what_it_said(error)})"
            notify(f"warning: {folder}: {problem}. It is not used.")
        return False
    return True


def _discard_damaged(folder: Path, error: Exception) -> None:
    problem = f"warning: {folder}: a part of the cache is damaged: {error}"
    link = first_link(folder.parent, folder)
    if link is not None:
        notify(f"{problem}. It is left alone, since {link} is a symbolic link.")
    elif discard(folder):
        notify(f"{problem}. It is deleted; what it held is made again when it is needed.")
    elif folder.is_dir():
        notify(f"{problem}. It is not used, but cannot be deleted.")


def first_link(*paths: Path) -> Path | None:
    """Return the first symbolic link among paths and all that lies below them; follow none."""
    for path in paths:
        if path.is_symlink():
            return path
    for folder, folders, files in os.walk(paths[-1]):
        for name in (*folders, *files):
            if (below := Path(folder, name)).is_symlink():
                return below
    return None


def discard(folder: Path) -> bool:
    """Delete a folder, of which nobody ever sees a half; return whether it is gone."""
    with suppress(OSError, WriteError), temporary_folder(folder.parent) as temporary:
        folder.rename(temporary / folder.name)
    return not os.path.lexists(folder)


@contextmanager
def claim(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a folder, made if it is missing, for this process alone; a kill lets it go.

    Args:
        folder: It gets a file that is locked.
        wait: Whether to wait while another process holds it.

    Raises:
        BlockingIOError: another process holds it, and `wait` is False.
        WriteError: it may not be written to.
    """
    with ExitStack() as stack:
        locked = False
        while not locked:
            # Whoever held it may have deleted it, the locked file included.
            with writing(folder), suppress(FileNotFoundError):
                try:
                    folder.mkdir(parents=True, exist_ok=True)
                except FileExistsError:
                    # A file lies there; or a folder that was deleted just after it was found.
                    if os.path.lexists(folder) and not folder.is_dir():
                        raise
                    continue
                descriptor = open_lock(folder)
                stack.callback(os.close, descriptor)
                _wait_for(descriptor, folder, wait=wait)
                locked = is_lock_of(descriptor, folder)
        yield


def _wait_for(descriptor: int, folder: Path, *, wait: bool) -> None:
    if take_lock(descriptor) is False:
        if not wait:
            raise BlockingIOError(f"another process holds {folder}")
        notify(f"waiting for another process that works in {folder}")
        take_lock(descriptor, wait=True)
