"""An extraction in parts, each for a process of its own: at once on many machines, or in turn.

An image belongs to the part in whose range of the 64-bit prefixes the key of its view 0 lies. So
parts are disjoint and together all there is, whatever the store holds already; all views of an
image, and all files with the same content, are in one. The store is all that the processes share.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headstart.common.errors import InputError
from headstart.common.progress import progress
from headstart.common.seal import read_sealed_json, write_sealed_json
from headstart.dataset.manifest import Manifest
from headstart.extraction import engines
from headstart.extraction.bottleneck import Bottleneck, identify
from headstart.extraction.extract import Counts, Extraction, extract
from headstart.extraction.feature_rows import Wanted, choose_images, wanted_features
from headstart.extraction.options import ExtractOptions
from headstart.extraction.requests import keys_of
from headstart.extraction.store import FeatureStore, make_keys, unique_keys

MOST = 100_000
"""Parts at most."""

BLOCK = 16_384
"""Images that are in memory as requests at a time: memory does not grow with a part."""

_PREFIXES = 2**64


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Into how many parts an extraction is divided, and which one that is.

    Attributes:
        count: Number of parts.
        manifest: Digest of the table of images.
        features: All that decides which vectors there are, by name, as JSON types.
    """

    count: int
    manifest: str
    features: dict[str, Any]

    @classmethod
    def of(
        cls, count: int, manifest: str, options: ExtractOptions, bottleneck: Bottleneck
    ) -> "Plan":
        """Return the plan of what is asked for now; see the attributes."""
        features = bottleneck.taps[0].as_dict()
        # The name of a weights file is no part of its content.
        del features["weights"]
        features["share"] = options.share
        recipe = options.augment
        features["augment.views"] = recipe.views
        if recipe.views:
            features |= {f"augment.{name}": value for name, value in recipe.model_dump().items()}
        return cls(count=count, manifest=manifest, features=features)

    def write(self, path: Path) -> None:
        """Write it as sealed JSON."""
        write_sealed_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> "Plan":
        """Read what `write` wrote.

        Raises:
            InputError: there is no plan, or not as it was written.
        """
        remedy = "run `headstart parts plan --count N`"
        content = read_sealed_json(path, remedy)
        if content.keys() != {field.name for field in fields(cls)}:
            raise InputError(
                f"{path}: expected a plan, received another file or one of another release: "
                f"{remedy}"
            )
        return cls(**content)

    def check(self, now: "Plan", path: Path) -> None:
        """Refuse a plan of something else than is asked for now.

        Args:
            now: The plan that would be made now.
            path: Where this one was read.

        Raises:
            InputError: images or features are others.
        """
        remedy = f"plan again: `headstart parts plan --count {self.count}`"
        if self.manifest != now.manifest:
            raise InputError(
                f"{path}: expected the plan of the images that data/manifest.csv lists now, "
                f"received that of an earlier list; {remedy}"
            )
        then, asked = self.features, now.features
        changed = [name for name in {**then, **asked} if then.get(name) != asked.get(name)]
        if changed:
            differences = ", ".join(
                f"{name} {asked.get(name)}, planned {then.get(name)}" for name in changed
            )
            raise InputError(
                f"{path}: expected the plan of the features that section extract of params.yaml "
                f"asks for on this machine, received that of others ({differences}); {remedy}"
            )


class Census(NamedTuple):
    """How many vectors each part has.

    Attributes:
        stored: Vectors that the store has, (n_parts,).
        lacking: Vectors that it lacks, (n_parts,).
    """

    stored: NDArray[np.int64]
    lacking: NDArray[np.int64]


def bottleneck_of(options: ExtractOptions) -> Bottleneck:
    """Return what the stage `extract` would compute on this machine.

    Raises:
        InputError: see `headstart.extraction.bottleneck.identify`.
    """
    return identify(options, engines.resolve(options.engine, options.precision, options.backbone))


def part_of(sha256: Sequence[str], count: int) -> NDArray[np.int64]:
    """Return the part of each image, from 0, (n,).

    Args:
        sha256: Hexadecimal digests of the images' bytes.
        count: Number of parts.
    """
    return _part_of_keys(make_keys(sha256, ["0"] * len(sha256)), count)


def _part_of_keys(keys: NDArray[np.uint8], count: int) -> NDArray[np.int64]:
    prefixes = np.ascontiguousarray(keys[:, :8]).view(">u8").reshape(-1).astype(np.uint64)
    # The first prefix of each part but the first.
    first = [-(-part * _PREFIXES // count) for part in range(1, count)]
    return np.searchsorted(np.array(first, np.uint64), prefixes, side="right").astype(np.int64)


def take_census(
    manifest: Manifest,
    options: ExtractOptions,
    bottleneck: Bottleneck,
    store: FeatureStore,
    count: int,
) -> Census:
    """Count the vectors that each part has and lacks; equal ones count once.

    Args:
        manifest: The images.
        options: The section `extract`.
        bottleneck: Its network.
        store: Where computed features are kept.
        count: Number of parts.
    """
    collection = store.collection(bottleneck.taps[0])
    # 17 bytes for each vector.
    found: list[tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.bool_]]] = []
    for wanted in _blocks(manifest, options, choose_images(manifest, options.share)):
        keys = keys_of(wanted.requests, wanted.recipe)
        own = wanted.rows[:, 1] == 0
        parts = _part_of_keys(keys[own], count)[np.cumsum(own) - 1]
        prefixes = np.ascontiguousarray(keys[:, :8]).view(np.uint64).reshape(-1)
        found.append((prefixes, parts, collection.contains(keys)))
    prefixes, parts, stored = (np.concatenate(column) for column in zip(*found, strict=True))
    _, first = np.unique(prefixes, return_index=True)
    stored, parts = stored[first], parts[first]
    return Census(
        np.bincount(parts[stored], minlength=count), np.bincount(parts[~stored], minlength=count)
    )


def compute_part(
    manifest: Manifest,
    options: ExtractOptions,
    bottleneck: Bottleneck,
    store: FeatureStore,
    number: int,
    count: int,
) -> Counts:
    """Compute the vectors of a part that the store lacks.

    Whatever ends it early, what has been computed is kept but for the shard that was open. Of
    images that cannot be read, all others are computed first.

    Args:
        manifest: The images.
        options: The section `extract`.
        bottleneck: Its network.
        store: Where computed features are kept.
        number: Of the part, from 0.
        count: Number of parts.

    Raises:
        InputError: there is no such part, an image has changed or can no longer be read, or see
            `headstart.extraction.extract.extract`.
    """
    if not 0 <= number < count:
        raise InputError(
            f"part: expected a number from 0 to {count - 1}, as planned, received {number}"
        )
    images, lacking, total = _lacking(manifest, options, bottleneck, store, number, count)
    computed, unreadable = 0, dict[str, str]()
    previous: Extraction | None = None
    with progress(total=lacking, desc="Extracting") as bar:
        bar.set_postfix_str(f"{1 - lacking / max(total, 1):.0%} reused")
        for wanted in _blocks(manifest, options, images):
            previous = extract(
                bottleneck,
                wanted.requests,
                recipe=wanted.recipe,
                store=store,
                previous=previous,
                unreadable=unreadable,
                quiet=True,
                advance=bar.update,
            )
            computed += previous.counts.computed
            previous.release()
    if unreadable:
        computed += _try_again(manifest, options, bottleneck, store, images, unreadable)
    return Counts(computed, total - computed)


def _lacking(
    manifest: Manifest,
    options: ExtractOptions,
    bottleneck: Bottleneck,
    store: FeatureStore,
    number: int,
    count: int,
) -> tuple[NDArray[np.int64], int, int]:
    """Return a part's images of which something lacks, how many vectors lack, and how many it has.

    The first are positions in the manifest, ascending.
    """
    collection = store.collection(bottleneck.taps[0])
    images: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    keys: list[NDArray[np.uint8]] = [np.empty((0, 32), np.uint8)]
    total = 0
    for positions in _batched(choose_images(manifest, options.share)):
        digests = manifest.columns.sha256[positions]
        parts = part_of([digest.tobytes().hex() for digest in digests], count)
        inside = positions[parts == number]
        if not len(inside):
            continue
        wanted = wanted_features(manifest, options, inside)
        asked = keys_of(wanted.requests, wanted.recipe)
        missing = ~collection.contains(asked)
        total += len(asked)
        keys.append(asked[missing])
        images.append(np.unique(wanted.rows[missing, 0]))
    return np.concatenate(images), len(unique_keys(np.concatenate(keys))), total


def _try_again(
    manifest: Manifest,
    options: ExtractOptions,
    bottleneck: Bottleneck,
    store: FeatureStore,
    images: NDArray[np.int64],
    unreadable: dict[str, str],
) -> int:
    """Say of the first image that cannot be read what the stage would; else compute them all."""
    refused = [one for one in images.tolist() if manifest.rows[one].path in unreadable]
    wanted = wanted_features(manifest, options, np.array(refused, np.int64))
    try:
        return extract(
            bottleneck, wanted.requests, recipe=wanted.recipe, store=store, quiet=True
        ).counts.computed
    except InputError as error:
        more = f" (and {len(refused) - 1:,} more images of this part)" if len(refused) > 1 else ""
        raise InputError(f"{error}{more}") from None


def _blocks(
    manifest: Manifest, options: ExtractOptions, images: NDArray[np.int64]
) -> Iterator[Wanted]:
    for positions in _batched(images):
        yield wanted_features(manifest, options, positions)


def _batched(images: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(images), BLOCK):
        yield images[start : start + BLOCK]
