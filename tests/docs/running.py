"""What all tests of pages share: a page run from top to bottom, and what of it does not hold."""

import shutil
from pathlib import Path

from docs.sandbox import ROOT, Home
from docs.transcripts import agrees, state

EN = ROOT / "docs" / "en"


def pages(folder: str) -> list[str]:
    """Return the names of the English pages of a folder of docs/en."""
    return sorted(path.relative_to(EN).as_posix() for path in (EN / folder).glob("*.md"))


def complaints(path: Path, folder: Path) -> list[str]:
    """Run a page in an empty home folder, and return what is not as it shows."""
    page = path.read_text(encoding="utf-8")
    home = Home(folder / "kim", folder.parent / "shared")
    home.furnish(state(page))
    found = []
    outcomes = home.run(page)
    # A hundred megabytes, times the number of pages.
    shutil.rmtree(home.folder)
    for outcome in outcomes:
        block, shown, printed = outcome.block, outcome.step.shown, outcome.printed
        where = f"{path.name}: `{outcome.step.source}`"
        if not outcome.as_told:
            found.append(f"{where}: exit status {outcome.status}:\n{printed}")
        elif block.mark == "depends on the photos" and not home.as_shown:
            continue
        elif not agrees(shown, printed, as_shown=home.as_shown):
            found.append(f"{where}\n--- shown\n{shown}\n--- printed\n{printed}")
    return found
