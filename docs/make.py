"""Builds the pages and renews what they show (`python -m docs.make --help`)."""

import argparse
import shutil
import sys
import tempfile
from itertools import groupby
from pathlib import Path

from docs import figures, reference
from docs.sandbox import ROOT, Home, Outcome
from docs.transcripts import agrees, blocks, state, written

DOCS = ROOT / "docs"
LANGUAGES = {"en": "English", "ko": "한국어"}
BUILT = DOCS / "_build"


def html(target: Path = BUILT) -> int:
    """Build the pages of both languages into target/<language>/; return the exit status."""
    # Here, because renewing pages needs no Sphinx.
    from sphinx.cmd.build import main as build

    status = 0
    for language in LANGUAGES:
        status |= build([
            "-q", "-W", "--keep-going", "-c", str(DOCS), "-D", f"language={language}",
            "-d", str(target / ".doctrees" / language), str(DOCS / language),
            str(target / language),
        ])  # fmt: skip
    shutil.copy2(DOCS / "theme" / "index.html", target / "index.html")
    return status


def refresh(pages: list[Path]) -> int:
    """Run English pages, and put what their commands print in place of what no longer agrees.

    The Korean page of the same name gets the same blocks.
    """
    status = 0
    for path in pages:
        page = path.read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory() as folder:
            home = Home(Path(folder, "kim"))
            home.furnish(state(page))
            outcomes = home.run(page)
        if not home.as_shown:
            print(f"{path}: without the photos or weights that it names; nothing is written")
            return 1
        for outcome in outcomes:
            if not outcome.as_told:
                print(
                    f"{path}: exit status {outcome.status}: {outcome.step.source}", file=sys.stderr
                )
                print(outcome.printed[-3000:], file=sys.stderr)
                status = 1
        path.write_text(renewed(page, outcomes), encoding="utf-8")
        translate(path)
    return status


def renewed(page: str, outcomes: list[Outcome]) -> str:
    """Return a page with what was printed, where it is not what the page shows."""
    for start, group in groupby(reversed(outcomes), key=lambda outcome: outcome.block.start):
        listed = list(group)[::-1]
        block = listed[0].block
        outputs = [
            one.step.shown if agrees(one.step.shown, one.printed) else one.printed for one in listed
        ]
        page = page[:start] + written(block, outputs) + page[start + len(block.text) :]
    return page


def translate(path: Path) -> None:
    """Put an English page's blocks into its Korean one."""
    other = translation(path)
    if not other.is_file():
        return
    theirs = other.read_text(encoding="utf-8")
    mine = blocks(path.read_text(encoding="utf-8"))
    if len(mine) != len(blocks(theirs)):
        print(f"{other}: {len(blocks(theirs))} blocks, {path} has {len(mine)}", file=sys.stderr)
        return
    for block, old in reversed(list(zip(mine, blocks(theirs), strict=True))):
        if block.kind != "shown":
            theirs = theirs[: old.start] + block.text + theirs[old.start + len(old.text) :]
    other.write_text(theirs, encoding="utf-8")


def translation(path: Path) -> Path:
    """Return the Korean page of an English one."""
    if path.name == "README.md":
        return path.with_name("README.ko.md")
    return DOCS / "ko" / path.resolve().relative_to(DOCS / "en")


def main() -> int:
    """Read the arguments, and do what they say."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    built = commands.add_parser("html", help="build the pages")
    built.add_argument("folder", nargs="?", type=Path, default=BUILT, help="(default: docs/_build)")
    commands.add_parser("figures", help="draw the figures of the course")
    commands.add_parser("reference", help="write the pages that are generated from the code")
    renew = commands.add_parser("refresh", help="run English pages and renew the output they show")
    renew.add_argument("pages", nargs="+", type=Path)
    args = parser.parse_args()
    if args.command == "reference":
        reference.write()
        return 0
    if args.command == "figures":
        figures.write()
        return 0
    return html(args.folder) if args.command == "html" else refresh(args.pages)


if __name__ == "__main__":
    sys.exit(main())
