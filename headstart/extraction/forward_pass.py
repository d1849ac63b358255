"""One pass of images through an engine: read, decode, resize, augment, infer, hand on.

All of it overlaps, and what waits between the steps is bounded, so that memory does not grow with
the number of images.
"""

import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
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
# Tasks that wait between two steps, per worker of the later one.
_WAITING = 3

_In = TypeVar("_In")
_Out = TypeVar("_Out")

Computed = tuple[list[int], list[NDArray[np.float32]]]
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


class _Pixels(NamedTuple):
    """One view, ready for the network, (height, width, 3) uint8."""

    row: int
    path: str
    pixels: NDArray[np.uint8]


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
        engine = self.engine
        # A task is as many calls of the engine as make up _TASK_SIZE images.
        size = engine.batch_size * -(-_TASK_SIZE // engine.batch_size)
        waiting = max(1, _WAITING * _TASK_SIZE // size)
        decoders = cpu_count()
        with (
            ThreadPoolExecutor(decoders) as rendering,
            ThreadPoolExecutor(engine.workers) as inferring,
            ThreadPoolExecutor(1) as writing,
        ):
            tasks = _batched(jobs, _TASK_SIZE)
            decoded = _mapped(rendering, self._render, tasks, decoders * (1 + _WAITING))
            batches = _batched(itertools.chain.from_iterable(decoded), size)
            computed = _mapped(inferring, self._infer, batches, engine.workers * (1 + waiting))
            yield from _mapped(writing, self._keep, computed, 1 + _WAITING)

    def _keep(self, computed: Computed) -> int:
        self.keep(computed)
        return len(computed[0])

    def _render(self, jobs: Sequence[ImageTask]) -> list[_Pixels]:
        rendered = []
        for job in jobs:
            try:
                views = self._views(job)
            except UnusableImage as unusable:
                self.refuse(job, unusable)
            else:
                rendered += [
                    _Pixels(row, job.path, pixels)
                    for row, pixels in zip(job.rows, views, strict=True)
                ]
        return rendered

    def _views(self, job: ImageTask) -> list[NDArray[np.uint8]]:
        sizing = self.bottleneck.sizing
        image = job.pixels
        if image is None:
            image = decoding.read_checked(Path(job.path), job.sha256)
        if self.recipe is None:
            return [resize(image, sizing)]
        return augmentation.views(image, job.sha256, job.views, self.recipe, sizing)

    def _infer(self, batch: Sequence[_Pixels]) -> Computed:
        engine = self.engine
        parts = []
        for items in _batched(batch, engine.batch_size):
            # The last batch is padded: a batch's shape may decide a feature's last bits.
            padding = [items[-1]] * (engine.batch_size - len(items))
            pixels = np.stack([item.pixels for item in [*items, *padding]])
            outputs = [output[: len(items)] for output in engine(pixels)]
            for output in outputs:
                self._check_finite(items, output)
            parts.append(outputs)
        rows = [item.row for item in batch]
        return rows, [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]

    def _check_finite(self, items: Sequence[_Pixels], output: NDArray[np.float32]) -> None:
        if np.isfinite(output).all():
            return
        finite = np.isfinite(output.reshape(len(items), -1)).all(axis=1)
        first = items[int(np.argmin(finite))]
        tap = self.bottleneck.taps[0]
        raise InputError(
            f"{first.path}: {tap.backbone} gives features that are not finite, computing in "
            f"{tap.precision}; use extract.precision: float32, or check its weights "
            f"({self.bottleneck.weights.description})"
        )


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
