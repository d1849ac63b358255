"""What prepare refuses of a source, and what it warns of."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Sequence
from pathlib import Path

from headstart.common.errors import InputError
from headstart.common.progress import notify
from headstart.common.text import counted, printable
from headstart.dataset.corrections import Correction
from headstart.dataset.duplicates import Pairs
from headstart.dataset.leak_table import Leak
from headstart.dataset.manifest import ManifestRow
from headstart.dataset.options import PrepareOptions
from headstart.dataset.photos import Photo, Reject
from headstart.images import decoding

_NAMED = 5


def check_readable(
    unreadable: Sequence[Reject], n_photos: int, options: PrepareOptions, quarantine: Path
) -> None:
    """Refuse a source of which too little can be read, and warn of what cannot.

    Args:
        unreadable: Images that cannot be read.
        n_photos: How many can.
        options: The source, and the largest share of unreadable images.
        quarantine: Table that lists them.

    Raises:
        InputError: there is no image, none can be read, or too many cannot.
    """
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
            f"prepare.source: none of the {n_images} images of {options.named_source} can be read; "
            f"{quarantine} says why. Mend them, or name another source."
        )
    if unreadable:
        named = _some([f"{one.path}: {one.reason}" for one in unreadable])
        notify(
            f"warning: {len(unreadable)} of {n_images} images cannot be read and are left out: "
            f"{named} ({quarantine})"
        )


def check_classes(rows: Sequence[ManifestRow], options: PrepareOptions) -> None:
    """Refuse images of fewer than two classes, and warn of two names that may mean one class.

    Raises:
        InputError: there are fewer than two classes.
    """
    labels = Counter(row.label for row in rows)
    if len(labels) < 2:
        named = "".join(
            f" only ({label!r}, {counted(count, 'image')})" for label, count in labels.items()
        )
        corrected = f", corrected by {options.corrections}," if options.corrections else ""
        raise InputError(
            f"prepare.source: {options.named_source}{corrected} has {'one' if labels else 'no'} "
            f"class{named}. Expected two or more; if the class folders lie one level down, name "
            "that folder."
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


def tell_empty(classes: Sequence[str]) -> None:
    """Warn of class folders without a file."""
    if classes:
        notify(f"warning: no file in {_some(classes)}; these are no classes")


def tell_remarks(photos: Iterable[Photo]) -> None:
    """Warn of what is odd about images that can be read."""
    remarked: defaultdict[str, list[str]] = defaultdict(list)
    for photo in photos:
        if photo.found.remark:
            remarked[photo.found.remark].append(photo.file.path)
    for remark, paths in sorted(remarked.items()):
        notify(f"warning: {counted(len(paths), 'image')}: {remark}: {_some(paths)}")


def tell_conflicts(photos: Sequence[Photo], pairs: Pairs, decided: Container[str]) -> int:
    """Warn of equal files under two labels that no correction decides on, and count them."""
    conflicts = [
        f"{one.path} and {other.path}"
        for pair in pairs.where(pairs.exact)
        if photos[pair.first].sha256 not in decided
        for one, other in [(photos[pair.first].file, photos[pair.second].file)]
        if one.label and other.label and one.label != other.label
    ]
    if conflicts:
        notify(
            f"warning: {counted(len(conflicts), 'file')} with the content of one with another "
            f"label; at most one of the two is right: {_some(conflicts)}"
        )
    return len(conflicts)


def tell_unused(
    decisions: Sequence[Correction], photos: Iterable[Photo], options: PrepareOptions
) -> int:
    """Warn of corrections that fit no image, and count them."""
    contents = {photo.sha256 for photo in photos}
    unused = [
        f"line {one.line} ({one.action}, {one.sha256[:12]}...)"
        for one in decisions
        if one.sha256 not in contents
    ]
    if unused:
        notify(
            f"warning: {len(unused)} of {len(decisions)} corrections of {options.corrections} fit "
            f"no image of {options.named_source}: {_some(unused)}"
        )
    return len(unused)


def tell_leaks(found: Sequence[Leak], table: Path) -> None:
    """Warn of pictures that lie in two splits: scores on them are no scores of unseen images."""
    if found:
        named = _some(
            [f"{one.path} ({one.split}) and {one.other_path} ({one.other_split})" for one in found]
        )
        notify(
            f"warning: {counted(len(found), 'copy', 'copies')} in two splits: {named}; see {table}"
        )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return "; ".join(map(printable, names[:_NAMED])) + more
