"""Taking over from the template's params.yaml what a user's lacks, with defaults and comments."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from headstart.commands import yaml_text
from headstart.common.params import Section
from headstart.configuration.params import Params


def add_missing(text: str, template: str, sections: Collection[str]) -> tuple[str, list[str]]:
    """Add the keys that a user's params.yaml lacks; no value and no line of it changes.

    Args:
        text: The user's file.
        template: The template's.
        sections: Those to complete. What a user names, such as the heads, is left alone.

    Returns:
        The new text, and the dotted keys that were added.
    """
    content, complete = yaml_text.load(text), yaml_text.load(template)
    keys = [key for key in _missing(content, complete, Params) if key[0] in sections]
    for key in keys:
        text = _add(text, template, key)
    return text, [".".join(key) for key in keys]


def _missing(
    content: Mapping[str, Any], complete: Mapping[str, Any], kind: type[Section]
) -> Iterator[tuple[str, ...]]:
    for key, value in complete.items():
        if key not in content:
            yield (key,)
            continue
        inner = kind.model_fields[key].annotation
        if (
            isinstance(content[key], Mapping)
            and isinstance(inner, type)
            and issubclass(inner, Section)
        ):
            yield from ((key, *rest) for rest in _missing(content[key], value, inner))


@dataclass(frozen=True)
class _Lines:
    """Where a key stands: the lines [start, end), with the comments right above, and its column."""

    start: int
    end: int
    column: int


def _add(text: str, template: str, key: tuple[str, ...]) -> str:
    """Copy the lines of one key behind those of its neighbor."""
    lines, source = _split(text), _split(template)
    *sections, last = key
    content, complete = yaml_text.load(text), yaml_text.load(template)
    end, source_end = len(lines), len(source)
    for name in sections:
        end = _places(content, lines, end)[name].end
        source_end = _places(complete, source, source_end)[name].end
        content, complete = content[name], complete[name]
    if not content or content.fa.flow_style():
        # {within: braces} there are no lines to copy to.
        return yaml_text.changed(text, {".".join(key): complete[last]})
    places, source_places = _places(content, lines, end), _places(complete, source, source_end)
    earlier = list(complete)[: list(complete).index(last)]
    before = [name for name in earlier if name in places]
    position = places[before[-1]].end if before else next(iter(places.values())).start
    copied = source_places[last]
    shift = next(iter(places.values())).column - copied.column
    block = [_shifted(line, shift) for line in source[copied.start : copied.end]]
    if not sections:
        block = ["\n", *block]
    return "".join([*lines[:position], *block, *lines[position:]])


def _places(content: Any, lines: list[str], end: int) -> dict[str, _Lines]:
    """Return the place of each key of a block mapping that ends before the line `end`."""
    starts = []
    # A key that `<<: *anchor` merges in has no place of its own.
    for name in (name for name in content if name in content.lc.data):
        start, column = content.lc.key(name)
        while start > 0 and lines[start - 1].startswith(" " * column + "#"):
            start -= 1
        starts.append((name, start, column))
    places = {}
    for (name, start, column), following in zip(
        starts, [*(start for _, start, _ in starts[1:]), end], strict=True
    ):
        stop = following
        while not lines[stop - 1].strip():
            stop -= 1
        places[name] = _Lines(start, stop, column)
    return places


def _shifted(line: str, columns: int) -> str:
    if not line.strip():
        return line
    return " " * columns + line if columns >= 0 else line[-columns:]


def _split(text: str) -> list[str]:
    if text and not text.endswith("\n"):
        text += "\n"
    return text.splitlines(keepends=True)
