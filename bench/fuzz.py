"""Damage and kills, by the thousand and from a seed: what is lost, silent, hanging or a traceback.

python bench/fuzz.py [images | artefacts | kills | interrupts] [--stage NAME] [--count N]
[--seed N] [--results]
"""

import argparse
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import partial
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

import fuzz_artefacts
import fuzz_images
import fuzz_kills
from results import machine, table, write_section
from watchdog import Verdict, judge_all

COUNTS = {"images": 20_000, "artefacts": 5_000, "kills": 20, "interrupts": 10}
"""Images and files to damage; kills and interruptions of each stage and command."""

GOOD = {"accepted", "refused", "same", "finished"}
BAD = {
    "images": ("crash", "disagreement", "hang", "lost", "noise", "silent", "traceback"),
    "artefacts": ("crash", "hang", "nameless", "noise", "silent", "traceback"),
    "kills": ("failed", "leftover", "lost", "silent", "traceback"),
    "interrupts": ("failed", "hang", "leftover", "lost", "silent", "traceback"),
}
_SHOWN = 5
_COMMAND_IMAGES = 300


def main() -> int:
    """Run the parts that were asked for; the status is 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("part", nargs="?", choices=COUNTS, help="default: all")
    parser.add_argument("--stage", choices=fuzz_kills.TARGETS, help="of kills and interrupts")
    parser.add_argument("--count", type=int, help=f"default: {COUNTS}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--results", action="store_true", help="write the table to RESULTS.md")
    parser.add_argument("--folder", type=Path, help="for what is made; default: a temporary one")
    args = parser.parse_args()
    head = machine()
    wrong = 0
    with tempfile.TemporaryDirectory() as scratch_folder:
        folder = args.folder or Path(scratch_folder)
        for part in [args.part] if args.part else COUNTS:
            verdicts = []
            for verdict in _verdicts(part, args, folder):
                verdicts.append(verdict)
                if part in ("kills", "interrupts"):
                    print(part, *verdict[1:3], verdict.detail, file=sys.stderr, flush=True)
            wrong += _show(part, verdicts)
            lines = _table(part, verdicts)
            print("\n".join(lines), flush=True)
            if args.results:
                about = f"Machine: {head}. Seed {args.seed}, {len(verdicts):,} cases."
                write_section(f"Fuzzing: {part}", [about, "", *lines])
    return 1 if wrong else 0


def _verdicts(part: str, args: argparse.Namespace, folder: Path) -> Iterable[Verdict]:
    count = args.count or COUNTS[part]
    match part:
        case "images":
            make = partial(fuzz_images.make_judge, args.seed)
            yield from judge_all(range(count), make, fuzz_images.subject, args.workers)
            yield from fuzz_images.run_commands(args.seed, folder, min(count, _COMMAND_IMAGES))
        case "artefacts":
            project = fuzz_artefacts.make_project(folder / "artefacts")
            make = partial(fuzz_artefacts.make_judge, args.seed, project)
            subject = partial(fuzz_artefacts.subject, args.seed, project)
            yield from judge_all(range(count), make, subject, args.workers)
        case _:
            targets = [args.stage] if args.stage else fuzz_kills.TARGETS
            yield from fuzz_kills.run(part, targets, count, args.seed, folder / part)


def _show(part: str, verdicts: list[Verdict]) -> int:
    """Print some of what is wrong, by kind, with what makes it again; return how many there are."""
    wrong = [one for one in verdicts if one.outcome not in GOOD]
    kinds = defaultdict(list)
    for one in wrong:
        kinds[one.outcome, one.subject].append(one)
    for (outcome, subject), found in sorted(kinds.items()):
        print(f"{part}: {outcome}: {subject}: {len(found)}")
        for one in found[:_SHOWN]:
            print(f"    case {one.case}: {one.detail}")
    return len(wrong)


def _table(part: str, verdicts: list[Verdict]) -> list[str]:
    """Count outcomes by image format, kind of file or stage; what must not be shows as 0."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for one in verdicts:
        name = one.subject.rpartition(".")[2] if part == "images" else one.subject
        counts[name][one.outcome] += 1
    found = {one.outcome for one in verdicts}
    columns = [*sorted(found & GOOD), *sorted({*BAD[part], *(found - GOOD)})]
    return table(
        ["done to", "cases", *columns],
        [
            [name, sum(found.values()), *(found[column] for column in columns)]
            for name, found in sorted(counts.items())
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
