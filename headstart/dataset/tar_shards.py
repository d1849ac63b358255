"""Photos in tar shards, laid out as the webdataset package does it.

The files of a sample lie side by side under one name, and their endings tell what they are.
Source: https://github.com/webdataset/webdataset, "The WebDataset Format".
"""

import itertools
import json
import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from headstart.common.errors import InputError
from headstart.common.progress import progress
from headstart.common.remote import RemoteError
from headstart.common.tar_index import TEXTS, TarIndex, index_of
from headstart.common.text import counted
from headstart.common.urls import is_url, suffix_of
from headstart.dataset.file_states import look_at
from headstart.dataset.listing import Listing, SourceFile
from headstart.dataset.tables import breaks_text, column_names, split_of

SUFFIX = ".tar"
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_AT_A_TIME = 8
_OWN = ("label", "split", "group")


class _Sample(NamedTuple):
    label: str
    split: str
    group: str
    others: dict[str, str]


def expand_braces(source: str) -> list[str]:
    """Return the names that `{000..009}` and `{a,b}` stand for; others as they are.

    Numbers have as many digits as the first is written with. Source: the package braceexpand, which
    webdataset uses.
    """
    match = _BRACES.search(source)
    if match is None or os.path.lexists(source):
        return [source]
    found = _RANGE.fullmatch(match[1])
    if found:
        first, last = int(found[1]), int(found[2])
        step = 1 if first <= last else -1
        choices = [str(one).zfill(len(found[1])) for one in range(first, last + step, step)]
    elif "," in match[1]:
        choices = match[1].split(",")
    else:
        return [source]
    before, after = source[: match.start()], source[match.end() :]
    return [one for choice in choices for one in expand_braces(f"{before}{choice}{after}")]


def is_tar(source: str) -> bool:
    """Return whether a source is named like a tar, compressed or not, and is no folder."""
    named = source.lower().endswith((SUFFIX, *_COMPRESSED))
    return named and (is_url(source) or not os.path.isdir(source))  # noqa: PTH112 - a zero byte


def list_tars(tars: Sequence[str], key: str, labels: bool) -> list[Listing]:
    """List the photos in tars, reading their headers alone, and those once.

    Args:
        tars: Paths or URLs.
        key: Where in params.yaml they are named, for errors.
        labels: Whether each photo needs a label.

    Returns:
        One listing per tar, whose paths go through the tar as if it were a folder.

    Raises:
        InputError: a tar cannot be read, is compressed, or what it says of a photo is wrong.
    """
    for tar in tars:
        if tar.lower().endswith(_COMPRESSED):
            raise InputError(
                f"{key}: {tar} is a compressed tar, whose members cannot be read one by one. "
                "Unpack it to a plain .tar; photos hardly shrink."
            )

    def look(tar: str) -> TarIndex:
        try:
            return index_of(tar, again=True)
        except RemoteError:
            raise
        except OSError as error:
            raise InputError(
                f"{key}: {tar} cannot be read ({error.strerror or error}). Expected a tar."
            ) from None

    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        bar = progress(pool.map(look, tars), total=len(tars), desc="Looking into tars", unit="tar")
        listings = [_listing(tar, index, key, labels) for tar, index in zip(tars, bar, strict=True)]
    look_at([tar for tar in tars if is_url(tar)])
    return listings


def _listing(tar: str, index: TarIndex, key: str, labels: bool) -> Listing:
    # Only now: pictures are not needed where no tar is.
    from headstart.images.decoding import SUFFIXES

    found: list[tuple[str, _Sample]] = []
    for name, members in _samples(index):
        photos = [one for one in members if suffix_of(one) in SUFFIXES]
        if photos:
            sample = _sample(tar, name, members, index)
            if labels and not sample.label:
                raise InputError(
                    f"{key}: {tar}: the sample {name!r} has no label. Expected {name}.cls, or "
                    f"{name}.json with a field label, a text or a whole number."
                )
            found += [(photo, sample) for photo in photos]
    if not found:
        raise InputError(
            f"{key}: {tar}: no photo among its {counted(len(index.members), 'file')}. Expected "
            "samples such as 000.jpg with 000.cls."
        )
    given = list(dict.fromkeys(name for _, sample in found for name in sample.others))
    names = column_names(tar, given)
    files = [
        SourceFile(
            f"{tar}/{photo}",
            sample.label,
            split_of(sample.split, f"{tar}: {photo}"),
            sample.group,
            listed=True,
            columns=tuple(sample.others.get(name, "") for name in given),
        )
        for photo, sample in found
    ]
    return Listing(tuple(sorted(files)), (), names)


def _samples(index: TarIndex) -> Iterator[tuple[str, list[str]]]:
    """Group members by what comes before the first dot of their last part."""

    def sample_of(member: str) -> str:
        folder, slash, name = member.rpartition("/")
        return f"{folder}{slash}{name.partition('.')[0]}"

    for sample, members in itertools.groupby(sorted(index.members, key=sample_of), sample_of):
        yield sample, list(members)


def _sample(tar: str, name: str, members: Sequence[str], index: TarIndex) -> _Sample:
    for member in members:
        if breaks_text(member):
            raise InputError(
                f"{tar}: the name {member!r} holds a control character or line break. Rename it."
            )
    texts = {
        suffix: index.texts[member]
        for suffix in TEXTS
        for member in members
        if member.lower() == f"{name}{suffix}".lower()
    }
    said = {} if ".json" not in texts else _fields(f"{tar}: {name}.json", texts[".json"])
    if ".cls" in texts:
        label = _plain(f"{tar}: {name}.cls", texts[".cls"])
        if said.get("label", label) != label:
            raise InputError(
                f"{tar}: {name}.cls says {label!r} and {name}.json {said['label']!r}. Expected one "
                "label; correct one of them."
            )
        said["label"] = label
    label, split, group = (said.pop(field, "") for field in _OWN)
    return _Sample(label, split, group, said)


def _fields(where: str, text: str) -> dict[str, str]:
    """Return what a JSON object says in texts and numbers; what is nested is no column."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: no JSON ({error}). Correct it.") from None
    if not isinstance(content, dict):
        raise InputError(f"{where}: expected an object, received {type(content).__name__}.")
    label = content.get("label")
    if label is not None and (isinstance(label, bool) or not isinstance(label, str | int)):
        raise InputError(
            f"{where}: label: expected a text or a whole number, received {label!r}"[:300]
        )
    return {
        _plain(where, name): _plain(f"{where}: {name}", str(value))
        for name, value in content.items()
        if isinstance(value, str | int | float) and name
    }


def _plain(where: str, text: str) -> str:
    """Return a text in one line, NFC-normalized as all labels are."""
    plain = unicodedata.normalize("NFC", " ".join(text.split()))
    if breaks_text(plain):
        raise InputError(f"{where} holds a control character: {plain[:60]!r}. Remove it.")
    return plain
