"""The photos that may be suggested: read, described, with features, one of each picture."""

import itertools
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from headstart.common.urls import absolute
from headstart.dataset import duplicates
from headstart.dataset.descriptions import read_descriptions
from headstart.dataset.manifest import ManifestRow
from headstart.extraction.bottleneck import Bottleneck
from headstart.extraction.extract import Counts, extract
from headstart.extraction.requests import Request, request_for
from headstart.extraction.store import FeatureStore
from headstart.features.matrix import pooled
from headstart.images.decoding import UnreadableImage
from headstart.inference.inputs import NothingFound


@dataclass(frozen=True, slots=True)
class Photos:
    """Photos with their features.

    Attributes:
        requests: One per photo.
        vectors: (n_photos, n_columns) float32 raw features, maps averaged.
        counts: What was computed for them.
        failures: What is no image, by path, with the reason.
    """

    requests: list[Request]
    vectors: npt.NDArray[np.float32]
    counts: Counts
    failures: dict[str, str]


def find_photos(found: Iterable[Path | NothingFound]) -> tuple[list[Request], dict[str, str]]:
    """Identify files by their content.

    Args:
        found: Files, and names that stand for none.

    Returns:
        One request per file; and by name why there is none for something.
    """
    failures: dict[str, str] = {}
    requests = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for one in pool.map(_request, found):
            if isinstance(one, Request):
                requests.append(one)
            else:
                failures[one.name] = one.reason
    # The same file named twice, such as by itself and by its folder, is one photo.
    return list({absolute(one.path): one for one in requests}.values()), failures


def read_photos(requests: list[Request], bottleneck: Bottleneck, store: FeatureStore) -> Photos:
    """Read the features of photos; those that are no images are left out and named.

    Args:
        requests: One per photo.
        bottleneck: What the features are of.
        store: Where they are kept.
    """
    if not requests:
        return Photos([], np.empty((0, 0), np.float32), Counts(0, 0), {})
    unreadable: dict[str, str] = {}
    extraction = extract(bottleneck, requests, store=store, unreadable=unreadable)
    vectors = np.empty((len(requests), extraction.feature_shape()[-1]), np.float32)
    for rows, block in extraction.read():
        vectors[rows] = pooled(block)
    if unreadable:
        kept = np.array([request.path not in unreadable for request in requests])
        requests, vectors = list(itertools.compress(requests, kept)), vectors[kept]
    return Photos(requests, vectors, extraction.counts, unreadable)


def _request(item: Path | NothingFound) -> Request | NothingFound:
    if isinstance(item, NothingFound):
        return item
    try:
        return request_for(item)
    except UnreadableImage as error:
        return NothingFound(str(item), error.reason)


@dataclass(frozen=True, slots=True)
class Distinct:
    """Photos that show what no other shows.

    Attributes:
        rows: (n,) of those to choose from.
        labelled: How many photos were left out since they are labelled, or look like one that is.
        copies: How many others were left out since they look like one that is not.
    """

    rows: npt.NDArray[np.int64]
    labelled: int
    copies: int


def distinct(
    requests: Sequence[Request], labelled: Sequence[ManifestRow], cache: Path | None = None
) -> Distinct:
    """Leave out what is labelled, and of photos that look alike all but the first.

    Args:
        requests: The photos.
        labelled: Images that need no label; those that have gone are known by their content alone.
        cache: The cache folder, unless it is the user's own.
    """
    # Descriptions are found by path and content; a photo without a label has no more.
    photos = [ManifestRow(one.path, one.sha256, "", "train", "", 1, 1) for one in requests]
    rows = [*labelled, *photos]
    sha256 = np.array([row.sha256 for row in rows])
    descriptions = read_descriptions(rows, cache).descriptions
    alive, counts = np.arange(len(rows)), [0, 0]
    while True:
        # Of a picture with many copies only the nearest are listed: ask until none is left.
        pairs = duplicates.find(sha256[alive].tolist(), descriptions[alive])
        dropped = _dropped(pairs, len(labelled))
        if not dropped:
            break
        for known in dropped.values():
            counts[0 if known else 1] += 1
        alive = np.delete(alive, sorted(dropped))
    return Distinct(alive[len(labelled) :] - len(labelled), *counts)


def _dropped(pairs: Iterable[duplicates.Pair], n_labelled: int) -> dict[int, bool]:
    """Return the positions to leave out, each with whether it looks like a labelled image.

    Args:
        pairs: Positions of images that show one picture, the labelled ones first.
        n_labelled: How many these are.
    """
    partners: dict[int, list[int]] = {}
    for pair in pairs:
        if pair.second >= n_labelled:
            partners.setdefault(pair.second, []).append(pair.first)
    dropped: dict[int, bool] = {}
    for position in sorted(partners):
        kept = [one for one in partners[position] if one not in dropped]
        if kept:
            dropped[position] = min(kept) < n_labelled
    return dropped
