"""`headstart parts`: the extraction divided among many machines that share a feature store."""

import argparse
import json
import sys
import time
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from headstart.commands import arguments
from headstart.common import places
from headstart.common.lock import check_lock
from headstart.common.params import load_section
from headstart.common.seal import checksum_file
from headstart.dataset.manifest import Manifest, read_manifest
from headstart.extraction.bottleneck import Bottleneck
from headstart.extraction.options import ExtractOptions
from headstart.extraction.parts import (
    MOST,
    Census,
    Plan,
    bottleneck_of,
    compute_part,
    take_census,
)
from headstart.extraction.store import FeatureStore

_SHOWN = 20
"""Parts that are shown one by one."""

_WIDE = 200


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    planning = actions.add_parser(
        "plan",
        help="divide what `dvc repro extract` would compute into parts",
        description=f"Write {places.PARTS}: into how many parts the images and views of "
        f"{places.MANIFEST} are divided, as section extract of params.yaml asks for them. Which "
        "image is in which part follows from its content and the number of parts alone.",
    )
    planning.add_argument(
        "--count",
        type=arguments.whole_number(1, MOST),
        required=True,
        metavar="N",
        help="number of parts",
    )
    running = actions.add_parser(
        "run",
        help="compute what the feature store lacks of one part",
        description="Compute what the feature store lacks of one part. It may run beside others, "
        "twice, and be killed at any time.",
    )
    running.add_argument(
        "number",
        type=arguments.whole_number(0, MOST),
        metavar="K",
        help="which part, from 0 to N-1",
    )
    status = actions.add_parser("status", help="how many vectors each part has and lacks")
    status.add_argument("--json", action="store_true", help="print the numbers as JSON")
    parser.epilog = (
        "All processes need the project, its photos and one feature store (HEADSTART_CACHE on a "
        "shared disk). When nothing remains, `dvc repro` computes nothing and goes on."
    )


def run(args: argparse.Namespace) -> int:
    """Do what was asked.

    Raises:
        InputError: there is no table of images, no plan or no such part, the plan is of something
            else, or an image cannot be read.
    """
    options = load_section("extract", ExtractOptions)
    manifest = read_manifest(places.MANIFEST)
    bottleneck = bottleneck_of(options)
    if args.action == "plan":
        plan = _plan_now(args.count, options, bottleneck)
        plan.write(places.PARTS)
    else:
        plan = Plan.read(places.PARTS)
        plan.check(_plan_now(plan.count, options, bottleneck), places.PARTS)
    store = FeatureStore()
    if args.action == "run":
        # What other code computes would stand in the store under the same keys.
        check_lock("extract")
        started = time.perf_counter()
        counts = compute_part(manifest, options, bottleneck, store, args.number, plan.count)
        seconds = time.perf_counter() - started
        print(
            f"part {args.number} of {plan.count:,}: {counts.computed:,} computed, "
            f"{counts.reused:,} reused, {seconds:.1f} s"
        )
        return 0
    as_json = args.action == "status" and args.json
    _show(manifest, options, bottleneck, store, plan, as_json=as_json)
    return 0


def _plan_now(count: int, options: ExtractOptions, bottleneck: Bottleneck) -> Plan:
    # Reading the table has just compared it with this digest.
    digest = checksum_file(places.MANIFEST).read_text(encoding="utf-8").split()[0]
    return Plan.of(count, digest, options, bottleneck)


def _show(
    manifest: Manifest,
    options: ExtractOptions,
    bottleneck: Bottleneck,
    store: FeatureStore,
    plan: Plan,
    *,
    as_json: bool,
) -> None:
    census = take_census(manifest, options, bottleneck, store, plan.count)
    stored, lacking = int(census.stored.sum()), int(census.lacking.sum())
    if as_json:
        content = {
            "parts": plan.count,
            "stored": stored,
            "lacking": lacking,
            "remaining": [int(number) for number in census.lacking.nonzero()[0]],
            "by_part": [
                {"part": number, "stored": has, "lacking": lacks}
                for number, (has, lacks) in enumerate(
                    zip(census.stored.tolist(), census.lacking.tolist(), strict=True)
                )
            ],
        }
        print(json.dumps(content, indent=2))
        return
    console = Console(width=None if sys.stdout.isatty() else _WIDE, highlight=False)
    if plan.count <= _SHOWN:
        console.print(_table(census))
    else:
        vectors = census.stored + census.lacking
        print(f"{plan.count:,} parts of {vectors.min():,} to {vectors.max():,} vectors")
    print(f"{places.PARTS}: {stored:,} of {stored + lacking:,} vectors are in {store.root}")
    print(_what_remains(census.lacking.nonzero()[0].tolist(), lacking))


def _what_remains(parts: Sequence[int], lacking: int) -> str:
    if not parts:
        return "Nothing remains: `dvc repro` goes on"
    # As `sbatch --array` takes them.
    named = ",".join(map(_span, _runs(parts)[:_SHOWN]))
    more = ",..." if len(_runs(parts)) > _SHOWN else ""
    kind = "part" if len(parts) == 1 else "parts"
    return (
        f"{lacking:,} vectors remain, in {len(parts):,} {kind} ({named}{more}): "
        "`headstart parts run K` computes part K"
    )


def _runs(parts: Sequence[int]) -> list[tuple[int, int]]:
    """Return the first and the last of each run of neighbors."""
    runs: list[tuple[int, int]] = []
    for part in parts:
        if runs and runs[-1][1] == part - 1:
            runs[-1] = runs[-1][0], part
        else:
            runs.append((part, part))
    return runs


def _span(run: tuple[int, int]) -> str:
    first, last = run
    return f"{first}" if first == last else f"{first}-{last}"


def _table(census: Census) -> Table:
    table = Table(box=box.SIMPLE)
    for title in ("part", "vectors", "stored", "lacking"):
        table.add_column(title, justify="right", no_wrap=True)
    for number, (has, lacks) in enumerate(
        zip(census.stored.tolist(), census.lacking.tolist(), strict=True)
    ):
        table.add_row(f"{number}", f"{has + lacks:,}", f"{has:,}", f"{lacks:,}")
    return table
