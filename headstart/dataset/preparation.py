"""From the files of a source to the table of usable images, each with its split."""

import os
import re
import unicodedata
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headstart.common.errors import InputError
from headstart.common.files import write_json, write_table
from headstart.common.progress import notify, progress
from headstart.common.text import printable
from headstart.common.vocabulary import SPLITS
from headstart.dataset import duplicates
from headstart.dataset.coverage import check_coverage, units_per_class
from headstart.dataset.descriptions import settled
from headstart.dataset.duplicates import Pair
from headstart.dataset.file_states import FileState, state_of
from headstart.dataset.inspecting import inspect_file
from headstart.dataset.inspections import Inspected, Inspections
from headstart.dataset.leak_table import Leak, write_leaks
from headstart.dataset.manifest import Manifest, ManifestRow, write_manifest
from headstart.dataset.options import PrepareOptions
from headstart.dataset.sources import Listing, SourceFile
from headstart.dataset.splits import Sample, assign
from headstart.images import decoding
from headstart.images.decoding import UnreadableImage

_NAMED = 5
_FILES_PER_TASK = 16


class _Photo(NamedTuple):
    file: SourceFile
    found: Inspected

    @property
    def sha256(self) -> str:
        return self.found.sha256


class _Reject(NamedTuple):
    path: str
    reason: str
    image_like: bool
    lasting: bool = True
    """Whether reading the same file again would end the same."""


def check_and_split(
    listing: Listing,
    options: PrepareOptions,
    *,
    manifest: Path,
    quarantine: Path,
    leaks: Path,
    corrections: Path,
    metrics: Path,
) -> bool:
    """Check, compare and split the images of a source.

    Args:
        listing: The files of the source.
        options: The shares and what to do with duplicates.
        manifest: Table of the images to write.
        quarantine: Table of the files left out, with the reason.
        leaks: Table of the pictures that lie in two splits.
        corrections: Table of the corrections that were applied.
        metrics: Counts to write.

    Returns:
        Whether the same files would give the same again: no file failed for a reason that may
        pass, such as a disk's error.

    Raises:
        InputError: the source cannot be used, too many of its images cannot be read, or a class
            cannot be trained.
    """
    photos, rejects = _read_all(listing.files)
    # Before anything may stop the run: it is the list of what to mend.
    _write_quarantine(quarantine, rejects)
    unreadable = [reject for reject in rejects if reject.image_like]
    _check_readable(unreadable, len(photos), options, quarantine)

    pairs = _audit(photos)
    counts = {
        "listed": len(listing.files),
        "unreadable": len(unreadable),
        "other_files": len(rejects) - len(unreadable),
        "empty_classes": len(listing.empty_classes),
        **_count_duplicates(len(photos), pairs),
        "conflicting_labels": _tell_conflicts(photos, pairs),
        "dropped": 0,
    }
    if options.near_duplicates == "drop":
        dropped = _to_drop(photos, pairs)
        counts["dropped"] = len(dropped)
        _write_quarantine(quarantine, [*rejects, *dropped.values()])
        photos = [photo for position, photo in enumerate(photos) if position not in dropped]
        pairs = _audit(photos)
    _check_classes(photos, options.source)
    _tell_remarks(photos)
    if listing.empty_classes:
        notify(f"warning: no file in {_some(listing.empty_classes)}; these are no classes")

    rows = _rows(photos, pairs, options)
    check_coverage(rows, options)
    found = duplicates.leaks(rows, pairs)
    write_manifest(manifest, Manifest(rows))
    write_leaks(leaks, found)
    write_table(corrections, ("sha256", "action", "label", "note"), [])
    write_json(metrics, _summary(rows, counts, found))
    return all(reject.lasting for reject in rejects)


def _read_all(files: Sequence[SourceFile]) -> tuple[list[_Photo], list[_Reject]]:
    """Read each file once, unless it is known; what comes out is sorted by path."""
    photos: list[_Photo] = []
    rejects: list[_Reject] = []
    with Inspections() as known, progress(total=len(files), desc="Checking images") as bar:
        for results in _in_threads(files, known):
            for result in results:
                if isinstance(result, _Photo):
                    photos.append(result)
                else:
                    rejects.append(result)
            bar.update(len(results))
    return photos, rejects


def _in_threads(
    files: Iterable[SourceFile], known: Inspections
) -> Iterator[list[_Photo | _Reject]]:
    """Inspect files in parallel and in order, with a bounded number of them under way."""
    workers = os.cpu_count() or 1
    remaining = iter(files)
    pending: deque[tuple[list[FileState | None], Future[list[_Photo | _Reject]]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        while True:
            while len(pending) < 3 * workers and (task := list(islice(remaining, _FILES_PER_TASK))):
                states = [state_of(file.path) for file in task]
                found = known.find([state for state in states if state is not None])
                pending.append((states, pool.submit(_inspect_all, task, states, found)))
            if not pending:
                return
            states, future = pending.popleft()
            results = future.result()
            known.add(
                settled(
                    (result.file.path, state, result.found)
                    for state, result in zip(states, results, strict=True)
                    if isinstance(result, _Photo)
                )
            )
            yield results


def _inspect_all(
    files: Sequence[SourceFile],
    states: Sequence[FileState | None],
    known: dict[FileState, Inspected],
) -> list[_Photo | _Reject]:
    return [
        _Photo(file, known[state])
        if state is not None and state in known and file.label
        else _inspect(file)
        for file, state in zip(files, states, strict=True)
    ]


def _inspect(file: SourceFile) -> _Photo | _Reject:
    path = Path(file.path)
    try:
        file.path.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(file.path).decode("utf-8", "backslashreplace")
        reason = "file name is not UTF-8; rename it"
        return _Reject(shown, reason, decoding.is_image_like(path))
    if not file.listed and not decoding.is_image_like(path):
        kind = f"a {path.suffix} file" if path.suffix else "a file without an ending"
        return _Reject(file.path, f"not an image: {kind}", False)
    if not file.label:
        return _Reject(file.path, "in no class folder", True)
    try:
        return _Photo(file, inspect_file(path))
    except UnreadableImage as error:
        return _Reject(file.path, error.reason, True, error.lasting)


def _write_quarantine(path: Path, rejects: Iterable[_Reject]) -> None:
    lines = (reject[:2] for reject in sorted(rejects))
    write_table(path, ("path", "reason"), lines)


def _check_readable(
    unreadable: Sequence[_Reject], n_photos: int, options: PrepareOptions, quarantine: Path
) -> None:
    n_images, most = n_photos + len(unreadable), options.max_unreadable
    if n_images == 0:
        raise InputError(
            f"prepare.source: no image among its files; {quarantine} says what they are. Images "
            f"are recognized by endings such as {', '.join(sorted(decoding.SUFFIXES)[:_NAMED])}."
        )
    if len(unreadable) > most * n_images:
        named = "".join(f"\n  {printable(one.path)}: {one.reason}" for one in unreadable[:_NAMED])
        more = f"\n  ... all are listed in {quarantine}" if len(unreadable) > _NAMED else ""
        raise InputError(
            f"prepare.max_unreadable: {len(unreadable)} of {n_images} images cannot be read "
            f"({len(unreadable) / n_images:.1%}), expected at most {most:.1%}. Mend or remove "
            f"them, or raise the limit in params.yaml:{named}{more}"
        )
    if n_photos == 0:
        raise InputError(
            f"prepare.source: none of the {n_images} images of {options.source} can be read; "
            f"{quarantine} says why. Mend them, or name another source."
        )
    if unreadable:
        named = _some([f"{one.path}: {one.reason}" for one in unreadable])
        notify(
            f"warning: {len(unreadable)} of {n_images} images cannot be read and are left out: "
            f"{named} ({quarantine})"
        )


def _check_classes(photos: Sequence[_Photo], source: str) -> None:
    labels = Counter(photo.file.label for photo in photos)
    if len(labels) < 2:
        raise InputError(
            f"prepare.source: {source} has one class only ({next(iter(labels))!r}, "
            f"{len(photos)} images). Expected two or more; if the class folders lie one level "
            "down, name that folder."
        )
    for alike in _alike(labels):
        notify(
            f"warning: {' and '.join(map(repr, alike))} are different classes; if they are one, "
            "give them one name"
        )


def _alike(labels: Iterable[str]) -> list[list[str]]:
    """Return the labels that a person may have meant for one: "Cat" and "cat", "1" and "01"."""
    meant: defaultdict[str, list[str]] = defaultdict(list)
    for label in sorted(labels):
        plain = re.sub(r"[\W_]+", " ", unicodedata.normalize("NFKC", label).casefold()).strip()
        meant[re.sub(r"(?<!\d)0+(?=\d)", "", plain) or label].append(label)
    return [names for names in meant.values() if len(names) > 1]


def _tell_remarks(photos: Iterable[_Photo]) -> None:
    remarked: defaultdict[str, list[str]] = defaultdict(list)
    for photo in photos:
        if photo.found.remark:
            remarked[photo.found.remark].append(photo.file.path)
    for remark, paths in sorted(remarked.items()):
        notify(f"warning: {len(paths)} images: {remark}: {_some(paths)}")


def _audit(photos: Sequence[_Photo]) -> list[Pair]:
    descriptions = np.array([photo.found.description for photo in photos], np.float16)
    return duplicates.find([photo.sha256 for photo in photos], descriptions)


def _count_duplicates(n_photos: int, pairs: Sequence[Pair]) -> dict[str, int]:
    """Count the images beyond the first of each content, and of each picture."""
    exact = sum(pair.kind == "exact" for pair in pairs)
    pictures = duplicates.components(n_photos, [(pair.first, pair.second) for pair in pairs])
    return {
        "exact_duplicates": exact,
        "near_duplicates": n_photos - exact - len(set(pictures.tolist())),
    }


def _tell_conflicts(photos: Sequence[_Photo], pairs: Iterable[Pair]) -> int:
    """Warn of equal files under two labels, and count them."""
    conflicts = [
        f"{photos[pair.first].file.path} and {photos[pair.second].file.path}"
        for pair in pairs
        if pair.kind == "exact" and photos[pair.first].file.label != photos[pair.second].file.label
    ]
    if conflicts:
        notify(
            f"warning: {len(conflicts)} files have the content of one with another label; at most "
            f"one of the two is right: {_some(conflicts)}"
        )
    return len(conflicts)


def _to_drop(photos: Sequence[_Photo], pairs: Iterable[Pair]) -> dict[int, _Reject]:
    """Pick all but the first of those that show one picture, within one label.

    Of two labels for one picture neither is known to be right, so neither is thrown away.
    """
    linked = [(pair.first, pair.second) for pair in pairs]
    kept: dict[tuple[int, str], _Photo] = {}
    dropped = {}
    numbers = duplicates.components(len(photos), linked)
    for position, (number, photo) in enumerate(zip(numbers, photos, strict=True)):
        first = kept.setdefault((int(number), photo.file.label), photo)
        if first is not photo:
            kind = "duplicate" if first.sha256 == photo.sha256 else "near duplicate"
            dropped[position] = _Reject(photo.file.path, f"{kind} of {first.file.path}", False)
    return dropped


def _rows(
    photos: Sequence[_Photo], pairs: Iterable[Pair], options: PrepareOptions
) -> list[ManifestRow]:
    apart = options.near_duplicates == "keep"
    linked = [(pair.first, pair.second) for pair in pairs if pair.kind == "exact" or not apart]
    first_of_group: dict[str, int] = {}
    for position, photo in enumerate(photos):
        if photo.file.group:
            linked.append((first_of_group.setdefault(photo.file.group, position), position))
    bundles = duplicates.components(len(photos), linked)
    samples = [
        Sample(photo.sha256, photo.file.label, int(bundle), photo.file.split)
        for photo, bundle in zip(photos, bundles, strict=True)
    ]
    assigned = assign(samples, validation=options.validation, test=options.test, seed=options.seed)
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
        )
        for photo, split, bundle in zip(photos, assigned, bundles.tolist(), strict=True)
    ]


def _group_names(photos: Sequence[_Photo], bundles: NDArray[np.int64]) -> dict[int, str]:
    """Name the sets that folds and resampling must not tear either; single images have none."""
    groups: defaultdict[int, list[_Photo]] = defaultdict(list)
    for photo, bundle in zip(photos, bundles.tolist(), strict=True):
        groups[bundle].append(photo)
    names = {}
    for bundle, members in groups.items():
        given = min((photo.file.group for photo in members if photo.file.group), default="")
        same = f"same-{min(photo.sha256 for photo in members)[:16]}" if len(members) > 1 else ""
        names[bundle] = given or same
    return names


def _summary(
    rows: Sequence[ManifestRow], counts: dict[str, int], found: Sequence[Leak]
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


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return "; ".join(map(printable, names[:_NAMED])) + more
