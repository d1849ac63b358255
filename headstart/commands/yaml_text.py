"""Editing a YAML file that people write by hand: comments, order and layout stay."""

import io
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML

_UNBROKEN = 4096
"""Columns: no line of the file is broken that was not."""


def load(text: str) -> Any:
    """Return the content of a YAML text, with its comments."""
    return _round_trip().load(text)


def dump(content: Any) -> str:
    """Return as text what `load` returned."""
    written = io.StringIO()
    _round_trip().dump(content, written)
    return written.getvalue()


def changed(text: str, changes: Mapping[str, Any]) -> str:
    """Return a YAML text with other values; everything else of it stays as it is.

    Args:
        text: Content of params.yaml.
        changes: Values by dotted key; sections that lack are added.
    """
    content = load(text)
    for key, value in changes.items():
        *sections, last = key.split(".")
        section = content
        for name in sections:
            if section.get(name) is None:
                section[name] = {}
            section = section[name]
        if section.get(last) != value:
            section[last] = value
    return dump(content)


def _round_trip() -> YAML:
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = _UNBROKEN
    # Written as it is in the file, instead of as nothing at all.
    yaml.representer.add_representer(
        type(None), lambda own, _: own.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    return yaml
