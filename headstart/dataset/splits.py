"""Deciding which image is for training, validation or test, by its content alone.

Within a class images are ranked by a salted hash of their content; the first share of the ranking
is the test split, the next the validation split, the rest trains. So a name, a folder or the order
of files changes nothing, and an added image moves only the few at the borders of the shares.

Images that belong together (one group, one content, one picture) are ranked as one.
"""

import hashlib
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headstart.common.errors import InputError
from headstart.common.vocabulary import SPLITS, Split

_NONE = -1
_TRAIN, _VALIDATION, _TEST = map(SPLITS.index, ("train", "validation", "test"))
_SPLIT_CODES: dict[Split | None, int] = {None: _NONE, **{name: i for i, name in enumerate(SPLITS)}}


class Sample(NamedTuple):
    """What a split is decided by.

    Attributes:
        sha256: Digest of the image's content.
        label: Name of its class.
        bundle: Number of the set of images that must share a split.
        split: Given by the source, or None.
    """

    sha256: str
    label: str
    bundle: int
    split: Split | None = None


class _Columns(NamedTuple):
    """Samples by columns.

    Attributes:
        sha256: Digest of each image's content.
        names: Of the classes, sorted.
        label: Position in `names`, (n_samples,).
        bundle: Number of each one's set, from 0, (n_samples,).
        split: Position in `SPLITS`, or -1, (n_samples,).
    """

    sha256: tuple[str, ...]
    names: list[str]
    label: NDArray[np.int64]
    bundle: NDArray[np.int64]
    split: NDArray[np.int64]


class _Bundles(NamedTuple):
    """Sets of samples in order of their rank, which is that of the first member.

    Attributes:
        of_sample: Position among the bundles, (n_samples,).
        rank: Number of the rank, which equal contents share, (n_bundles,).
        size: Number of members, (n_bundles,).
    """

    of_sample: NDArray[np.int64]
    rank: NDArray[np.int64]
    size: NDArray[np.int64]


def assign(samples: Sequence[Sample], *, validation: float, test: float, seed: int) -> list[Split]:
    """Assign each sample to a split.

    A given split is kept, with one exception: when every sample has one but none is for
    validation (or test), that split is cut from those given for training. Where only some have
    one, the others are cut into the splits that are not given, and into training; in a bundle
    with a given split they follow it.

    A class with one bundle only trains; with two it trains and is tested; from three on it is in
    every split whose share is not 0, however small.

    Args:
        samples: In any order.
        validation: Share of each class's images, in [0, 1).
        test: Share of each class's images, in [0, 1).
        seed: Salt of the ranking.

    Returns:
        The split of each sample.

    Raises:
        InputError: the given splits leave a class without a training image.
    """
    columns = _by_columns(samples)
    given = set(np.unique(columns.split).tolist())
    recut = _NONE not in given
    if _VALIDATION in given:
        validation = 0.0
    if _TEST in given:
        test = 0.0
    fixed = columns.split
    if recut and validation + test > 0:
        fixed = np.where(fixed == _TRAIN, _NONE, fixed)
    bundles = _bundles(columns, seed)
    # In a bundle with given splits the others follow, of several the first. There are several only
    # where the source itself tears the bundle apart, which the audit lists.
    follow = np.full(len(bundles.size), len(SPLITS))
    held = np.flatnonzero(fixed != _NONE)
    np.minimum.at(follow, bundles.of_sample[held], fixed[held])
    free = follow == len(SPLITS)
    of_bundle = np.where(free, _TRAIN, follow)
    stratum = _classes_of(columns, bundles)
    by_class = np.flatnonzero(free)[np.argsort(stratum[free], kind="stable")]
    borders = np.flatnonzero(np.diff(stratum[by_class])) + 1
    for one in np.split(by_class, borders) if len(by_class) else ():
        of_bundle[one] = _cut(bundles.size[one], bundles.rank[one], validation, test)
    splits = of_bundle[bundles.of_sample]
    torn = ~free[bundles.of_sample]
    for said in (columns.split, fixed):
        splits = np.where(torn & (said != _NONE), said, splits)
    _train_every_class(columns, bundles, free, splits)
    return [SPLITS[code] for code in splits.tolist()]


def draw(sha256: str, *, validation: float, test: float, seed: int) -> Split:
    """Draw the split of an image from its content alone, so that no other image is moved."""
    digest = hashlib.sha256(_salt(seed) + sha256.encode()).digest()
    position = int.from_bytes(digest) / 256 ** len(digest)
    if position < test:
        return "test"
    return "validation" if position < test + validation else "train"


def choose_share(samples: Sequence[Sample], share: float) -> list[int]:
    """Choose part of the images, so that a smaller part lies within any larger one.

    Of each class in each split, the first by a salted hash of the content are taken, rounded up,
    and two at least, of two bundles where there are: below that nothing can be cross-validated.

    Args:
        samples: With their splits.
        share: In (0, 1].

    Returns:
        Positions in `samples`, rising.
    """
    columns = _by_columns(samples)
    stratum = columns.label * (len(SPLITS) + 1) + columns.split
    ranks = _ranks(columns.sha256, b"headstart share ")
    ranked = np.lexsort((ranks, stratum))
    chosen = []
    for one in np.split(ranked, np.flatnonzero(np.diff(stratum[ranked])) + 1):
        count = max(2, math.ceil(round(share * len(one), 9)))
        others = np.flatnonzero(columns.bundle[one] != columns.bundle[one[:1]])
        if len(others) and others[0] >= count:
            one[count - 1] = one[others[0]]
        chosen.append(one[:count])
    return sorted(np.concatenate(chosen).tolist())


def _by_columns(samples: Sequence[Sample]) -> _Columns:
    sha256, label, bundle, split = zip(*samples, strict=True) if samples else ((), (), (), ())
    names = sorted(set(label))
    code = {name: position for position, name in enumerate(names)}
    return _Columns(
        sha256,
        names,
        np.fromiter(map(code.__getitem__, label), np.int64, len(label)),
        np.unique(np.array(bundle, np.int64), return_inverse=True)[1],
        np.fromiter(map(_SPLIT_CODES.__getitem__, split), np.int64, len(split)),
    )


def _ranks(sha256: Sequence[str], salt: bytes) -> NDArray[np.int64]:
    """Number contents in the order of their salted hashes, (n_samples,); equal ones are equal."""
    digests = b"".join(hashlib.sha256(salt + one.encode()).digest() for one in sha256)
    words = np.frombuffer(digests, ">u8").reshape(-1, 4).astype(np.uint64)
    order = np.lexsort(words.T[::-1])
    differs = (np.diff(words[order], axis=0) != 0).any(axis=1)
    ranks = np.empty(len(words), np.int64)
    ranks[order] = np.concatenate([[0], np.cumsum(differs)])[: len(words)]
    return ranks


def _bundles(columns: _Columns, seed: int) -> _Bundles:
    ranks = _ranks(columns.sha256, _salt(seed))
    size = np.bincount(columns.bundle)
    rank, first = (np.full(len(size), len(ranks)) for _ in range(2))
    np.minimum.at(rank, columns.bundle, ranks)
    np.minimum.at(first, columns.bundle, np.arange(len(ranks)))
    order = np.lexsort((first, rank))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return _Bundles(place[columns.bundle], rank[order], size[order])


def _salt(seed: int) -> bytes:
    return f"headstart split {seed} ".encode()


def _classes_of(columns: _Columns, bundles: _Bundles) -> NDArray[np.int64]:
    """Return the class that most members of each bundle have; of several the first by name."""
    n_classes = len(columns.names)
    found, count = np.unique(bundles.of_sample * n_classes + columns.label, return_counts=True)
    bundle, label = np.divmod(found, n_classes)
    order = np.lexsort((label, -count, bundle))
    first = np.diff(bundle[order], prepend=-1) != 0
    classes: NDArray[np.int64] = label[order[first]]
    return classes


def _cut(
    size: NDArray[np.int64], rank: NDArray[np.int64], validation: float, test: float
) -> NDArray[np.int64]:
    """Cut one class's bundles, which come in order of rank."""
    # The largest trains: it would else fill a small split beyond its share, and something must
    # train. Among equals it is the last, where it stands anyway.
    large = np.flatnonzero(size == size.max())
    largest = large[np.searchsorted(rank[large], rank[large[-1]])]
    order = np.delete(np.arange(len(size)), largest)
    before = np.cumsum(size[order]) - size[order]
    middle = (before + size[order] / 2) / size.sum()
    n_test = int((middle <= test).sum())
    n_validation = int((middle <= test + validation).sum()) - n_test
    # Two bundles are tested rather than validated on: without validation images heads are chosen
    # by cross-validation, while a test cannot be replaced.
    if test > 0 and len(order):
        n_test = max(1, n_test)
    if validation > 0 and len(order) > (1 if test > 0 else 0):
        n_validation = max(1, n_validation)
        n_test = min(n_test, len(order) - n_validation)
    splits = np.full(len(size), _TRAIN)
    splits[order[:n_test]] = _TEST
    splits[order[n_test : n_test + n_validation]] = _VALIDATION
    return splits


def _train_every_class(
    columns: _Columns, bundles: _Bundles, free: NDArray[np.bool_], splits: NDArray[np.int64]
) -> None:
    """Give each class a training image, where bundles of several classes left one without."""
    trained = np.zeros(len(columns.names), bool)
    trained[columns.label[splits == _TRAIN]] = True
    for label in np.flatnonzero(~trained).tolist():
        members = np.flatnonzero(columns.label == label)
        movable = bundles.of_sample[members]
        movable = movable[free[movable]]
        if not len(movable):
            where = sorted({SPLITS[code] for code in splits[members].tolist()})
            raise InputError(
                f"class {columns.names[label]!r} has no training image: all of its images are "
                f"given for {' and '.join(where)}. Give some of them for training, or leave the "
                "class out."
            )
        splits[bundles.of_sample == movable.min()] = _TRAIN
