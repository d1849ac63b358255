"""One pass of images through an engine: read, decode, resize, augment, infer, hand on.

Each thread prepares images straight into a batch, and whichever fills the last place of it calls
the engine: pixels never wait for another thread to pick them up. What waits is bounded, so that
memory does not grow with the number of images.
"""

import itertools
import math
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np
from joblib import cpu_count
from numpy.typing import NDArray

from headstart.common.errors import InputError
from headstart.extraction.bottleneck import Bottleneck
from headstart.extraction.engines import Engine
from headstart.images import augmentation, decoding
from headstart.images.decoding import UnusableImage
from headstart.images.options import AugmentOptions
from headstart.images.resizing import resize

# Images per task: fewer, larger tasks cost less to hand over; a long task leaves cores idle at the
# end.
_TASK_SIZE = 4
# Tasks that wait, per thread.
_WAITING = 3

_In = TypeVar("_In")
_Out = TypeVar("_Out")

Computed = tuple[list[int], Sequence[NDArray[np.float32]]]
"""Rows, and per tap their features, (n_rows, *feature_shape)."""


class ImageTask(NamedTuple):
    """An image, the views of it that are wanted, and the row that each is for.

    Its pixels are those of the file, unless they are given.
    """

    path: str
    sha256: str
    views: tuple[int, ...]
    rows: tuple[int, ...]
    pixels: NDArray[np.uint8] | None = None


class _Batch:
    """What one call of the engine takes, filled by several threads.

    Attributes:
        views: Row and path of the image at each place; none where a place stays empty.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.views: dict[int, tuple[int, str]] = {}
        self._awaited = size
        self._pixels: NDArray[np.uint8] | None = None
        self._lock = threading.Lock()

    def pixels(self, memory: "_Memory") -> NDArray[np.uint8]:
        """Return (size, height, width, 3) uint8, which takes memory from the first image on."""
        with self._lock:
            if self._pixels is None:
                self._pixels = memory.take(self.size)
            return self._pixels

    def settle(self) -> bool:
        """Count one more place as filled, or as staying empty; return whether it was the last."""
        with self._lock:
            self._awaited -= 1
            return not self._awaited


class _Memory:
    """Pixels of batches that are done, for the next: a cache still holds those just used.

    The system would clear fresh memory each time.
    """

    def __init__(self, image_size: tuple[int, int]) -> None:
        self._shape = (*image_size, 3)
        self._idle: list[NDArray[np.uint8]] = []

    def take(self, size: int) -> NDArray[np.uint8]:
        try:
            return self._idle.pop()
        except IndexError:
            return np.empty((size, *self._shape), np.uint8)

    def give_back(self, pixels: NDArray[np.uint8]) -> None:
        self._idle.append(pixels)


class _Place(NamedTuple):
    batch: _Batch
    number: int


# Images, each with the places of its views; without an image, the places stay empty.
_Task = list[tuple[ImageTask | None, list[_Place]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class BackbonePass:
    """What happens to each image, and to what comes of it.

    Attributes:
        bottleneck: What the engine computes.
        engine: What computes it.
        recipe: What makes the views; None where there are none.
        refuse: Takes images that give no pixels, in any thread; raises to end the pass.
        keep: Takes features, in one thread.
    """

    bottleneck: Bottleneck
    engine: Engine
    recipe: AugmentOptions | None
    refuse: Callable[[ImageTask, UnusableImage], None]
    keep: Callable[[Computed], None]

    def run(self, jobs: Iterable[ImageTask]) -> Generator[int]:
        """Yield, after each part of the jobs is kept, how many views that was.

        Raises:
            InputError: features are not finite.
        """
        threads, ahead = _threads(self.engine), _tasks_ahead(self.engine)
        compute = partial(self._compute, _Memory(self.bottleneck.image_size))
        with (
            decoding.reading_ahead() as read_soon,
            ThreadPoolExecutor(threads) as computing,
            ThreadPoolExecutor(1) as writing,
        ):
            computed = _mapped(computing, compute, self._tasks(jobs, read_soon), ahead)
            yield from _mapped(writing, self._keep, filter(None, computed), 1 + _WAITING)

    def _tasks(
        self, jobs: Iterable[ImageTask], read_soon: Callable[[Iterable[str]], None]
    ) -> Iterator[_Task]:
        """Cut the jobs into tasks, and give each view its place in a batch, in order."""
        size = self.engine.batch_size

        def places() -> Iterator[_Place]:
            while True:
                batch = _Batch(size)
                yield from (_Place(batch, number) for number in range(size))

        free = places()
        last: list[_Place] = []
        for some in _batched(jobs, _TASK_SIZE):
            task: _Task = []
            for job in some:
                last = list(itertools.islice(free, len(job.rows)))
                task.append((job, last))
            read_soon(job.path for job in some if job.pixels is None)
            yield task
        if last:
            yield [(None, list(itertools.islice(free, size - 1 - last[-1].number)))]

    def _compute(self, memory: _Memory, task: _Task) -> list[Computed]:
        """Prepare the images of a task, and compute the batches that they were the last of."""
        computed = []
        # All images first: alternating with the network, each would find the other's data in cache.
        for job, places in task:
            if job is not None:
                self._fill(job, places, memory)
        for _, places in task:
            for batch, _ in places:
                # A batch has a fixed shape, whatever is in it: that may decide a feature's last
                # bits.
                if batch.settle() and batch.views:
                    computed.append(self._infer(batch, memory))
        return computed

    def _fill(self, job: ImageTask, places: Sequence[_Place], memory: _Memory) -> None:
        try:
            views = self._views(job)
        except UnusableImage as unusable:
            self.refuse(job, unusable)
            return
        for (batch, number), row, pixels in zip(places, job.rows, views, strict=True):
            batch.pixels(memory)[number] = pixels
            batch.views[number] = row, job.path

    def _views(self, job: ImageTask) -> list[NDArray[np.uint8]]:
        sizing = self.bottleneck.sizing
        image = job.pixels
        if image is None:
            image = decoding.read_checked(job.path, job.sha256)
        if self.recipe is None:
            return [resize(image, sizing)]
        return augmentation.views(image, job.sha256, job.views, self.recipe, sizing)

    def _infer(self, batch: _Batch, memory: _Memory) -> Computed:
        pixels = batch.pixels(memory)
        outputs: Sequence[NDArray[np.float32]] = self.engine(pixels)
        memory.give_back(pixels)
        places = sorted(batch.views)
        if len(places) < batch.size:
            outputs = [output[places] for output in outputs]
        rows, paths = zip(*(batch.views[place] for place in places), strict=True)
        for output in outputs:
            self._check_finite(paths, output)
        return list(rows), outputs

    def _keep(self, computed: Sequence[Computed]) -> int:
        for part in computed:
            self.keep(part)
        return sum(len(rows) for rows, _ in computed)

    def _check_finite(self, paths: Sequence[str], output: NDArray[np.float32]) -> None:
        if np.isfinite(output).all():
            return
        finite = np.isfinite(output.reshape(len(paths), -1)).all(axis=1)
        first = paths[int(np.argmin(finite))]
        tap = self.bottleneck.taps[0]
        raise InputError(
            f"{first}: {tap.backbone} gives features that are not finite, computing in "
            f"{tap.precision}; use extract.precision: float32, or check its weights "
            f"({self.bottleneck.weights.description})"
        )


def most_on_their_way(engine: Engine) -> int:
    """Return how many images at most may be computed and not kept yet."""
    return _TASK_SIZE * (_tasks_ahead(engine) + 1 + _WAITING)


def _threads(engine: Engine) -> int:
    # Some wait for the engine, the others keep the cores busy.
    return int(cpu_count()) + engine.workers


def _tasks_ahead(engine: Engine) -> int:
    # Enough that a batch is being filled while the engine has one for each of its workers.
    batches = engine.workers * math.ceil(engine.batch_size / _TASK_SIZE)
    return _threads(engine) * (1 + _WAITING) + batches


def _batched(items: Iterable[_In], size: int) -> Iterator[list[_In]]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def _mapped(
    pool: ThreadPoolExecutor,
    function: Callable[[_In], _Out],
    items: Iterable[_In],
    at_most: int,
) -> Iterator[_Out]:
    """Map in a pool's threads, in order, with a bounded number of items under way."""
    futures: deque[Future[_Out]] = deque()
    try:
        for item in items:
            futures.append(pool.submit(function, item))
            if len(futures) == at_most:
                yield futures.popleft().result()
        while futures:
            yield futures.popleft().result()
    finally:
        for future in futures:
            future.cancel()
