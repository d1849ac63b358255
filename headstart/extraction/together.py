"""Features of the same images from several networks, each image read and decoded once."""

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from joblib import cpu_count
from numpy.typing import NDArray

from headstart.common.errors import InputError
from headstart.extraction import engines
from headstart.extraction.bottleneck import Bottleneck
from headstart.extraction.extract import Extraction, Load, extract, lacking
from headstart.extraction.requests import Request
from headstart.extraction.store import FeatureStore
from headstart.images.decoding import UnusableImage, read_checked, reading_ahead
from headstart.images.options import AugmentOptions

CHUNK_BYTES = 256 * 2**20
"""Pixels that are in memory at a time; an image that has more is alone."""


class Pass(NamedTuple):
    """What one network is to compute; see `headstart.extraction.extract.extract`."""

    bottleneck: Bottleneck
    requests: Sequence[Request]
    recipe: AugmentOptions | None


@dataclass(slots=True)
class Cost:
    """What a pass took.

    Attributes:
        computed: Vectors that were computed.
        seconds: Without loading the network and reading the images.
    """

    computed: int = 0
    seconds: float = 0.0


def extract_together(
    passes: Sequence[Pass],
    sizes: Mapping[str, tuple[int, int]],
    *,
    store: FeatureStore,
    load: Load = engines.load,
) -> list[Cost]:
    """Make sure that all features are in the store that can be computed.

    Where that fails, whether for an image or for a network, nothing is said: `extract` will, when
    the features are asked for.

    Args:
        passes: The networks, which are all in memory at once.
        sizes: (height, width) in pixels of each image, by its sha256.
        store: Where features are kept.
        load: Makes an engine when something must be computed.

    Returns:
        What each pass took.
    """
    costs = [Cost() for _ in passes]
    wanted = [_by_image(one, store) for one in passes]
    previous: list[Extraction | None] = [None] * len(passes)
    at_work = [number for number, images in enumerate(wanted) if images]
    paths = {sha256: requests[0].path for images in wanted for sha256, requests in images.items()}
    # One alone reads while it computes.
    chunks = _chunks(list(paths), sizes) if len(at_work) > 1 else [list(paths)]
    for chunk in chunks:
        pixels = _read({sha256: paths[sha256] for sha256 in chunk}) if len(at_work) > 1 else {}
        for number in list(at_work):
            requests = [
                request._replace(pixels=pixels.get(sha256))
                for sha256 in chunk
                for request in wanted[number].get(sha256, ())
            ]
            if not requests:
                continue
            try:
                done = _extract(
                    passes[number], requests, store, load, previous[number], costs[number]
                )
            except InputError:
                at_work.remove(number)
            else:
                done.release()
                previous[number] = done
    return costs


def _by_image(one: Pass, store: FeatureStore) -> dict[str, list[Request]]:
    """Return what has to be computed, by the sha256 of the image."""
    found: dict[str, list[Request]] = {}
    for request in lacking(one.bottleneck, one.requests, one.recipe, store):
        found.setdefault(request.sha256, []).append(request)
    return found


def _chunks(images: Sequence[str], sizes: Mapping[str, tuple[int, int]]) -> Iterator[list[str]]:
    chunk: list[str] = []
    held = 0
    for sha256 in images:
        height, width = sizes[sha256]
        if chunk and held + 3 * height * width > CHUNK_BYTES:
            yield chunk
            chunk, held = [], 0
        chunk.append(sha256)
        held += 3 * height * width
    if chunk:
        yield chunk


def _read(paths: Mapping[str, str]) -> dict[str, NDArray[np.uint8]]:
    """Return pixels by sha256; who asks for one that cannot be read tries for itself."""

    def read(sha256: str) -> NDArray[np.uint8] | None:
        with suppress(UnusableImage):
            return read_checked(paths[sha256], sha256)
        return None

    with reading_ahead() as read_soon, ThreadPoolExecutor(cpu_count()) as pool:
        read_soon(paths.values())
        decoded = zip(paths, pool.map(read, paths), strict=True)
        return {sha256: pixels for sha256, pixels in decoded if pixels is not None}


def _extract(
    one: Pass,
    requests: Sequence[Request],
    store: FeatureStore,
    load: Load,
    previous: Extraction | None,
    cost: Cost,
) -> Extraction:
    loading = 0.0

    def timed_load(bottleneck: Bottleneck, store: FeatureStore) -> engines.Engine:
        nonlocal loading
        started = time.perf_counter()
        engine = load(bottleneck, store)
        loading += time.perf_counter() - started
        return engine

    started = time.perf_counter()
    done = extract(
        one.bottleneck,
        requests,
        recipe=one.recipe,
        store=store,
        load=timed_load,
        previous=previous,
        unreadable={},
    )
    cost.computed += done.counts.computed
    cost.seconds += time.perf_counter() - started - loading
    return done
