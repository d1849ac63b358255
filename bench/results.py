"""Writing a script's section of bench/RESULTS.md, and saying which machine it ran on."""

import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path

from headstart.common.files import atomic_write

# As the kernel names them; each decides a speed: of float32, or of bfloat16.
_VECTOR_UNITS = (
    ("AVX2", "avx2"),
    ("AVX-512", "avx512f"),
    ("AVX-512 bfloat16", "avx512_bf16"),
    ("AMX bfloat16", "amx_bf16"),
    ("NEON", "asimd"),
    ("NEON bfloat16", "bf16"),
)

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
    """Describe where the figures come from; they hold for one kind of processor."""
    return (
        f"{platform.machine()}, {processor()}, {os.cpu_count()} cores, {platform.system()}, Python "
        f"{platform.python_version()}; load average at the start {os.getloadavg()[0]:.1f}"
    )


def processor() -> str:
    """Return the processor's name and its vector units, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    facts = {}
    for line in lines:
        key, _, value = line.partition(":")
        facts.setdefault(key.strip(), value.strip())
    flags = set((facts.get("flags") or facts.get("Features") or "").split())
    units = [name for name, flag in _VECTOR_UNITS if flag in flags]
    name = " ".join(facts.get("model name", "unknown processor").split())
    return f"{name} ({', '.join(units) or 'no vector unit known'})"
