"""Writing a script's section of bench/RESULTS.md, and saying which machine it ran on."""

import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path

from headstart.common.files import atomic_write

RESULTS = Path(__file__).with_name("RESULTS.md")


def write_section(heading: str, lines: Sequence[str]) -> None:
    """Replace the section of that heading, or append it."""
    text = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else "# Measured\n"
    section = "\n".join([f"## {heading}", "", *lines, ""])
    pattern = re.compile(rf"^## {re.escape(heading)}$.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
    if pattern.search(text):
        text = pattern.sub(lambda _: section + "\n", text)
    else:
        text = f"{text.rstrip()}\n\n{section}"
    with atomic_write(RESULTS) as temporary:
        temporary.write_text(text.rstrip() + "\n", encoding="utf-8")


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(str(cell) for cell in line)} |" for line in lines]


def machine() -> str:
    """Describe where the figures come from."""
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}, Python "
        f"{platform.python_version()}; load average at the start {os.getloadavg()[0]:.1f}"
    )
