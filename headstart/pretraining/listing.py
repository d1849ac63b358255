"""The source of all runs: its images and what they contain, told without decoding any."""

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

from headstart.common.errors import InputError
from headstart.common.places import MANIFEST
from headstart.common.progress import progress
from headstart.dataset.listing import SourceFile
from headstart.dataset.manifest import read_manifest
from headstart.dataset.sources import list_files
from headstart.images import decoding
from headstart.images.decoding import UnreadableImage
from headstart.pretraining.options import SOURCE_KEY, PretrainOptions, PretrainRun


@dataclass(frozen=True, slots=True)
class SourceListing:
    """The images of a source that one run learns from.

    Attributes:
        source: What params.yaml names.
        files: In order of their paths; none that is given for testing.
        sha256: Hexadecimal digest of each file; empty where it cannot be read.
        prepared: They are those of the manifest: all could be read, and still can.
    """

    source: str
    files: tuple[SourceFile, ...]
    sha256: tuple[str, ...]
    prepared: bool

    def content(self) -> list[tuple[str | None, ...]]:
        """Return all that a run learns from; the same images elsewhere are the same."""
        pairs = zip(self.files, self.sha256, strict=True)
        return [(digest, file.label, file.split, file.group) for file, digest in pairs]


class Source:
    """A source, listed and read at most once however many runs use it.

    Args:
        options: Their source: `data/manifest.csv` for the images of the project itself, of which
            test images are left alone; else what `headstart.dataset.sources.list_files` takes.
    """

    def __init__(self, options: PretrainOptions) -> None:
        self._name = options.source
        self._prepared = options.learns_from_project
        self._sha256: dict[str, str] = {}

    def listing(self, key: str, run: PretrainRun) -> SourceListing:
        """List what one run learns from.

        Args:
            key: Where in params.yaml the run stands, for errors.
            run: Its objective and classes count.

        Raises:
            InputError: the source cannot be used, or has too few classes.
        """
        files = self._unlabeled if run.objective == "reconstruct" else self._of_classes(key, run)
        self._hash(file.path for file in files)
        digests = tuple(self._sha256[file.path] for file in files)
        return SourceListing(self._name, files, digests, self._prepared)

    def _of_classes(self, key: str, run: PretrainRun) -> tuple[SourceFile, ...]:
        found = sorted({file.label for file in self._labeled})
        wanted = found if run.classes is None else run.classes
        if missing := sorted(set(wanted) - set(found)):
            raise InputError(
                f"{key}.classes: {', '.join(missing)} not among the classes of {self._name} "
                f"({', '.join(found)})"
            )
        if len(set(wanted)) < 2:
            raise InputError(
                f"{key}: objective classify needs two classes or more, received "
                f"{', '.join(wanted) or 'none'}; give more, or use objective: reconstruct"
            )
        return tuple(file for file in self._labeled if file.label in wanted)

    @cached_property
    def _labeled(self) -> tuple[SourceFile, ...]:
        return self._manifest if self._prepared else self._list(labels=True)

    @cached_property
    def _unlabeled(self) -> tuple[SourceFile, ...]:
        files = self._manifest if self._prepared else self._list(labels=False)
        return tuple(file._replace(label="") for file in files)

    @cached_property
    def _manifest(self) -> tuple[SourceFile, ...]:
        rows = [row for row in read_manifest(MANIFEST) if row.source_split != "test"]
        self._sha256 = {row.path: row.sha256 for row in rows}
        return tuple(SourceFile(row.path, row.label, row.source_split, row.group) for row in rows)

    def _list(self, *, labels: bool) -> tuple[SourceFile, ...]:
        files = tuple(
            file
            for file in list_files(self._name, key=SOURCE_KEY, labels=labels).files
            if file.split != "test"
            and (file.label or not labels)
            and decoding.is_image_like(file.path)
        )
        if not files:
            raise InputError(f"{SOURCE_KEY}: no image to train on in {self._name}")
        return files

    def _hash(self, paths: Iterable[str]) -> None:
        missing = [path for path in paths if path not in self._sha256]
        with decoding.reading_ahead() as read_soon, ThreadPoolExecutor(os.cpu_count()) as pool:
            read_soon(missing)
            digests = pool.map(_sha256_of_image, missing)
            bar = progress(digests, total=len(missing), desc="Reading the source")
            self._sha256.update(zip(missing, bar, strict=True))


def _sha256_of_image(path: str) -> str:
    try:
        return hashlib.sha256(decoding.read(path)).hexdigest()
    except UnreadableImage:
        return ""
