"""`headstart cache`: look into the cache folder, check it, tidy it, make room, share it."""

import argparse
import json
import re
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from headstart.commands import arguments
from headstart.commands.cache.upkeep import (
    CacheEntry,
    State,
    StoredFeatures,
    compact_all,
    entries,
    prune,
    summarize,
    verify,
)
from headstart.commands.tables import Column, Table, fit, output_width
from headstart.common.cache import ENVIRONMENT_VARIABLE, FEATURES, KINDS, UNSEALED, open_cache
from headstart.common.params import load_section
from headstart.common.progress import progress
from headstart.common.text import counted

_DAY = 86_400.0
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY_UNITS = {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    info = actions.add_parser("info", help="what is in the cache, per extractor and kind")
    info.add_argument("--json", action="store_true", help="print the numbers as JSON")
    actions.add_parser("verify", help="check all that is kept against its checksums")
    actions.add_parser(
        "compact",
        help="merge small files of features into large ones",
        description="Merge small files of an extractor's features into ones of up to 256 MiB or "
        "65,536 vectors, each vector checked on the way, and keep once what is there twice. "
        "Others may read and write meanwhile. An extraction does so by itself when it has left "
        "more than 256 files below 4 MiB.",
    )
    pruning = actions.add_parser(
        "prune",
        help="delete what is damaged or abandoned, and what is old or too much",
        description="Delete what is damaged or was left by a killed run; with the options also "
        "what has not been used for long, and then what was used least recently. What a running "
        "process holds stays; what is deleted is computed again when it is needed.",
    )
    pruning.add_argument(
        "--older-than", type=_days, metavar="DAYS", help="delete what was not used for so long"
    )
    pruning.add_argument(
        "--max-size", type=_bytes, metavar="SIZE", help="keep at most so much, such as 500MB or 2GB"
    )
    for name, text in (
        ("push", "copy features to an object store or a folder, for other machines"),
        ("pull", "copy features from there, each part checked before it is used"),
    ):
        sharing = actions.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}. Only what lacks is moved, and nothing is "
            "deleted. Credentials are those of the store's own tools, such as AWS_PROFILE; "
            "AWS_ENDPOINT_URL names another server.",
        )
        sharing.add_argument(
            "url",
            metavar="URL",
            type=arguments.path,
            help="such as s3://bucket/headstart, or a folder",
        )
        sharing.add_argument(
            "--all",
            action="store_true",
            help="features of all extractors (default: of the one that params.yaml names)",
        )


def run(args: argparse.Namespace) -> int:
    """Do what was asked; the status is 1 when damage was found.

    Raises:
        InputError: the folder is not Headstart's cache, or the store of a URL cannot be used.
    """
    cache = open_cache()
    if args.action == "info":
        return _info(cache, as_json=args.json)
    if args.action == "verify":
        return _verify(cache)
    if args.action in ("push", "pull"):
        return _share(cache, args.action, args.url, every=args.all)
    if args.action == "compact":
        return _compact(cache)
    deleted, left = prune(cache, older_than=args.older_than, max_size=args.max_size)
    freed = sum(entry.size for entry in deleted)
    print(f"{len(deleted):,} files or folders deleted, {_size(freed)} freed; {_size(left)} left")
    return 0


def _info(cache: Path, *, as_json: bool) -> int:
    found = list(entries(cache))
    kinds = {kind: [entry for entry in found if entry.kind == kind] for kind in KINDS}
    stored = summarize([entry for entry in kinds[FEATURES] if _is_shard(entry)])
    if as_json:
        content = {
            "folder": str(cache),
            "bytes": _bytes_of(found),
            "rubbish_bytes": _bytes_of(found, "rubbish"),
            "kinds": {
                kind: {"entries": _number(inside), "bytes": _bytes_of(inside)}
                for kind, inside in kinds.items()
            },
            "extractors": [_as_json(features) for features in stored],
        }
        print(json.dumps(content, indent=2, ensure_ascii=False))
        return 0
    console = Console(soft_wrap=True, highlight=False, markup=False)
    for table in [_extractors(stored)] * bool(stored) + [_kinds(kinds)] * bool(found):
        for line in table.lines:
            console.print(line)
        if table.left_out:
            console.print(f"Left out for want of room: {', '.join(table.left_out)} (--json)")
        console.print()
    print(
        f"{cache} ({ENVIRONMENT_VARIABLE} names another): {_size(_bytes_of(found))}, of which "
        f"{_size(_bytes_of(found, 'rubbish'))} to prune"
    )
    return 0


def _is_shard(entry: CacheEntry) -> bool:
    return entry.state == "kept" and not entry.is_index


def _bytes_of(found: Iterable[CacheEntry], *states: State) -> int:
    return sum(entry.size for entry in found if entry.state in states or not states)


def _number(found: Iterable[CacheEntry]) -> int:
    """Count what is kept; what only says where it lies is a part of it."""
    return sum(not entry.is_index for entry in found)


def _as_json(features: StoredFeatures) -> dict[str, object]:
    return {
        **features.identity.as_dict(),
        "vectors": features.vectors,
        "shards": features.shards,
        "bytes": features.size,
        "last_used": datetime.fromtimestamp(features.used, UTC).isoformat(timespec="seconds"),
    }


def _extractors(stored: list[StoredFeatures]) -> Table:
    known = [features.identity for features in stored]
    return fit(
        [
            Column(
                "backbone",
                [f"{one.backbone} {one.image_size[0]} x {one.image_size[1]}" for one in known],
                right=False,
            ),
            Column("layer", [f"{one.layer} {one.pooling}" for one in known], right=False),
            Column(
                "weights",
                [f"{one.weights} {one.weights_sha256[:8]}" for one in known],
                right=False,
                spare=2,
            ),
            Column(
                "engine",
                [
                    f"{one.engine} {one.precision}"
                    + (f", kept as {one.store_dtype}" if one.store_dtype != "float32" else "")
                    for one in known
                ],
                right=False,
                spare=3,
            ),
            Column("vectors", [f"{features.vectors:,}" for features in stored]),
            Column("shards", [f"{features.shards:,}" for features in stored], spare=4),
            Column("size", [_size(features.size) for features in stored]),
            Column(
                "last used", [_ago(time.time() - features.used) for features in stored], spare=1
            ),
        ],
        output_width(),
    )


def _kinds(kinds: dict[str, list[CacheEntry]]) -> Table:
    there = {kind: found for kind, found in kinds.items() if found}
    used = [max(entry.used for entry in found) for found in there.values()]
    return fit(
        [
            Column("kind", [KINDS[kind] for kind in there], right=False),
            Column("number", [f"{_number(found):,}" for found in there.values()]),
            Column("size", [_size(_bytes_of(found)) for found in there.values()]),
            Column("in use", [_size(_bytes_of(found, "in use")) for found in there.values()]),
            Column("to prune", [_size(_bytes_of(found, "rubbish")) for found in there.values()]),
            Column("last used", [_ago(time.time() - one) for one in used], spare=1),
        ],
        output_width(),
    )


def _verify(cache: Path) -> int:
    kept = [
        entry for entry in entries(cache) if entry.state == "kept" and entry.kind not in UNSEALED
    ]
    vectors = others = damaged = 0
    for entry in progress(kept, desc="Verifying", unit="file"):
        # What another process has just deleted is not damaged.
        with suppress(FileNotFoundError):
            sound = verify(entry)
            damaged += sound is None
            if entry.kind == FEATURES:
                vectors += sound or 0
            else:
                others += sound or 0
    print(
        f"{vectors:,} vectors and {others:,} other results are sound; {damaged:,} files or folders "
        f"are not{', as told above' if damaged else ''}"
    )
    return 1 if damaged else 0


def _share(cache: Path, action: str, url: str, *, every: bool) -> int:
    # Only now: the catalog is not needed to look into the cache.
    from headstart.commands.cache import remote

    moved = (remote.push if action == "push" else remote.pull)(
        cache, url, None if every else [_fingerprint()]
    )
    print(
        f"{counted(moved.shards, 'shard')} {action}ed, {_size(moved.size)}; "
        f"{moved.present:,} there already"
        + (f"; {moved.damaged:,} left out, as told above" if moved.damaged else "")
    )
    return 1 if moved.damaged else 0


def _fingerprint() -> str:
    from headstart.extraction import engines
    from headstart.extraction.bottleneck import identify
    from headstart.extraction.options import ExtractOptions

    options = load_section("extract", ExtractOptions)
    engine = engines.resolve(options.engine, options.precision, options.backbone)
    return identify(options, engine).taps[0].fingerprint


def _compact(cache: Path) -> int:
    parts = merged = duplicates = freed = 0
    for done in compact_all(cache):
        parts += done.parts
        merged += done.merged
        duplicates += done.duplicates
        freed += done.freed
    print(
        f"{parts:,} files of features merged into {merged:,}; {duplicates:,} vectors were there "
        f"twice, {_size(max(0, freed))} freed"
    )
    return 0


def _days(text: str) -> float:
    try:
        days = float(text)
    except ValueError:
        days = -1.0
    if days < 0:
        raise argparse.ArgumentTypeError(f"expected a number of days, received {text!r}")
    return days * _DAY


def _bytes(text: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]i?|)b?", text.strip().lower())
    if match is None:
        raise argparse.ArgumentTypeError(
            f"expected a size such as 500MB, 2GB or 1.5GiB, received {text!r}"
        )
    number, unit = match.groups()
    return int(float(number) * (_UNITS | _BINARY_UNITS)[unit])


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def _ago(seconds: float) -> str:
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min ago"
    return f"{seconds / 3600:.0f} h ago" if seconds < 2 * _DAY else f"{seconds / _DAY:.0f} days ago"
