"""`headstart cache`: look into the feature store, check it, make room."""

import argparse
import json
import re
import sys
import time
from datetime import UTC, datetime

from rich import box
from rich.console import Console
from rich.table import Table

from headstart.common.progress import progress
from headstart.extraction.engines import openvino_models
from headstart.extraction.store import ENVIRONMENT_VARIABLE, FeatureStore
from headstart.extraction.upkeep import Summary, entries, prune, summarize, verify

_WIDE = 200
"""Characters per line where the output is no terminal, so that nothing is cut off."""

_DAY = 86_400.0
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY_UNITS = {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    info = actions.add_parser("info", help="what is in the store, per extractor")
    info.add_argument("--json", action="store_true", help="print the numbers as JSON")
    actions.add_parser("verify", help="check every stored vector against its checksum")
    pruning = actions.add_parser(
        "prune",
        help="delete what is damaged or abandoned, and what is old or too much",
        description="Delete what is damaged or was left by a killed run; with the options also "
        "what has not been used for long, and then what was used least recently. What is deleted "
        "is computed again when it is needed.",
    )
    pruning.add_argument(
        "--older-than", type=_days, metavar="DAYS", help="delete what was not used for so long"
    )
    pruning.add_argument(
        "--max-size", type=_bytes, metavar="SIZE", help="keep at most so much, such as 500MB or 2GB"
    )


def run(args: argparse.Namespace) -> int:
    """Do what was asked; the status is 1 when damage was found."""
    store = FeatureStore()
    if args.action == "info":
        return _info(store, as_json=args.json)
    if args.action == "verify":
        return _verify(store)
    deleted = prune(store, older_than=args.older_than, max_size=args.max_size)
    left = sum(entry.size for entry in entries(store))
    freed = sum(entry.size for entry in deleted)
    print(f"{len(deleted):,} files deleted, {_size(freed)} freed; {_size(left)} left")
    return 0


def _info(store: FeatureStore, *, as_json: bool) -> int:
    summaries = summarize(store)
    sizes = dict.fromkeys(("shard", "model", "rubbish"), 0)
    for entry in entries(store):
        sizes[entry.kind] += entry.size
    if as_json:
        content = {
            "folder": str(store.root),
            "bytes": sum(sizes.values()),
            "model_bytes": sizes["model"],
            "rubbish_bytes": sizes["rubbish"],
            "extractors": [_as_json(summary) for summary in summaries],
        }
        print(json.dumps(content, indent=2, ensure_ascii=False))
        return 0
    if summaries:
        Console(width=None if sys.stdout.isatty() else _WIDE).print(_table(summaries))
    print(
        f"{store.root} ({ENVIRONMENT_VARIABLE} names another): {_size(sizes['shard'])} of features,"
        f" {_size(sizes['model'])} of converted models, {_size(sizes['rubbish'])} to prune"
    )
    return 0


def _as_json(summary: Summary) -> dict[str, object]:
    return {
        **summary.identity.as_dict(),
        "vectors": summary.vectors,
        "shards": summary.shards,
        "bytes": summary.size,
        "last_used": datetime.fromtimestamp(summary.used, UTC).isoformat(timespec="seconds"),
    }


def _table(summaries: list[Summary]) -> Table:
    table = Table(box=box.SIMPLE)
    for title in ("backbone", "layer", "weights", "engine"):
        table.add_column(title, no_wrap=True)
    for title in ("vectors", "shards", "size", "last used"):
        table.add_column(title, justify="right", no_wrap=True)
    for summary in summaries:
        identity = summary.identity
        table.add_row(
            f"{identity.backbone} {identity.image_size[0]} x {identity.image_size[1]}",
            f"{identity.layer} {identity.pooling}",
            f"{identity.weights} {identity.weights_sha256[:8]}",
            f"{identity.engine} {identity.precision}",
            f"{summary.vectors:,}",
            f"{summary.shards:,}",
            _size(summary.size),
            _ago(time.time() - summary.used),
        )
    return table


def _verify(store: FeatureStore) -> int:
    total = sum(entry.kind == "shard" for entry in entries(store))
    vectors = damaged = 0
    for count, sound in progress(verify(store), total=total, desc="Verifying", unit="shard"):
        vectors += count if sound else 0
        damaged += not sound
    models = [entry.path for entry in entries(store) if entry.kind == "model"]
    sound_models = sum(openvino_models.is_sound(path) for path in models)
    damaged += len(models) - sound_models
    print(
        f"{vectors:,} vectors and {sound_models:,} converted models are sound; {damaged:,} "
        f"shards or models were damaged{' and are set aside' if damaged else ''}"
    )
    return 1 if damaged else 0


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
