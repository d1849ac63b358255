"""Read the manifest and its images, write their bottleneck features and a sheet of views."""

import hashlib
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from headstart.commands.params import load_params
from headstart.common.errors import exit_with
from headstart.common.files import atomic_write, write_json
from headstart.dataset.manifest import Manifest, read_manifest
from headstart.dataset.splits import Sample, choose_share
from headstart.extraction import engines
from headstart.extraction.bottleneck import Bottleneck, identify
from headstart.extraction.extract import Request, extract
from headstart.extraction.options import ExtractOptions
from headstart.extraction.store import FeatureStore
from headstart.features.file import Columns
from headstart.images import decoding
from headstart.images.contact_sheet import Sample as SheetSample
from headstart.images.contact_sheet import contact_sheet
from headstart.images.options import AugmentOptions

MANIFEST = Path("data/manifest.csv")

_SHEET_IMAGES = 6  # training images on the sheet, of as many classes as there are
_SHEET_VIEWS = 8


class Outputs(NamedTuple):
    """The files of the stage."""

    features: Path = Path("features/bottleneck.h5")
    views: Path = Path("plots/views.png")
    metrics: Path = Path("metrics/extract.json")
    timing: Path = Path("metrics/timing/extract.json")


def run(
    manifest: Manifest,
    options: ExtractOptions,
    store: FeatureStore | None = None,
    outputs: Outputs | None = None,
) -> None:
    """Compute what the feature store lacks and assemble the feature file.

    Args:
        manifest: The images.
        options: The section `extract`.
        store: Where computed features are kept; the user's by default.
        outputs: The files to write.

    Raises:
        InputError: backbone, layer, weights, engine or precision cannot be used here, or an image
            has changed since `prepare`.
    """
    outputs = outputs or Outputs()
    started = time.perf_counter()
    bottleneck = identify(options, engines.resolve(options.engine, options.precision))
    identity = bottleneck.taps[0]
    print(
        f"{identity.backbone}, {bottleneck.weights.description}; layer {identity.layer}, "
        f"{identity.engine}, {identity.precision}"
    )
    chosen = _share(manifest, options.share)
    recipe = options.augment
    # Views never leave the training split.
    rows = [
        (position, view)
        for position in chosen
        for view in range(1 + (recipe.views if manifest.rows[position].split == "train" else 0))
    ]
    requests = [
        Request(manifest.rows[position].path, manifest.rows[position].sha256, view)
        for position, view in rows
    ]
    extraction = extract(bottleneck, requests, recipe=recipe if recipe.views else None, store=store)
    extraction.write(outputs.features, manifest.class_names, _columns(manifest, rows))
    seconds = time.perf_counter() - started
    _write_sheet(outputs.views, manifest, chosen, recipe, bottleneck)
    counts = extraction.counts
    content = {
        "images": len(chosen),
        "views": len(rows) - len(chosen),
        "computed": counts.computed,
        "reused": counts.reused,
        "feature_dim": int(np.prod(extraction.feature_shape())),
    }
    write_json(outputs.metrics, content)
    write_json(
        outputs.timing,
        {
            "seconds": round(seconds, 3),
            "vectors_per_second": round(len(rows) / seconds, 1),
            "engine": identity.engine,
        },
    )
    print(f"{counts.computed:,} computed, {counts.reused:,} reused, {seconds:.1f} s")


def _share(manifest: Manifest, share: float) -> list[int]:
    if share == 1:
        return list(range(len(manifest)))
    samples = [
        Sample(row.sha256, row.label, position, row.split) for position, row in enumerate(manifest)
    ]
    return choose_share(samples, share)


def _columns(manifest: Manifest, rows: Sequence[tuple[int, int]]) -> Columns:
    image = np.array([position for position, _ in rows], dtype=np.int64)
    return Columns(
        label=manifest.labels[image],
        split=np.array([row.split for row in manifest])[image],
        sha256=np.array([row.sha256 for row in manifest])[image],
        view=np.array([view for _, view in rows], dtype=np.int32),
        group=manifest.groups[image],
        image=image,
    )


def _write_sheet(
    path: Path,
    manifest: Manifest,
    chosen: Sequence[int],
    recipe: AugmentOptions,
    bottleneck: Bottleneck,
) -> None:
    sheet = contact_sheet(
        _sheet_samples(manifest, chosen),
        recipe,
        min(recipe.views, _SHEET_VIEWS),
        bottleneck.image_size,
        resize=bottleneck.resize,
        interpolation=bottleneck.interpolation,
    )
    with atomic_write(path) as temporary:
        sheet.save(temporary)


def _sheet_samples(manifest: Manifest, chosen: Sequence[int]) -> Iterator[SheetSample]:
    """Take training images from the classes in turn."""
    by_class: defaultdict[str, list[str]] = defaultdict(list)
    for position in chosen:
        row = manifest.rows[position]
        if row.split == "train" and len(by_class[row.label]) < _SHEET_IMAGES:
            by_class[row.label].append(row.path)
    in_turn = [
        (label, paths[index])
        for index in range(_SHEET_IMAGES)
        for label, paths in by_class.items()
        if index < len(paths)
    ]
    for label, name in in_turn[:_SHEET_IMAGES]:
        data = decoding.read(Path(name))
        digest = hashlib.sha256(data).hexdigest()
        yield SheetSample(f"{label}: {Path(name).name}", decoding.decode(data), digest)


def main(arguments: Sequence[str]) -> None:
    """Extract the features of data/manifest.csv."""
    run(read_manifest(MANIFEST), load_params().extract)


if __name__ == "__main__":
    exit_with(main)
