"""Deciding which image is for training, validation or test, by its content alone.

Within a class images are ranked by a salted hash of their content; the first share of the ranking
is the test split, the next the validation split, the rest trains. So a name, a folder or the order
of files changes nothing, and an added image moves only the few at the borders of the shares.

Images that belong together (one group, one content, one picture) are ranked as one.
"""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from headstart.common.errors import InputError
from headstart.common.vocabulary import Split


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


class _Bundle(NamedTuple):
    rank: bytes
    members: tuple[int, ...]


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
    given = {sample.split for sample in samples}
    recut = None not in given
    if given & {"validation"}:
        validation = 0.0
    if given & {"test"}:
        test = 0.0
    fixed = [
        None if recut and sample.split == "train" and validation + test > 0 else sample.split
        for sample in samples
    ]
    splits: list[Split] = [split or "train" for split in fixed]
    strata: defaultdict[str, list[_Bundle]] = defaultdict(list)
    for bundle in _bundles(samples, seed):
        given_here = {fixed[member] for member in bundle.members} - {None}
        if given_here:
            # Several only where the source itself tears the bundle apart, which the audit lists.
            follow = next(split for split in ("train", "validation", "test") if split in given_here)
            for member in bundle.members:
                splits[member] = fixed[member] or samples[member].split or follow
        else:
            strata[_class_of(bundle, samples)].append(bundle)
    for bundles in strata.values():
        for bundle, split in zip(bundles, _cut(bundles, validation, test), strict=True):
            for member in bundle.members:
                splits[member] = split
    _train_every_class(samples, fixed, splits, strata)
    return splits


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
    strata: defaultdict[tuple[str, Split | None], list[int]] = defaultdict(list)
    for position, sample in enumerate(samples):
        strata[sample.label, sample.split].append(position)
    chosen: list[int] = []
    for positions in strata.values():
        ranked = sorted(
            positions,
            key=lambda position: (
                hashlib.sha256(b"headstart share " + samples[position].sha256.encode()).digest(),
                position,
            ),
        )
        first = samples[ranked[0]].bundle
        other = next((i for i in ranked if samples[i].bundle != first), None)
        if other is not None:
            ranked.remove(other)
            ranked.insert(1, other)
        chosen += ranked[: max(2, math.ceil(round(share * len(ranked), 9)))]
    return sorted(chosen)


def _bundles(samples: Sequence[Sample], seed: int) -> list[_Bundle]:
    """Collect the bundles, in order of their rank; the rank is that of the first member."""
    salt = _salt(seed)
    members: defaultdict[int, list[int]] = defaultdict(list)
    for position, sample in enumerate(samples):
        members[sample.bundle].append(position)
    return sorted(
        _Bundle(
            min(hashlib.sha256(salt + samples[i].sha256.encode()).digest() for i in positions),
            tuple(positions),
        )
        for positions in members.values()
    )


def _salt(seed: int) -> bytes:
    return f"headstart split {seed} ".encode()


def _class_of(bundle: _Bundle, samples: Sequence[Sample]) -> str:
    """Return the class that most members have; of several the first by name."""
    labels = Counter(sorted(samples[member].label for member in bundle.members))
    return labels.most_common(1)[0][0]


def _cut(bundles: list[_Bundle], validation: float, test: float) -> list[Split]:
    """Cut one class's bundles, which come in order of rank."""
    # The largest trains: it would else fill a small split beyond its share, and something must
    # train. Among equals it is the last, where it stands anyway.
    largest = max(range(len(bundles)), key=lambda i: (len(bundles[i].members), bundles[i].rank))
    order = [i for i in range(len(bundles)) if i != largest]
    total = sum(len(bundle.members) for bundle in bundles)
    held_out: dict[Split, int] = {"test": 0, "validation": 0}
    before = 0
    for i in order:
        size = len(bundles[i].members)
        middle = (before + size / 2) / total
        before += size
        if middle <= test:
            held_out["test"] += 1
        elif middle <= test + validation:
            held_out["validation"] += 1
    # Two bundles are tested rather than validated on: without validation images heads are chosen
    # by cross-validation, while a test cannot be replaced.
    if test > 0 and order:
        held_out["test"] = max(1, held_out["test"])
    if validation > 0 and len(order) > (1 if test > 0 else 0):
        held_out["validation"] = max(1, held_out["validation"])
        held_out["test"] = min(held_out["test"], len(order) - held_out["validation"])
    splits: list[Split] = ["train"] * len(bundles)
    first_validation = held_out["test"]
    for i in order[:first_validation]:
        splits[i] = "test"
    for i in order[first_validation : first_validation + held_out["validation"]]:
        splits[i] = "validation"
    return splits


def _train_every_class(
    samples: Sequence[Sample],
    fixed: Sequence[Split | None],
    splits: list[Split],
    strata: dict[str, list[_Bundle]],
) -> None:
    """Give each class a training image, where bundles of several classes left one without."""
    trained = {
        sample.label for sample, split in zip(samples, splits, strict=True) if split == "train"
    }
    free = sorted(bundle for bundles in strata.values() for bundle in bundles)
    for label in sorted({sample.label for sample in samples} - trained):
        for bundle in free:
            if any(samples[member].label == label for member in bundle.members):
                for member in bundle.members:
                    splits[member] = "train"
                break
        else:
            where = sorted(
                {
                    split
                    for sample, split in zip(samples, splits, strict=True)
                    if sample.label == label
                }
            )
            raise InputError(
                f"class {label!r} has no training image: all of its images are given for "
                f"{' and '.join(where)}. Give some of them for training, or leave the class out."
            )
