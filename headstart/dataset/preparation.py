"""From the files of a source to the table of usable images, each with its split."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.common.files import write_json, write_table
from headstart.common.vocabulary import DROPPED, SPLITS
from headstart.dataset import duplicates
from headstart.dataset.complaints import (
    check_classes,
    check_readable,
    tell_conflicts,
    tell_empty,
    tell_leaks,
    tell_remarks,
    tell_unused,
)
from headstart.dataset.corrections import (
    Correction,
    check_trained,
    corrected,
    why_dropped,
    write_corrections,
)
from headstart.dataset.coverage import check_coverage, units_per_class
from headstart.dataset.duplicates import Pairs
from headstart.dataset.layout import DESCRIPTION_LENGTH
from headstart.dataset.leak_table import Leak, write_leaks
from headstart.dataset.listing import Listing
from headstart.dataset.manifest import Manifest, ManifestRow, write_manifest
from headstart.dataset.options import PrepareOptions
from headstart.dataset.photos import Photo, Reject, read_photos
from headstart.dataset.rows import rows_of

_TAKEN = np.empty(0, np.float16)


class _Pictures:
    """Descriptions of photos in one array: an array for each would take more than it holds.

    Args:
        most: How many there are at most.
    """

    def __init__(self, most: int) -> None:
        self._descriptions = np.empty((most, DESCRIPTION_LENGTH), np.float16)
        self._count = 0

    def take(self, photo: Photo) -> Photo:
        """Take the next photo's description away from it."""
        self._descriptions[self._count] = photo.found.description
        self._count += 1
        return photo._replace(found=photo.found._replace(description=_TAKEN))

    def of(self, chosen: Sequence[bool]) -> NDArray[np.float16]:
        """Return those of some of the photos, (n_chosen, 257), in their order."""
        taken = self._descriptions[: self._count]
        return taken if all(chosen) else taken[np.array(chosen, bool)]


def check_and_split(
    listing: Listing,
    options: PrepareOptions,
    decisions: Sequence[Correction],
    *,
    manifest: Path,
    quarantine: Path,
    leaks: Path,
    corrections: Path,
    metrics: Path,
) -> bool:
    """Check, compare, split and correct the images of a source.

    Args:
        listing: The files of the source.
        options: The shares and what to do with duplicates.
        decisions: The corrections of `options.corrections`.
        manifest: Table of the images to write.
        quarantine: Table of the files left out, with the reason.
        leaks: Table of the pictures that lie in two splits.
        corrections: Table of the corrections to write.
        metrics: Counts to write.

    Returns:
        Whether the same files would give the same again: no file failed for a reason that may
        pass, such as a disk's error.

    Raises:
        InputError: the source or the corrections cannot be used, too many of its images cannot be
            read, or a class cannot be trained.
    """
    by_content = {one.sha256: one for one in decisions}
    relabelled = {one.sha256 for one in decisions if one.action == "relabel"}
    pictures = _Pictures(len(listing.files))
    found, rejects = read_photos(listing.files, loose=bool(relabelled), keep=pictures.take)
    usable = [bool(photo.file.label) or photo.sha256 in relabelled for photo in found]
    photos = [photo for photo, used in zip(found, usable, strict=True) if used]
    rejects += [
        Reject.loose(photo.file.path) for photo, used in zip(found, usable, strict=True) if not used
    ]
    # Before anything may stop the run: it is the list of what to mend.
    _write_quarantine(quarantine, rejects)
    unreadable = [reject for reject in rejects if reject.image_like]
    check_readable(unreadable, len(photos), options, quarantine)

    descriptions = pictures.of(usable)
    all_pairs = duplicates.find([photo.sha256 for photo in photos], descriptions)
    counts = {
        "listed": len(listing.files),
        "unreadable": len(unreadable),
        "other_files": len(rejects) - len(unreadable),
        "empty_classes": len(listing.empty_classes),
        **_count_duplicates(len(photos), all_pairs),
    }
    labels = [photo.file.label for photo in photos]
    equal: dict[int, Reject] = {}
    kept, pairs = photos, all_pairs
    if options.near_duplicates == "drop":
        equal = _to_drop(photos, labels, pairs)
        kept = [photo for position, photo in enumerate(photos) if position not in equal]
        stays = [position not in equal for position in range(len(photos))]
        pairs = duplicates.find([photo.sha256 for photo in kept], descriptions[stays])
    del pictures, descriptions
    given = rows_of(kept, pairs, options)
    decided = set(by_content)
    if options.correct == "test":
        decided &= {row.sha256 for row in given if row.split == "test"}
    rows, out = _correct(given, by_content, options)
    n_dropped = sum(row.split == DROPPED and bool(row.label) for row in rows)
    counts["conflicting_labels"] = tell_conflicts(photos, all_pairs, decided)
    counts["dropped"] = len(equal)
    if options.near_duplicates == "drop" and any(row.correction == "relabel" for row in rows):
        # Those that the source gave another label are no longer of two opinions.
        now_equal = _to_drop(
            kept, ["" if row.split == DROPPED else row.label for row in rows], pairs
        )
        counts["dropped"] += len(now_equal)
        out |= now_equal
        rows = [
            row._replace(split=DROPPED) if position in now_equal else row
            for position, row in enumerate(rows)
        ]
    _write_quarantine(quarantine, [*rejects, *equal.values(), *out.values()])
    in_use = [row for row in rows if row.split != DROPPED]
    check_classes(in_use, options)
    tell_remarks(kept)
    tell_empty(listing.empty_classes)
    check_trained(in_use)
    check_coverage(in_use, options)
    leaking = duplicates.leaks(rows, pairs)
    listed = [row for position, row in enumerate(rows) if position not in out]
    write_manifest(manifest, Manifest(listed, listing.column_names))
    write_leaks(leaks, leaking)
    tell_leaks(leaking, leaks)
    write_corrections(corrections, decisions)
    applied = {
        "kept": sum(row.correction == "keep" for row in in_use),
        "relabelled": sum(row.correction == "relabel" for row in in_use),
        "dropped": n_dropped,
        "unused": tell_unused(decisions, found, options),
    }
    write_json(metrics, _summary(in_use, counts, leaking, applied))
    return all(reject.lasting for reject in rejects)


def _write_quarantine(path: Path, rejects: Iterable[Reject]) -> None:
    lines = (reject[:2] for reject in sorted(rejects))
    write_table(path, ("path", "reason"), lines)


def _count_duplicates(n_photos: int, pairs: Pairs) -> dict[str, int]:
    """Count the images beyond the first of each content, and of each picture."""
    exact = int(pairs.exact.sum())
    pictures = duplicates.components(n_photos, pairs.links)
    return {
        "exact_duplicates": exact,
        "near_duplicates": n_photos - exact - len(np.unique(pictures)),
    }


def _to_drop(photos: Sequence[Photo], labels: Sequence[str], pairs: Pairs) -> dict[int, Reject]:
    """Pick all but the first of those that show one picture, within one label.

    Of two labels for one picture neither is known to be right, so neither is thrown away; where
    the label is empty, the image is left alone. What lies in no class folder comes last.
    """
    kept: dict[tuple[int, str], Photo] = {}
    dropped = {}
    numbers = duplicates.components(len(photos), pairs.links)
    for position in sorted(range(len(photos)), key=lambda one: not photos[one].file.label):
        photo, label = photos[position], labels[position]
        first = kept.setdefault((int(numbers[position]), label), photo) if label else photo
        if first is not photo:
            kind = "duplicate" if first.sha256 == photo.sha256 else "near duplicate"
            dropped[position] = Reject(photo.file.path, f"{kind} of {first.file.path}", False)
    return dropped


def _correct(
    given: Sequence[ManifestRow], by_content: Mapping[str, Correction], options: PrepareOptions
) -> tuple[list[ManifestRow], dict[int, Reject]]:
    """Apply the corrections.

    Returns:
        The images, of which those left out of all splits are `DROPPED`; and, by position, those
        that the manifest lacks altogether: of the images that corrections drop only those for
        testing stay, as long as their label is a class.
    """
    rows, out = [], {}
    for position, row in enumerate(given):
        in_use = options.correct == "all" or row.split == "test"
        decision = by_content.get(row.sha256) if in_use else None
        now = corrected(row, decision)
        if not now.label:
            now = now._replace(split=DROPPED)
            out[position] = Reject.loose(row.path)
        rows.append(now)
    classes = {row.label for row in rows if row.split != DROPPED}
    for position, (before, now) in enumerate(zip(given, rows, strict=True)):
        stays = before.split == "test" and now.label in classes
        if now.split == DROPPED and not stays and position not in out:
            reason = why_dropped(str(options.corrections), by_content[now.sha256])
            out[position] = Reject(now.path, reason, False)
    return rows, out


def _summary(
    rows: Sequence[ManifestRow],
    counts: dict[str, int],
    found: Sequence[Leak],
    corrections: dict[str, int],
) -> dict[str, Any]:
    """Count what a reader of the scores should know of the data."""
    per_class = Counter((row.label, row.split) for row in rows)
    units = units_per_class(rows)
    per_split = Counter(row.split for row in rows)
    kinds = Counter(leak.kind for leak in found)
    leaking = {(leak.path, leak.split) for leak in found}
    leaking |= {(leak.other_path, leak.other_split) for leak in found}
    held_out = Counter(split for _, split in leaking)
    return {
        "images": len(rows),
        **counts,
        "corrections": corrections,
        "split": {split: per_split[split] for split in SPLITS},
        "leaks": {
            **{kind: kinds[kind] for kind in ("exact", "near", "mirrored")},
            "validation_images": held_out["validation"],
            "test_images": held_out["test"],
        },
        "class": {
            label: {split: per_class[label, split] for split in SPLITS} | {"units": units[label]}
            for label in sorted({row.label for row in rows})
        },
    }
