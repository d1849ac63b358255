"""What may be wrong with the data, as the page lists it, and the corrections that were made."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest

from headstart.common.errors import InputError
from headstart.common.files import digest_of
from headstart.dataset.manifest import Manifest
from headstart.report.care import LookPart, ShownCorrection, ShownEvidence, ShownSuspect
from headstart.report.picking import Album
from headstart.report.pictures import LARGE_SIDE, thumbnails
from headstart.report.results import Results, Row

_REMEDY = "run `dvc repro audit` to write it again"


def images_of(manifest: Manifest, paths: Iterable[str]) -> dict[str, int]:
    """Return the row of the manifest of each path that is in a split, in the order given."""
    wanted, every = dict.fromkeys(paths, -1), manifest.columns.path.tolist()
    for image in manifest.in_use:
        if every[image] in wanted:
            wanted[every[image]] = image
    return {path: image for path, image in wanted.items() if image >= 0}


def suspected(results: Results) -> tuple[list[int], list[int]]:
    """Return the images to look at, the most urgent first, and those to look at beside them.

    The worst of each kind come first, then the second of each, and so on.
    """
    by_kind: dict[str, list[Row]] = {}
    for row in results.audit:
        if row["path"]:
            by_kind.setdefault(row["kind"], []).append(row)
    turns = [row for turn in zip_longest(*by_kind.values()) for row in turn if row is not None]
    beside: dict[str, list[str]] = {}
    for row in results.audit_neighbors:
        beside.setdefault(row["sha256"], []).append(row["other_path"])
    paths = [row["path"] for row in turns]
    others = [path for row in turns for path in beside.get(row["sha256"], ())]
    index = images_of(results.manifest, (*paths, *others))
    return [index[one] for one in paths if one in index], [
        index[one] for one in others if one in index
    ]


def look_part(results: Results, album: Album) -> LookPart:
    """List suspects and corrections.

    Args:
        results: Of the run.
        album: The images that have a picture.

    Raises:
        InputError: a score is no number.
    """
    suspects = list(_suspects(results, album))
    counts = results.data.get("corrections", {})
    return LookPart(
        run=digest_of([results.audit, results.corrections]),
        audited=bool(results.audited),
        suspects=tuple(one for one in suspects if one.sha256),
        large=_large(suspects, results.manifest, album),
        classes=tuple(one for one in suspects if not one.sha256),
        corrections=tuple(_corrections(results, album)),
        counts={name: int(count) for name, count in counts.items() if count},
    )


def _suspects(results: Results, album: Album) -> Iterator[ShownSuspect]:
    evidence: dict[str, list[Row]] = {}
    for row in results.audit_neighbors:
        evidence.setdefault(row["sha256"], []).append(row)
    listed = _in_order(results.audit)
    paths = [row["path"] for row in listed]
    index = images_of(
        results.manifest, (*paths, *(row["other_path"] for row in results.audit_neighbors))
    )
    numbers = {path: album.number(image) for path, image in index.items()}
    for row in listed:
        yield ShownSuspect(
            kind=row["kind"],
            score=_number(row["score"]),
            given=row["given"],
            suggested=row["suggested"],
            sha256=row["sha256"],
            path=results.shown(row["path"]),
            picture=numbers.get(row["path"]),
            # What stands beside a suspect says little where the suspect itself cannot be seen.
            evidence=tuple(
                ShownEvidence(
                    role=one["role"],
                    path=results.shown(one["other_path"]),
                    label=one["other_label"],
                    similarity=_number(one["similarity"]),
                    picture=numbers.get(one["other_path"]),
                )
                for one in evidence.get(row["sha256"], ())
                if one["other_path"] != row["path"] and numbers.get(row["path"]) is not None
            ),
        )


def _large(suspects: Iterable[ShownSuspect], manifest: Manifest, album: Album) -> dict[int, str]:
    pictured = list(dict.fromkeys(one.picture for one in suspects if one.picture is not None))
    images = album.images
    paths = [manifest.rows[images[number]].path for number in pictured]
    made = zip(pictured, thumbnails(paths, LARGE_SIDE), strict=True)
    return {number: uri for number, uri in made if uri}


def _in_order(audit: Sequence[Row]) -> list[Row]:
    kinds = list(dict.fromkeys(row["kind"] for row in audit))
    return sorted(audit, key=lambda row: (kinds.index(row["kind"]), -_number(row["score"])))


def _corrections(results: Results, album: Album) -> Iterator[ShownCorrection]:
    wanted = {row["sha256"] for row in results.corrections}
    first: dict[str, int] = {}
    for image, line in enumerate(results.manifest):
        if line.sha256 in wanted:
            first.setdefault(line.sha256, image)
    for row in results.corrections:
        found = first.get(row["sha256"])
        yield ShownCorrection(
            sha256=row["sha256"],
            action=row["action"],
            label=row["label"],
            note=row["note"],
            path="" if found is None else results.shown(results.manifest.rows[found].path),
            picture=None if found is None else album.number(found),
        )


def _number(text: str) -> float:
    try:
        return round(float(text), 4)
    except ValueError:
        raise InputError(
            f"data/audit.csv or data/audit_neighbors.csv: expected a number, received {text!r}: "
            f"{_REMEDY}"
        ) from None
