"""Which images the page shows, when it cannot show all."""

from collections.abc import Iterable, Sequence
from itertools import zip_longest

import numpy as np
import numpy.typing as npt

from headstart.common.vocabulary import SPLITS
from headstart.dataset.manifest import Manifest
from headstart.report.results import called
from headstart.scoring.predictions import Predictions

MOST_SAMPLES = 8
"""Sample images per class: what fits side by side on a wide screen."""

_UNSURE_HITS = 12
_SHARE_OF_SUSPECTS = 0.4
_SHARE_OF_EVIDENCE = 0.7
# Of what is left then:
_SHARE_OF_MISTAKES = 0.4
_SHARE_OF_SAMPLES = 0.3


class Album:
    """The images of the page, numbered in the order in which they came.

    Args:
        limit: How many it takes.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._number: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._number)

    def __contains__(self, image: int) -> bool:
        return image in self._number

    @property
    def images(self) -> list[int]:
        """Rows of the manifest, in order."""
        return list(self._number)

    def add(self, images: Iterable[int], share: float = 1.0) -> None:
        """Take images that are not in it yet, up to `share` of the limit in all."""
        for image in images:
            if len(self._number) >= share * self._limit:
                return
            self._number.setdefault(int(image), len(self._number))

    def number(self, image: int) -> int | None:
        """Return an image's number, None when it is not in the album."""
        return self._number.get(int(image))

    def numbers(self, images: Iterable[int]) -> tuple[int, ...]:
        """Return the numbers of those images that are in the album."""
        return tuple(self._number[int(image)] for image in images if int(image) in self._number)


def surest_mistakes(predictions: Predictions, labels: npt.NDArray[np.int64]) -> list[int]:
    """Return the images called wrong, most confident first."""
    order = _by_confidence(predictions)
    wrong = called(predictions) != labels[predictions.image]
    return [int(image) for image in predictions.image[order][wrong[order]]]


def unsure_hits(predictions: Predictions, labels: npt.NDArray[np.int64]) -> list[int]:
    """Return the images called right, least confident first."""
    order = _by_confidence(predictions)[::-1]
    right = called(predictions) == labels[predictions.image]
    return [int(image) for image in predictions.image[order][right[order]]]


def _by_confidence(predictions: Predictions) -> npt.NDArray[np.int64]:
    return np.argsort(-predictions.probabilities.max(axis=1), kind="stable")


def drawn_evenly(manifest: Manifest, images: Iterable[int]) -> list[int]:
    """Order images so that any beginning of the list holds all classes and splits alike.

    Within a class and split the digest of the content decides, which is as good as chance and the
    same each time.
    """
    strata: dict[tuple[str, int], list[int]] = {}
    digests, (names, codes) = manifest.columns.sha256, manifest.columns.label
    splits = manifest.split
    for image in sorted(images, key=lambda image: (digests[image].tobytes(), image)):
        stratum = names[codes[image]], SPLITS.index(splits[image])
        strata.setdefault(stratum, []).append(image)
    turns = [
        (turn, key, image) for key, members in strata.items() for turn, image in enumerate(members)
    ]
    return [image for _, _, image in sorted(turns)]


def samples(manifest: Manifest, limit: int) -> list[list[int]]:
    """Return sample images of each class, the training split first."""
    count = max(1, min(MOST_SAMPLES, int(_SHARE_OF_SAMPLES * limit) // len(manifest.class_names)))
    found: list[list[int]] = [[] for _ in manifest.class_names]
    for image in drawn_evenly(manifest, manifest.in_use):
        found[manifest.labels[image]].append(image)
    return [members[:count] for members in found]


def pick(
    manifest: Manifest,
    limit: int,
    predictions: Sequence[Predictions],
    leaks: Iterable[int],
    clusters: Iterable[Sequence[int]] = (),
    suspects: Iterable[int] = (),
    evidence: Iterable[int] = (),
) -> Album:
    """Choose the images that the page shows before any neighbors are known.

    Args:
        manifest: All images.
        limit: How many the page holds.
        predictions: Of the test images by each head, the selected head's first.
        leaks: Images of the leaks that are listed.
        clusters: Images of each cluster that is shown.
        suspects: Images to look at, the most urgent first.
        evidence: Images to look at beside them.

    Returns:
        Suspects first, then mistakes, images of leaks and clusters, samples and uncertain hits;
        room is left where the data set is larger than the page.
    """
    album = Album(limit)
    album.add(suspects, _SHARE_OF_SUSPECTS)
    album.add(evidence, _SHARE_OF_EVIDENCE)
    taken = len(album) / max(limit, 1)

    def share(of_the_rest: float) -> float:
        return taken + (1 - taken) * of_the_rest

    for one in predictions:
        album.add(surest_mistakes(one, manifest.labels), share(_SHARE_OF_MISTAKES))
    album.add(leaks, share(_SHARE_OF_MISTAKES + 0.1))
    # The middle of each cluster before a second image of any.
    turns = (image for turn in zip_longest(*clusters) for image in turn if image is not None)
    album.add(turns, share(_SHARE_OF_MISTAKES + 0.2))
    of_class = samples(manifest, limit)
    # One of each class before a second of any.
    for turn in range(MOST_SAMPLES):
        album.add(members[turn] for members in of_class if turn < len(members))
    for one in predictions[:1]:
        album.add(unsure_hits(one, manifest.labels)[:_UNSURE_HITS])
    return album
