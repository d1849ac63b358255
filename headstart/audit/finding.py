"""Everything that is suspected of the data, and the images to look at beside it."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from headstart.audit.classes import classes_alike, classes_that_gain, single_units
from headstart.audit.data import all_images
from headstart.audit.labels import Judgement, judge
from headstart.audit.pictures import beyond, odd_pictures
from headstart.audit.table import KINDS, Evidence, Role, Suspect
from headstart.common.progress import notify
from headstart.common.text import printable
from headstart.common.vocabulary import SPLITS
from headstart.dataset import duplicates
from headstart.dataset.descriptions import Pictures, read_descriptions
from headstart.dataset.duplicates import Pair
from headstart.dataset.manifest import Manifest, ManifestRow
from headstart.evaluation.gaussians import Fit
from headstart.features.file import FeatureFile
from headstart.features.neighbors import NeighborIndex, directions
from headstart.heads.data import TrainingData
from headstart.scoring.intervals import units

Rows = npt.NDArray[np.int64]

_BESIDE = 3
"""Images of each of the two classes that are shown beside a doubted label."""

_QUERIES = 256
_FAR = 5.0
"""Standard deviations of the logarithm of ordinary images' distance beyond which one is an outlier.

Distances have longer tails than what pictures are judged by. On the twelve sets of bench/sets.py up
to 2 of 600 natural photos lie beyond it, and 8 of those that were shrunk to 32 pixels.
"""

_LEAST_DISTANCE = 1e-12


class Findings(NamedTuple):
    """What was found.

    Attributes:
        suspects: Kind by kind, the worst first.
        evidence: In the order of the suspects.
        metrics: Counts, as JSON types.
    """

    suspects: list[Suspect]
    evidence: list[Evidence]
    metrics: dict[str, Any]


def find_all(file: FeatureFile, manifest: Manifest, most: int, seed: int) -> Findings:
    """Look for all kinds of what may be wrong.

    Args:
        file: The features; no other is computed.
        manifest: Their images.
        most: Suspects of each kind to list.
        seed: Of the folds.

    Raises:
        InputError: there are fewer than two classes, or one has no image.
    """
    rows = file.rows(*SPLITS)
    images = [manifest.rows[image] for image in file.image[rows]]
    pictures = _read(images)
    pairs = duplicates.find([image.sha256 for image in images], pictures.descriptions)
    image_of = file.image[rows].tolist()
    linked = [(image_of[one.first], image_of[one.second]) for one in pairs]
    data = all_images(file, linked, seed)
    judgement = judge(data)
    conflicts = _conflicts(images, pairs)
    found = [
        *_labels(judgement, rows, images),
        *(
            _suspect(images[one], "conflict", similarity, images[other].label)
            for one, (other, similarity) in conflicts.items()
        ),
        *_outliers(file, rows, units(data.unit[rows]), images),
        *(
            _suspect(images[one.position], one.kind, one.score)
            for one in odd_pictures(
                pictures,
                np.array([image.width for image in images]),
                np.array([image.height for image in images]),
            )
        ),
        *_classes(data, judgement),
    ]
    suspects = [
        one
        for kind in KINDS
        for one in sorted(
            (one for one in found if one.kind == kind), key=lambda one: (-one.score, one[:2], one)
        )[:most]
    ]
    place = {image.sha256: position for position, image in enumerate(images)}
    evidence = [
        *_nearest(suspects, place, file, rows, data.unit, images),
        *(
            Evidence(images[one].sha256, "copy", images[other].path, images[other].label, similar)
            for one, (other, similar) in conflicts.items()
        ),
    ]
    listed = {suspect.sha256 for suspect in suspects}
    metrics: dict[str, Any] = {
        "images": len(images),
        "judged": 0 if judgement is None else len(judgement.rows),
        "label_errors": 0.0 if judgement is None else float(judgement.score.sum()),
        **{kind: sum(one.kind == kind for one in found) for kind in KINDS},
    }
    return Findings(suspects, [one for one in evidence if one.sha256 in listed], metrics)


def _read(images: Sequence[ManifestRow]) -> Pictures:
    pictures = read_descriptions(images)
    if pictures.unusable:
        notify(
            f"warning: {len(pictures.unusable)} of {len(images)} images have gone or changed since "
            f"they were prepared, such as {printable(images[pictures.unusable[0]].path)}: what "
            "their pictures show is not looked at"
        )
    return pictures


def _suspect(image: ManifestRow, kind: Any, score: float, suggested: str = "") -> Suspect:
    return Suspect(image.sha256, image.path, kind, round(score, 4), image.label, suggested)


def _labels(
    judgement: Judgement | None, rows: Rows, images: Sequence[ManifestRow]
) -> Iterator[Suspect]:
    """Yield the labels that are doubted, but for those that somebody has looked at."""
    if judgement is None:
        return
    names = judgement.data.class_names
    for position in judgement.suspects:
        image = images[int(np.searchsorted(rows, judgement.rows[position]))]
        if not image.correction:
            suggested = names[judgement.suggested[position]]
            yield _suspect(image, "label", float(judgement.score[position]), suggested)


def _conflicts(
    images: Sequence[ManifestRow], pairs: Sequence[Pair]
) -> dict[int, tuple[int, float]]:
    """Return for each image that shows the picture of one with another label the likest such."""
    found: dict[int, tuple[int, float]] = {}
    for pair in pairs:
        one, other = images[pair.first], images[pair.second]
        # Somebody has looked at both.
        if one.label == other.label or (one.correction and other.correction):
            continue
        for own, beside in ((pair.first, pair.second), (pair.second, pair.first)):
            if own not in found or found[own][1] < pair.similarity:
                found[own] = (beside, pair.similarity)
    return found


def _outliers(
    file: FeatureFile, rows: Rows, unit: Rows, images: Sequence[ManifestRow]
) -> Iterator[Suspect]:
    """Yield images that are much further from the nearest class than the others are.

    Each is judged by the classes without it and what belongs to it; of a unit the first.
    """
    fitted = Fit(file.features, rows, file.label[rows], unit)
    distance = fitted.left_out(np.arange(int(unit.max()) + 1))
    # A class of one unit leaves nothing to be far from.
    there = np.asarray(np.isfinite(distance))
    logs = np.log(np.maximum(np.where(there, distance, 1.0), _LEAST_DISTANCE))
    scores = np.where(there, beyond(logs, there, limit=_FAR), 0.0)
    first = np.unique(unit, return_index=True)[1]
    for position, score in zip(first.tolist(), scores.tolist(), strict=True):
        if score > 0 and images[position].correction != "keep":
            yield _suspect(images[position], "outlier", score)


def _classes(data: TrainingData, judgement: Judgement | None) -> Iterator[Suspect]:
    names, few = data.class_names, list(single_units(data))
    if judgement is not None:
        few += classes_that_gain(judgement)
        for one in classes_alike(judgement):
            yield Suspect("", "", "merge", round(one.score, 4), names[one.first], names[one.second])
    for lacking in few:
        yield Suspect("", "", "few", round(lacking.score, 4), names[lacking.label], "")


def _nearest(
    suspects: Sequence[Suspect],
    place: dict[str, int],
    file: FeatureFile,
    rows: Rows,
    unit: Rows,
    images: Sequence[ManifestRow],
) -> Iterator[Evidence]:
    """Yield the nearest images of the given and of the suggested class of each doubted label."""
    doubted = [one for one in suspects if one.kind == "label"]
    index = NeighborIndex.of(file.features, rows)
    label, own_unit = file.label[rows], unit[rows]
    number = {name: position for position, name in enumerate(file.header.class_names)}
    for start in range(0, len(doubted), _QUERIES):
        part = doubted[start : start + _QUERIES]
        positions = np.array([place[one.sha256] for one in part])
        queries = directions(np.asarray(file.features[rows[positions]]), index.mean)
        roles: tuple[tuple[Role, list[int]], ...] = (
            ("given", [number[one.given] for one in part]),
            ("suggested", [number[one.suggested] for one in part]),
        )
        by_role = {
            role: _of_class(index, queries, np.array(of), own_unit[positions], label, own_unit)
            for role, of in roles
        }
        for query, one in enumerate(part):
            for role, (cosines, near) in by_role.items():
                for cosine, position in zip(cosines[query], near[query], strict=True):
                    if position >= 0:
                        other = images[position]
                        yield Evidence(
                            one.sha256, role, other.path, other.label, round(float(cosine), 4)
                        )


def _of_class(
    index: NeighborIndex,
    queries: npt.NDArray[np.float32],
    wanted: Rows,
    own: Rows,
    label: Rows,
    unit: Rows,
) -> tuple[npt.NDArray[np.float32], Rows]:
    """Return cosines and positions, (n_queries, 3), of the nearest of a class and other units."""
    best = np.full((len(queries), _BESIDE), -np.inf, np.float32)
    where = np.full((len(queries), _BESIDE), -1, np.int64)
    for at, block in index.blocks():
        near = queries @ block.T
        near[(label[at] != wanted[:, None]) | (unit[at] == own[:, None])] = -np.inf
        numbers = np.broadcast_to(np.arange(at.start, at.stop), near.shape)
        best, where = np.hstack([best, near]), np.hstack([where, numbers])
        order = np.lexsort((where, -best), axis=1)[:, :_BESIDE]
        best, where = np.take_along_axis(best, order, 1), np.take_along_axis(where, order, 1)
    return best, np.where(np.isfinite(best), where, -1)
