"""Which altered copies of training images are found in the test split, and what passes for one.

The copies are files in the test folder of a project with given splits, and go through `prepare` and
`extract` as photos do.
"""

import io
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from bench.projects import changed_params, prepare_and_extract
from bench.results import table
from bench.sets import Sets, SplitSet
from headstart.common import places
from headstart.dataset.descriptions import read_descriptions
from headstart.dataset.leak_table import Leak
from headstart.evaluation.copies import find_copies
from headstart.evaluation.leaks import (
    cosine_limit,
    find_feature_leaks,
    find_picture_leaks,
    read_leaks,
)
from headstart.features.file import FeatureFile
from headstart.features.neighbors import NeighborIndex

HEADING = "Quality: leaks"

_COPIES = 12
_MARK = "copy of"
_Rng = np.random.Generator


def _png(image: Image.Image) -> tuple[bytes, str]:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue(), "png"


def _jpeg(image: Image.Image) -> tuple[bytes, str]:
    file = io.BytesIO()
    image.convert("RGB").save(file, "JPEG", quality=30)
    return file.getvalue(), "jpg"


def _crop(image: Image.Image, keep: float, x: float, y: float) -> Image.Image:
    """Keep a share of each side, at least a pixel less than all; x and y place it, 0 to 1."""
    width, height = (min(round(side * keep), side - 1) for side in image.size)
    left, top = round((image.width - width) * x), round((image.height - height) * y)
    return image.crop((left, top, left + width, top + height))


def _resized(image: Image.Image, width: int, height: int) -> Image.Image:
    return image.resize((max(width, 1), max(height, 1)), Image.Resampling.BILINEAR)


_ALTERATIONS: dict[str, Callable[[Image.Image, _Rng], tuple[bytes, str]]] = {
    "crop, 90 % of each side, center": lambda image, rng: _png(_crop(image, 0.9, 0.5, 0.5)),
    "crop, 90 % of each side, anywhere": lambda image, rng: _png(
        _crop(image, 0.9, *rng.uniform(0, 1, 2))
    ),
    "crop, 90 % of the area, anywhere": lambda image, rng: _png(
        _crop(image, 0.9**0.5, *rng.uniform(0, 1, 2))
    ),
    "crop, 75 % of each side, anywhere": lambda image, rng: _png(
        _crop(image, 0.75, *rng.uniform(0, 1, 2))
    ),
    "mirrored": lambda image, rng: _png(ImageOps.mirror(image)),
    "JPEG, quality 30": lambda image, rng: _jpeg(image),
    "half the size": lambda image, rng: _png(_resized(image, image.width // 2, image.height // 2)),
    "64 x 64 pixels": lambda image, rng: _png(_resized(image, 64, 64)),
    "crop 90 %, mirrored, JPEG 30": lambda image, rng: _jpeg(
        ImageOps.mirror(_crop(image, 0.9, *rng.uniform(0, 1, 2)))
    ),
}
_WAYS = {
    "hashes": "hashes alone",
    "before": "before",
    "pictures": "pictures alone",
    "now": "now",
}
_WANTED = [name for name in _ALTERATIONS if "75" not in name and "mirrored, J" not in name]


def _plant(one: SplitSet, root: Path) -> SplitSet:
    """Make a project of a set in its split, with copies of training images for testing."""
    source = root / "images"
    rows = one.manifest.rows
    for number, row in enumerate(rows):
        folder = source / row.split / row.label
        folder.mkdir(parents=True, exist_ok=True)
        # Its content and time are known already.
        (folder / f"{number:05}.png").symlink_to(row.path)
    train = [number for number, row in enumerate(rows) if row.split == "train"]
    rng = np.random.default_rng(one.seed)
    for kind, alter in enumerate(_ALTERATIONS.values()):
        for number in rng.choice(train, min(_COPIES, len(train)), replace=False).tolist():
            with Image.open(rows[number].path) as image:
                data, ending = alter(image.convert("RGB"), rng)
            folder = source / "test" / rows[number].label
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{kind} {_MARK} {number:05}.{ending}").write_bytes(data)
    params = changed_params({"prepare.source": str(source), "prepare.near_duplicates": "keep"})
    manifest = prepare_and_extract(root, params)
    file = FeatureFile.open(root / places.FEATURES)
    return replace(one, root=root, params=params, file=file, manifest=manifest)


def _flagged(leaks: list[Leak]) -> set[str]:
    """Return the test images of some leaks."""
    sides = [(leak.path, leak.split) for leak in leaks]
    sides += [(leak.other_path, leak.other_split) for leak in leaks]
    return {path for path, split in sides if split == "test"}


def _by_one_limit(one: SplitSet) -> set[str]:
    """Return the test images that one limit on the cosine flags: what stood here before."""
    tested, known = one.file.rows("test"), one.file.rows("train", "validation")
    index = NeighborIndex.of(one.file.features, known)
    cosines = index.search(one.file.features[tested], 2)[0].astype(np.float64)
    flagged = tested[cosines[:, 0] > cosine_limit(cosines[:, 1])]
    return {one.manifest.rows[image].path for image in one.file.image[flagged]}


def _look(one: SplitSet) -> Iterator[tuple[str | None, list[str]]]:
    """Yield for each test image how it was altered, None if it is no copy, and what flags it."""
    hashed = _flagged(read_leaks(one.root / places.LEAKS))
    by_features = _flagged(find_feature_leaks(one.file, one.manifest))
    by_one_limit = _by_one_limit(one)
    seen = _flagged(find_picture_leaks(one.file, one.manifest))
    ways = {
        "hashes": hashed,
        "before": hashed | by_one_limit,
        "pictures": seen,
        "now": hashed | seen | by_features,
    }
    names = list(_ALTERATIONS)
    for row in one.manifest:
        if row.split == "test":
            name = Path(row.path).name
            altered = names[int(name.split()[0])] if _MARK in name else None
            yield (
                altered,
                ["images", *(way for way, flagged in ways.items() if row.path in flagged)],
            )


def _seconds(one: SplitSet) -> tuple[float, float, int]:
    """Return how long looking for copies takes with nothing kept, then again; and of how many."""
    rows = np.concatenate([one.file.rows("test"), one.file.rows("train", "validation")])
    n_tested = len(one.file.rows("test"))
    taken = []
    with tempfile.TemporaryDirectory() as cache:
        for _ in range(2):
            start = time.perf_counter()
            descriptions = read_descriptions(
                [one.manifest.rows[image] for image in one.file.image[rows]], Path(cache)
            ).descriptions
            find_copies(
                descriptions[:n_tested],
                descriptions[n_tested:],
                one.file.group[rows[n_tested:]],
                Path(cache),
            )
            taken.append(time.perf_counter() - start)
    return taken[0], taken[1], n_tested


def wilson(hits: int, of: int) -> tuple[float, float]:
    """Return the 95 % interval of a share. Source: E. B. Wilson (1927)."""
    z, share = 1.96, hits / max(of, 1)
    middle = (share + z**2 / (2 * of)) / (1 + z**2 / of)
    half = z / (1 + z**2 / of) * (share * (1 - share) / of + z**2 / (4 * of**2)) ** 0.5
    return max(middle - half, 0.0), min(middle + half, 1.0)


def _told(hits: int, of: int) -> str:
    low, high = wilson(hits, of)
    return f"{hits / of:.3f} ({low:.3f} to {high:.3f})"


def measure(sets: Sets) -> list[str]:
    """Return the tables of what is found, and of what is taken for a copy and is none."""
    found: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    alarms: defaultdict[str, Counter[str]] = defaultdict(Counter)
    seconds = {}
    for one in sets.splits():
        with tempfile.TemporaryDirectory(prefix="headstart-") as root:
            planted = _plant(one, Path(root))
            for altered, ways in _look(planted):
                (alarms[one.name] if altered is None else found[one.name, altered]).update(ways)
            if one.seed == 0:
                seconds[one.name] = _seconds(planted)
    return [*_recall(found, sets.names), "", *_false_alarms(alarms, seconds)]


def _recall(found: dict[tuple[str, str], Counter[str]], names: tuple[str, ...]) -> list[str]:
    rows = []
    for name in names:
        cells = [found[name, altered] for altered in _ALTERATIONS]
        rows.append([name, *(f"{one['before']} / {one['now']}" for one in cells)])
    totals = []
    for name in names:
        total = sum((found[name, altered] for altered in _WANTED), Counter())
        totals.append([name, *(_told(total[way], total["images"]) for way in _WAYS)])
    n_copies = max(one["images"] for one in found.values())
    return [
        "Altered copies of training images among the test images of given splits, and the other "
        "test images. Before: hashes (`prepare`) and one limit on the features' cosine; now: also "
        "pictures laid over each other, and the features' next neighbor (`evaluate`). What hashes "
        "take for near duplicates stands in one split, as by default. The aim: nine in ten of all "
        "but the crops to 75 % and the last column on pets, digits and faces, with at most 0.5 % "
        "false alarms.",
        "",
        f"Found before / now, of {n_copies}:",
        "",
        *table(["set", *_ALTERATIONS], rows),
        "",
        "Share found of all of these but the crops to 75 % and the last column, and its 95 % "
        "interval (Wilson):",
        "",
        *table(["set", *_WAYS.values()], totals),
    ]


def _false_alarms(
    alarms: dict[str, Counter[str]], seconds: dict[str, tuple[float, float, int]]
) -> list[str]:
    rows = [
        [
            name,
            one["images"],
            *(_told(one[way], one["images"]) for way in _WAYS),
            *(f"{1000 * value / seconds[name][2]:.1f}" for value in seconds[name][:2]),
        ]
        for name, one in alarms.items()
    ]
    times = ["ms per test image, first", "again"]
    return [
        "Share of the test images without a planted copy that are taken for one:",
        "",
        *table(["set", "images", *_WAYS.values(), *times], rows),
    ]
