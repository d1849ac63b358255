"""From photos and their copies to rows of the manifest, as the source labels them."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from headstart.common.vocabulary import SPLITS, Split
from headstart.dataset import duplicates
from headstart.dataset.duplicates import Pairs
from headstart.dataset.manifest import ManifestRow
from headstart.dataset.options import PrepareOptions
from headstart.dataset.photos import Photo
from headstart.dataset.splits import Sample, assign, draw


def rows_of(photos: Sequence[Photo], pairs: Pairs, options: PrepareOptions) -> list[ManifestRow]:
    """Name each photo's split and group.

    Images in no class folder change nothing for the others: they go where a copy of them is, and
    else into a split that is drawn for each of them.

    Args:
        photos: In the order that `pairs` counts.
        pairs: Those that show one picture.
        options: The shares, and whether near duplicates stay together.

    Returns:
        A row per photo, with the label that the source gives, empty for none.
    """
    apart = options.near_duplicates == "keep"
    linked = [(pair.first, pair.second) for pair in pairs if pair.kind == "exact" or not apart]
    first_of_group: dict[str, int] = {}
    for position, photo in enumerate(photos):
        if photo.file.group:
            linked.append((first_of_group.setdefault(photo.file.group, position), position))
    bundles = duplicates.components(len(photos), linked)
    splits = _splits(photos, linked, bundles, options)
    names = _group_names(photos, bundles)
    return [
        ManifestRow(
            photo.file.path,
            photo.sha256,
            photo.file.label,
            split,
            names[bundle],
            photo.found.width,
            photo.found.height,
            columns=photo.file.columns,
        )
        for photo, split, bundle in zip(photos, splits, bundles.tolist(), strict=True)
    ]


def _splits(
    photos: Sequence[Photo],
    linked: Iterable[tuple[int, int]],
    bundles: NDArray[np.int64],
    options: PrepareOptions,
) -> list[Split]:
    labelled = [position for position, photo in enumerate(photos) if photo.file.label]
    number = {position: index for index, position in enumerate(labelled)}
    # Without the others, which may hold together what the source leaves apart.
    own = duplicates.components(
        len(labelled),
        [(number[one], number[other]) for one, other in linked if {one, other} <= number.keys()],
    )
    samples = [
        Sample(photos[position].sha256, photos[position].file.label, int(bundle), given)
        for position, bundle in zip(labelled, own, strict=True)
        for given in (photos[position].file.split,)
    ]
    assigned = assign(samples, validation=options.validation, test=options.test, seed=options.seed)
    given = {sample.split for sample in samples}
    found: defaultdict[int, set[Split]] = defaultdict(set)
    for position, split in zip(labelled, assigned, strict=True):
        found[int(bundles[position])].add(split)
    first: dict[int, str] = {}
    for photo, bundle in zip(photos, bundles.tolist(), strict=True):
        first[bundle] = min(first.get(bundle, photo.sha256), photo.sha256)

    def of_loose(position: int) -> Split:
        bundle = int(bundles[position])
        return (
            photos[position].file.split
            or next((split for split in SPLITS if split in found[bundle]), None)
            or draw(
                first[bundle],
                validation=0 if "validation" in given else options.validation,
                test=0 if "test" in given else options.test,
                seed=options.seed,
            )
        )

    return [
        assigned[number[position]] if position in number else of_loose(position)
        for position in range(len(photos))
    ]


def _group_names(photos: Sequence[Photo], bundles: NDArray[np.int64]) -> dict[int, str]:
    """Name the sets that folds and resampling must not tear either; single images have none."""
    groups: defaultdict[int, list[Photo]] = defaultdict(list)
    for photo, bundle in zip(photos, bundles.tolist(), strict=True):
        groups[bundle].append(photo)
    names = {}
    for bundle, members in groups.items():
        given = min((photo.file.group for photo in members if photo.file.group), default="")
        same = f"same-{min(photo.sha256 for photo in members)[:16]}" if len(members) > 1 else ""
        names[bundle] = given or same
    return names
