"""Activations at the cuts, computed once and mapped from disk in every epoch."""

import math
from collections.abc import Sequence
from pathlib import Path

from headstart.common.system_errors import WriteError
from headstart.common.vocabulary import Where
from headstart.dataset.manifest import Manifest
from headstart.extraction.bottleneck import Bottleneck
from headstart.extraction.extract import extract
from headstart.extraction.on_ray import driver as on_ray
from headstart.extraction.requests import requests_of
from headstart.extraction.store import FeatureStore
from headstart.features.file import Columns, FeatureFile
from headstart.finetuning.batches import CachedActivations
from headstart.finetuning.plan import Step
from headstart.images.options import AugmentOptions

_FLOAT_BYTES = 4


def trunk_bytes(steps: Sequence[Step], n_rows: int) -> int:
    """Return the disk space that caching the activations takes.

    Twice their size: in the feature store, where other runs find them, and in files in the order
    of the rows, which last as long as the run.
    """
    shapes = {step.cut: step.shape for step in steps if step.cut is not None}
    values = sum(math.prod(shape) for shape in shapes.values())
    return 2 * _FLOAT_BYTES * n_rows * values


def cache_trunk(
    steps: Sequence[Step],
    bottleneck: Bottleneck,
    file: FeatureFile,
    manifest: Manifest,
    store: FeatureStore,
    folder: Path,
    on: Where = "local",
) -> dict[str, CachedActivations]:
    """Return the activations at each cut, by its name, computing those that the store lacks.

    All cuts come from one pass, on the engine and in the precision of the cached features.

    Args:
        steps: Name the cuts.
        bottleneck: The extractor of `file`.
        file: The features; the activations have its rows.
        manifest: Its images.
        store: Where computed activations are kept.
        folder: Gets the files in the order of the rows.
        on: Where the pass runs.

    Raises:
        InputError: an image has changed, or there is no Ray cluster.
        WriteError: the disk is full.
    """
    names = list(dict.fromkeys(step.cut for step in steps if step.cut is not None))
    paths = {name: folder / f"trunk-{index}.h5" for index, name in enumerate(names)}
    _assemble(paths, bottleneck, file, manifest, store, on)
    return {
        name: CachedActivations(FeatureFile.open(path).features) for name, path in paths.items()
    }


def _assemble(
    paths: dict[str, Path],
    bottleneck: Bottleneck,
    file: FeatureFile,
    manifest: Manifest,
    store: FeatureStore,
    on: Where,
) -> None:
    columns = Columns(
        label=file.label,
        split=file.split,
        sha256=file.sha256,
        view=file.view,
        group=file.group,
        image=file.image,
    )
    augment = file.header.augment
    recipe = None if augment is None else AugmentOptions.model_validate(augment)
    trunk = bottleneck.tapped([(name, bottleneck.spec.whole) for name in paths])
    requests = requests_of(file, manifest)
    if on == "ray":
        on_ray.fill(trunk, requests, recipe, store)
    extraction = extract(trunk, requests, recipe=recipe, store=store)
    for tap, path in enumerate(paths.values()):
        try:
            extraction.write(path, file.header.class_names, columns, tap)
        except WriteError as error:
            remedy = f"{error.remedy}, or use finetune.trunk: live"
            raise WriteError(error.path, error.said, remedy) from error
