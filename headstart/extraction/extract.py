"""Features of many images: looked up in the store, and computed only where they are missing."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.common.errors import InputError
from headstart.common.progress import progress
from headstart.extraction import engines
from headstart.extraction.bottleneck import Bottleneck
from headstart.extraction.compaction import compact_if_many
from headstart.extraction.forward_pass import BackbonePass, Computed, ImageTask
from headstart.extraction.requests import Request, digests_of, keys_of, views_of
from headstart.extraction.store import Collection, FeatureStore, unique_keys
from headstart.features.file import Columns, Header, create_feature_file
from headstart.features.text import Texts
from headstart.images.decoding import UnusableImage
from headstart.images.options import AugmentOptions

# How often a store may lose vectors between computing and reading them.
_ATTEMPTS = 3

Load = Callable[[Bottleneck, FeatureStore], engines.Engine]


@dataclass(frozen=True, slots=True)
class Counts:
    """What was done for a set of requests.

    Attributes:
        computed: Vectors that were computed.
        reused: Requests served without: from the store, or by another request for the same.
    """

    computed: int
    reused: int


class Extraction:
    """Feature vectors of requests, all of which are in the store.

    Attributes:
        counts: What `extract` did.
        engine: What it ran on; None where nothing had to be computed.
    """

    def __init__(
        self,
        bottleneck: Bottleneck,
        requests: Sequence[Request],
        recipe: AugmentOptions | None,
        store: FeatureStore,
        *,
        load: Load,
        previous: "Extraction | None",
        unreadable: dict[str, str] | None,
        quiet: bool,
        advance: Callable[[int], object],
    ) -> None:
        self._bottleneck = bottleneck
        self._requests = requests
        self._recipe = recipe
        self._store = store
        self._load = load
        self._unreadable = unreadable
        self._quiet = quiet
        self._advance = advance
        self._skipped = np.zeros(len(requests), dtype=bool)
        # Opening what no index names takes a second, loading an engine up to ten.
        self._collections: list[Collection]
        if previous is None:
            self._collections = [store.collection(tap) for tap in bottleneck.taps]
        else:
            self._collections = previous._collections
            # Other processes may have computed something since.
            for collection in self._collections:
                collection.reload()
        self._keys = keys_of(requests, recipe)
        self.engine: engines.Engine | None = previous.engine if previous else None
        computed = self._compute(np.arange(len(requests)))
        self.counts = Counts(computed, len(requests) - computed)

    def feature_shape(self, tap: int = 0) -> tuple[int, ...]:
        """Return the shape of one vector of a tap."""
        # Nothing is stored where nothing was requested or no image could be read.
        return self._collections[tap].feature_shape or self._loaded_engine().feature_shapes[tap]

    def release(self) -> None:
        """Let go of the requests, and so of images in memory; keep engine and index.

        What remains can only be the `previous` of another extraction.
        """
        self._requests = ()

    def read(self, tap: int = 0) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Read all vectors of a tap, in the store's order, a few megabytes at a time.

        Vectors that the store has lost in the meantime are computed again.

        Args:
            tap: Number of the tap in the bottleneck.

        Yields:
            Positions among the requests, (m,), and vectors, (m, *feature_shape).
        """
        pending = np.flatnonzero(~self._skipped)
        for _ in range(_ATTEMPTS):
            done = np.zeros(len(self._requests), dtype=bool)
            for positions, vectors in self._collections[tap].read(self._keys[pending]):
                done[pending[positions]] = True
                yield pending[positions], vectors
            pending = pending[~done[pending]]
            if len(pending):
                self._compute(pending)
                pending = pending[~self._skipped[pending]]
            if not len(pending):
                return
        raise InputError(
            f"{self._store.root}: the feature store lost the same features {_ATTEMPTS} times; "
            "check its disk, or name another folder with HEADSTART_CACHE"
        )

    def array(self, tap: int = 0) -> NDArray[np.float32]:
        """Return all vectors of a tap in memory, (n_readable, *feature_shape), in their order."""
        vectors = np.empty((len(self._requests), *self.feature_shape(tap)), np.float32)
        for positions, block in self.read(tap):
            vectors[positions] = block
        return vectors[~self._skipped] if self._skipped.any() else vectors

    def write(
        self,
        path: Path,
        class_names: Sequence[str],
        columns: Columns,
        tap: int = 0,
        texts: Texts = None,
    ) -> None:
        """Write all vectors of a tap to a feature file, in the order of the requests.

        Args:
            path: The file.
            class_names: What the labels stand for.
            columns: What stands beside each request.
            tap: Number of the tap in the bottleneck.
            texts: Text vectors of the classes.
        """
        has_views = any(views_of(self._requests))
        header = Header(
            class_names=tuple(class_names),
            identity=self._bottleneck.taps[tap],
            feature_shape=self.feature_shape(tap),
            preprocessing=self._bottleneck.spec.preprocessing.as_dict(),
            augment=self._recipe.model_dump() if self._recipe and has_views else None,
            versions=self._collections[tap].versions(self._keys),
        )
        with (
            create_feature_file(path, header, columns, texts) as writer,
            progress(total=len(self._requests), desc="Assembling") as bar,
        ):
            for rows, vectors in self.read(tap):
                writer.write(rows, vectors)
                bar.update(len(rows))

    def _compute(self, rows: NDArray[np.int64]) -> int:
        """Compute what is missing for these rows; return how many vectors that was."""
        missing = rows[~_stored(self._collections, self._keys[rows])]
        missing = missing[unique_keys(self._keys[missing])]
        if not len(missing):
            return 0
        engine = self._loaded_engine()
        libraries = ("numpy", "opencv-python-headless", "pillow")
        versions = engine.versions | {name: version(name) for name in libraries}
        with ExitStack() as stack:
            writers = [
                stack.enter_context(collection.writer(shape, versions))
                for collection, shape in zip(self._collections, engine.feature_shapes, strict=True)
            ]
            bar = stack.enter_context(
                progress(total=len(missing), desc="Extracting", quiet=self._quiet)
            )
            bar.set_postfix_str(f"{1 - len(missing) / len(rows):.0%} reused")

            def keep(computed: Computed) -> None:
                done, outputs = computed
                for writer, vectors in zip(writers, outputs, strict=True):
                    writer.add(self._keys[done], vectors)

            backbone_pass = BackbonePass(
                bottleneck=self._bottleneck,
                engine=engine,
                recipe=self._recipe,
                refuse=self._refuse,
                keep=keep,
            )
            # Closed before the writers are, whatever happens: no thread adds to a closed writer.
            with closing(backbone_pass.run(self._jobs(missing))) as counts:
                for count in counts:
                    bar.update(count)
                    self._advance(count)
        for collection in self._collections:
            collection.reload()
            compact_if_many(collection)
        self._skip_equal()
        return len(missing) - int(self._skipped[missing].sum())

    def _loaded_engine(self) -> engines.Engine:
        if self.engine is None:
            self.engine = self._load(self._bottleneck, self._store)
        return self.engine

    def _skip_equal(self) -> None:
        """Leave out copies of a file that could not be read, too."""
        reasons = {
            self._requests[row].sha256: (self._unreadable or {})[self._requests[row].path]
            for row in np.flatnonzero(self._skipped).tolist()
        }
        for row, sha256 in enumerate(digests_of(self._requests) if reasons else ()):
            if sha256 in reasons and self._unreadable is not None:
                self._skipped[row] = True
                self._unreadable[self._requests[row].path] = reasons[sha256]

    def _jobs(self, rows: NDArray[np.int64]) -> Iterator[ImageTask]:
        """Gather neighboring rows of one image, so that it is decoded once for all its views."""
        for sha256, group in itertools.groupby(
            rows.tolist(), key=lambda row: self._requests[row].sha256
        ):
            members = tuple(group)
            views = tuple(self._requests[row].view for row in members)
            first = self._requests[members[0]]
            yield ImageTask(first.path, sha256, views, members, first.pixels)

    def _refuse(self, job: ImageTask, unusable: UnusableImage) -> None:
        if self._unreadable is None:
            raise unusable
        self._unreadable[job.path] = unusable.reason
        self._skipped[list(job.rows)] = True


def extract(
    bottleneck: Bottleneck,
    requests: Sequence[Request],
    *,
    recipe: AugmentOptions | None = None,
    store: FeatureStore | None = None,
    load: Load = engines.load,
    previous: Extraction | None = None,
    unreadable: dict[str, str] | None = None,
    quiet: bool = False,
    advance: Callable[[int], object] = lambda count: None,
) -> Extraction:
    """Make sure that all requested features are in the store, computing those that are not.

    An image is read and decoded once for all its missing views, and exact duplicates are computed
    once. Whatever has been computed when a run ends early, for whatever reason, is kept but for
    the shard that was open.

    Args:
        bottleneck: What to compute; all its taps come from one pass.
        requests: In the order in which the features are wanted, the views of an image together.
        recipe: What makes the views; needed if there are any.
        store: Where features are kept; the user's by default.
        load: Makes the engine when something must be computed.
        previous: An extraction of the same bottleneck from the same store, whose engine and index
            are taken over.
        unreadable: Takes the reason, by path, of images that cannot be read; they have no vector.
            Without it they are an error.
        quiet: Draw no bar: the caller counts for itself.
        advance: Takes how many vectors more are computed, again and again.

    Returns:
        The features, readable.

    Raises:
        InputError: an image has changed or can no longer be read, the model cannot be built, its
            features are not finite, or the store cannot be written to.
    """
    return Extraction(
        bottleneck,
        requests,
        recipe,
        store or FeatureStore(),
        load=load,
        previous=previous,
        unreadable=unreadable,
        quiet=quiet,
        advance=advance,
    )


def lacking(
    bottleneck: Bottleneck,
    requests: Sequence[Request],
    recipe: AugmentOptions | None,
    store: FeatureStore,
) -> list[Request]:
    """Return the requests that `extract` would have to compute something for."""
    collections = [store.collection(tap) for tap in bottleneck.taps]
    stored = _stored(collections, keys_of(requests, recipe))
    return [requests[row] for row in np.flatnonzero(~stored).tolist()]


def _stored(collections: Sequence[Collection], keys: NDArray[np.uint8]) -> NDArray[np.bool_]:
    stored = np.ones(len(keys), dtype=bool)
    for collection in collections:
        stored &= collection.contains(keys)
    return stored
