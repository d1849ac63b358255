"""What a page shows: its blocks of code, and whether what they print is what stands below them."""

import re
from dataclasses import dataclass
from typing import Literal

_FENCE = re.compile(
    r"(?:^<!-- (?P<mark>not run|fails|depends on the photos)(?:: (?P<reason>[^\n]*?))? -->\n+)?"
    r"^```(?P<language>[^\n`]*)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
_STATE = re.compile(r"\A<!-- state: ([^\n]*?) -->")
_NAMED = re.compile(r"\A(?:# |<!-- )([\w./-]+\.\w+)(?: -->)?\n")
_NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?(?![\w.]*\w)")
_UNIT = re.compile(r"\s*(?:s|ms|min|minutes?|hours?|[kMG]?B)\b")

Kind = Literal["console", "file", "examples", "shown"]


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        kind: `console`: commands and what they print. `file`: its first line is a comment that
            names the file it is, or, of params.yaml, the part of it that is set. `examples`: Python
            with prompts. `shown`: nothing to run.
        language: Of the fence.
        text: Between the fences.
        start: Where the text begins in the page, in characters.
        mark: What the comment before it says: `not run`, `fails` or `depends on the photos`.
        reason: Why, of what is not run.
    """

    kind: Kind
    language: str
    text: str
    start: int
    mark: str | None
    reason: str | None

    @property
    def path(self) -> str:
        """The file that a `file` is."""
        match = _NAMED.match(self.text)
        assert match is not None
        return match[1]


@dataclass(frozen=True)
class Step:
    """A command or a Python statement, and what a page shows below it."""

    source: str
    shown: str


def state(page: str) -> list[str]:
    """Return what the page's first line says that its blocks start from."""
    match = _STATE.match(page)
    return [name.strip() for name in match[1].split(",")] if match else []


def blocks(page: str) -> list[Block]:
    """Return a page's fenced blocks in order."""
    found = []
    for match in _FENCE.finditer(page):
        text, language = match["text"], match["language"]
        kind: Kind = "shown"
        if language == "console":
            kind = "console"
        elif language == "python" and text.startswith(">>> "):
            kind = "examples"
        elif _NAMED.match(text):
            kind = "file"
        found.append(
            Block(kind, language, text, match.start("text"), match["mark"], match["reason"])
        )
    return found


def steps(block: Block) -> list[Step]:
    """Return the commands of a console block, or the statements of examples, with their output."""
    first, more = ("$ ", "> ") if block.kind == "console" else (">>> ", "...")
    found: list[tuple[list[str], list[str]]] = []
    for line in block.text.splitlines():
        if line.startswith(first):
            found.append(([line.removeprefix(first)], []))
        elif found and line.startswith(more) and not found[-1][1] and _goes_on(found[-1][0], line):
            found[-1][0].append(line.removeprefix(more).removeprefix(" " if more == "..." else ""))
        elif found:
            found[-1][1].append(line)
        else:
            raise ValueError(f"a block must start with {first!r}, received {line!r}")
    return [Step("\n".join(source), "\n".join(shown).rstrip("\n")) for source, shown in found]


def _goes_on(source: list[str], line: str) -> bool:
    """Tell whether a line that may go on with a command does; `...` is also an elision."""
    return (
        line.startswith("> ")
        or source[-1].endswith((":", "(", "[", "{", ",", "\\"))
        or bool(re.match(r"\.\.\. ", line))
    )


def written(block: Block, outputs: list[str]) -> str:
    """Return the text of a block with other output below its steps."""
    first, more = ("$ ", "> ") if block.kind == "console" else (">>> ", "... ")
    lines = []
    for step, output in zip(steps(block), outputs, strict=True):
        head, *rest = step.source.split("\n")
        lines += [first + head, *(more + line for line in rest)]
        lines += output.splitlines()
    return "\n".join(lines) + "\n"


def agrees(shown: str, printed: str, *, as_shown: bool = True) -> bool:
    """Tell whether what was printed is what a page shows.

    A line `...` stands for any lines, `...` at the end of a line for its rest. What a
    time or a size is may differ; other numbers with decimals by 0.1 if they are between -1 and 1,
    by a third otherwise; whole numbers may not.

    Args:
        shown: By the page.
        printed: By the command.
        as_shown: Whether it ran on the photos and weights that the page was written with. If not,
            numbers, files, the heads that do best and the order of lines may differ, too.
    """
    want, have = (
        [plain for line in text.splitlines() if (plain := _plain(line))]
        for text in (shown, printed)
    )
    if not as_shown:
        want, have = ([_loose(line) for line in lines] for lines in (want, have))
        cut = [line.removesuffix("...") for line in want if line != "..."]
        if "..." in want or any(line.endswith("...") for line in want):
            return all(any(line.startswith(one) for line in have) for one in cut)
        return sorted(want) == sorted(have)
    return _follow(want, have)


def _follow(want: list[str], have: list[str]) -> bool:
    """Match lines one by one, where `...` takes any number of them."""
    if not want:
        return not have
    if want[0] == "...":
        return any(_follow(want[1:], have[start:]) for start in range(len(have) + 1))
    return bool(have) and _same(want[0], have[0]) and _follow(want[1:], have[1:])


def _same(want: str, have: str) -> bool:
    if want.endswith("..."):
        want = want.removesuffix("...").rstrip()
        # Numbers may have other lengths, so the line is cut after as many words.
        have = " ".join(have.split()[: len(want.split())])
    if _NUMBER.sub("#", want) != _NUMBER.sub("#", have):
        return False
    return all(
        _near(one, other, _UNIT.match(want, one.end()) is not None)
        for one, other in zip(_NUMBER.finditer(want), _NUMBER.finditer(have), strict=True)
    )


def _near(want: re.Match[str], have: re.Match[str], unit: bool) -> bool:
    first, second = (match[0].replace(",", "") for match in (want, have))
    if unit or first == second:
        return True
    if first.lstrip("+-").isdigit() and second.lstrip("+-").isdigit():
        return False
    one, other = float(first), float(second)
    return abs(one - other) <= (0.1 if abs(one) <= 1 else abs(one) / 3)


def _plain(line: str) -> str:
    """Return a line without what draws tables and commits' hashes, and with single spaces."""
    line = re.sub(r"\b(?=[0-9a-f]*[a-f])(?=[0-9a-f]*\d)[0-9a-f]{6,7}\b", "HASH", line)
    return " ".join(re.sub(r"[─━│┃┏┓┗┛┡┩└┘┌┐├┤┬┴┼╇┳┻]+|-{4,}", " ", line).split())


def _loose(line: str) -> str:
    """Return a line without what depends on the photos."""
    line = re.sub(r"(?<!\S)\S+\.(?:jpg|png)(?!\S)", "FILE", line)
    line = re.sub(r", a tie with \w+", "", line)
    line = re.sub(
        r"\b(?:dense|gap|linear_svc|logistic|ridge|knn|prototype|finetuned)\b", "HEAD", line
    )
    line = re.sub(r"\b(?:cat|dog)\b", "CLASS", line)
    return " ".join(_NUMBER.sub("#", line.replace("*", "")).split())
