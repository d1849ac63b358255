"""The rows of features/bottleneck.h5: which images and views, and what stands beside them."""

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headstart.common.cache import Keep
from headstart.common.files import atomic_write, write_json
from headstart.common.progress import notify
from headstart.common.urls import name_of
from headstart.common.vocabulary import SPLITS
from headstart.dataset.manifest import Manifest, ManifestRow
from headstart.dataset.splits import Sample, choose_share
from headstart.extraction import engines
from headstart.extraction.bottleneck import Bottleneck, identify
from headstart.extraction.extract import extract
from headstart.extraction.network_size import network_size
from headstart.extraction.on_ray import driver as on_ray
from headstart.extraction.options import ExtractOptions
from headstart.extraction.requests import Requests
from headstart.extraction.store import FeatureStore
from headstart.extraction.texts import class_texts
from headstart.features.file import Columns
from headstart.images.contact_sheet import SheetImage, contact_sheet
from headstart.images.decoding import read_checked
from headstart.images.options import AugmentOptions

_SHEET_IMAGES = 6  # training images on the sheet, of as many classes as there are
_SHEET_VIEWS = 8


def write_features(
    manifest: Manifest,
    options: ExtractOptions,
    *,
    features: Path,
    views: Path,
    metrics: Path,
    store: FeatureStore | None = None,
) -> None:
    """Compute what the feature store lacks and assemble the feature file.

    Args:
        manifest: The images.
        options: The section `extract`.
        features: The HDF5 file to write.
        views: The picture of augmented views to write.
        metrics: The JSON file of counts and of what one image costs.
        store: Where computed features are kept; the user's by default.

    Raises:
        InputError: backbone, layer, weights, engine or precision cannot be used here, or an image
            has changed since `prepare`.
    """
    started = time.perf_counter()
    bottleneck = identify(
        options, engines.resolve(options.engine, options.precision, options.backbone)
    )
    identity = bottleneck.taps[0]
    print(
        f"{identity.backbone}, {bottleneck.weights.description}; layer {identity.layer}, "
        f"{identity.engine}, {identity.precision}"
    )
    if bottleneck.spec.terms and bottleneck.weights.kind != "random":
        notify(f"note: {bottleneck.spec.terms}")
    store = store or FeatureStore()
    images, rows, requests, recipe = wanted_features(manifest, options)
    filled = 0
    if options.on == "ray":
        filled = on_ray.fill(bottleneck, requests, recipe, store)
    extraction = extract(bottleneck, requests, recipe=recipe, store=store)
    texts = class_texts(bottleneck, options.text, manifest.class_names, Keep("texts", store.root))
    extraction.write(features, manifest.class_names, _columns(manifest, rows), texts=texts)
    seconds = time.perf_counter() - started
    _write_sheet(views, manifest, images, options.augment, bottleneck)
    computed = filled + extraction.counts.computed
    reused = len(requests) - computed
    content = {
        "images": len(images),
        "views": len(rows) - len(images),
        "computed": computed,
        "reused": reused,
        "feature_dim": int(np.prod(extraction.feature_shape())),
        "cost": asdict(network_size(identity, store)),
    }
    write_json(metrics, content)
    print(f"{computed:,} computed, {reused:,} reused, {seconds:.1f} s")


class Wanted(NamedTuple):
    """The rows of a feature file before they are computed.

    Attributes:
        images: Positions of the chosen images in the manifest, (n_images,).
        rows: Position and view of each row, (n_rows, 2).
        requests: One per row.
        recipe: What makes the views; None where there are none.
    """

    images: NDArray[np.int64]
    rows: NDArray[np.int64]
    requests: Requests
    recipe: AugmentOptions | None


def wanted_features(
    manifest: Manifest, options: ExtractOptions, images: NDArray[np.int64] | None = None
) -> Wanted:
    """Return what `write_features` asks for.

    Args:
        manifest: The images.
        options: The section `extract`.
        images: Positions of some of `choose_images`; None for all of them.
    """
    images = choose_images(manifest, options.share) if images is None else images
    recipe = options.augment
    # Views never leave the training split.
    train = manifest.columns.split[images] == SPLITS.index("train")
    count = np.where(train, 1 + recipe.views, 1)
    image = np.repeat(images, count)
    view = np.arange(len(image)) - np.repeat(np.cumsum(count) - count, count)
    columns = manifest.columns
    requests = Requests(columns.path[image], columns.sha256[image], view.astype(np.int32))
    rows = np.stack([image, view], axis=1)
    return Wanted(images, rows, requests, recipe if recipe.views else None)


def choose_images(manifest: Manifest, share: float) -> NDArray[np.int64]:
    """Return the positions, ascending, of the images that make a share of them."""
    if share == 1:
        return np.arange(len(manifest))
    alone = -1 - np.arange(len(manifest))
    bundles = np.where(manifest.groups < 0, alone, manifest.groups).tolist()
    # Test images are chosen as the source has them, so that corrections leave them the same ones.
    samples = [
        Sample(
            row.sha256,
            row.source_label or row.label if row.source_split == "test" else row.label,
            bundle,
            row.source_split,
        )
        for row, bundle in zip(manifest, bundles, strict=True)
    ]
    return np.array(choose_share(samples, share), np.int64)


def _columns(manifest: Manifest, rows: NDArray[np.int64]) -> Columns:
    image, view = rows.T
    return Columns(
        label=manifest.labels[image],
        split=manifest.split[image],
        sha256=manifest.sha256[image],
        view=view.astype(np.int32),
        group=manifest.groups[image],
        image=image,
    )


def _write_sheet(
    path: Path,
    manifest: Manifest,
    chosen: NDArray[np.int64],
    recipe: AugmentOptions,
    bottleneck: Bottleneck,
) -> None:
    sheet = contact_sheet(
        _sheet_images(manifest, chosen),
        recipe,
        min(recipe.views, _SHEET_VIEWS),
        bottleneck.sizing,
    )
    with atomic_write(path) as temporary:
        sheet.save(temporary)


def _sheet_images(manifest: Manifest, chosen: NDArray[np.int64]) -> Iterator[SheetImage]:
    """Take training images from the classes in turn."""
    by_class: defaultdict[int, list[ManifestRow]] = defaultdict(list)
    train = chosen[manifest.split[chosen] == "train"]
    for position, label in zip(train.tolist(), manifest.labels[train].tolist(), strict=True):
        if len(by_class[label]) < _SHEET_IMAGES:
            by_class[label].append(manifest.rows[position])
    in_turn = [
        rows[index]
        for index in range(_SHEET_IMAGES)
        for rows in by_class.values()
        if index < len(rows)
    ]
    for row in in_turn[:_SHEET_IMAGES]:
        pixels = read_checked(row.path, row.sha256)
        yield SheetImage(f"{row.label}: {name_of(row.path)}", pixels, row.sha256)
