"""Writes reference/params.md in both languages: `python -m docs.make reference`.

Type and range come from the options that the program checks params.yaml with, defaults from
params.yaml itself or, of what it leaves out, from the options, and the effects from effects.yaml.
"""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

from pydantic import BaseModel
from ruamel.yaml import YAML

from docs.sandbox import ROOT
from headstart.catalog.onnx.options import OnnxOptions
from headstart.configuration.params import Params
from headstart.extraction.options import TextOptions
from headstart.finetuning.options import UnfreezeStep
from headstart.heads.options import HeadOptions
from headstart.images.options import AugmentOptions
from headstart.pretraining.options import PretrainRun

WORDS = {
    "en": {
        "title": "Every param",
        "about": "All values of `params.yaml`: what each takes, its default, and what it does. "
        "This page is generated from the code that checks them.",
        "key": "param", "kind": "takes", "default": "default", "effect": "what it does",
        "integer": "whole number", "number": "number", "string": "text",
        "boolean": "`true` or `false`", "array": "list of", "object": "by name:", "or": "or",
        "to": "to", "table": "settings (own table)", "needed": "must be given",
    },
    "ko": {
        "title": "모든 파라미터",
        "about": "`params.yaml`의 모든 값입니다. 받을 수 있는 값, 기본값, 하는 일을 적었습니다. "
        "이 페이지는 값을 검사하는 코드에서 생성됩니다.",
        "key": "파라미터", "kind": "값", "default": "기본값", "effect": "하는 일",
        "integer": "정수", "number": "수", "string": "문자열",
        "boolean": "`true` 또는 `false`", "array": "목록:", "object": "이름별:", "or": "또는",
        "to": "~", "table": "설정(아래 표)", "needed": "필수",
    },
}  # fmt: skip

_SECTIONS: dict[str, type[BaseModel]] = get_type_hints(Params)
_HEADS = {
    get_args(kind.model_fields["kind"].annotation)[0]: kind
    for kind in get_args(get_args(HeadOptions)[0])
}
_NESTED: dict[str, dict[str, type[BaseModel]]] = {
    "pretrain": {"runs.NAME": PretrainRun},
    "extract": {"augment": AugmentOptions, "onnx": OnnxOptions, "text": TextOptions},
    "train": {f"heads.{name}": kind for name, kind in _HEADS.items()},
    "finetune": {"stages[]": UnfreezeStep},
}
"""Options within sections, which have tables of their own."""


def params_page(language: str) -> str:
    """Return reference/params.md."""
    words = WORDS[language]
    given = YAML(typ="safe").load(ROOT / "params.yaml")
    lines = [f"# {words['title']}", "", words["about"], ""]
    for section, options in _SECTIONS.items():
        lines += [f"## {section}", *_table(options, given[section], language)]
        for name, kind in _NESTED.get(section, {}).items():
            values = given[section]
            for key in name.split("."):
                values = (values or {}).get(key)
            lines += [f"### {section}.{name}", *_table(kind, values or {}, language)]
    return "\n".join(lines).rstrip() + "\n"


def keys() -> Iterator[tuple[str, str]]:
    """Yield the class and the name of every param, each where it is declared."""
    for kind in _classes():
        for field in kind.model_fields:
            yield _home(kind, field).__name__, field


def _classes() -> Iterator[type[BaseModel]]:
    for section, options in _SECTIONS.items():
        yield options
        yield from _NESTED.get(section, {}).values()


def _home(kind: type[BaseModel], field: str) -> type[BaseModel]:
    """Return the class that tells of a param: the first that is told of, from the outside in."""
    told = _effects()
    return next(one for one in kind.__mro__ if field in told.get(one.__name__, {}))


@cache
def _effects() -> dict[str, dict[str, dict[str, str]]]:
    loaded: dict[str, dict[str, dict[str, str]]] = YAML(typ="safe").load(ROOT / "docs/effects.yaml")
    return loaded


def _table(kind: type[BaseModel], given: dict[str, Any], language: str) -> list[str]:
    """Return the table of one class of options, after what the class is about."""
    words, effects, schema = WORDS[language], _effects(), kind.model_json_schema()
    lines = [
        "",
        effects[kind.__name__][""][language],
        "",
        f"| {' | '.join(words[name] for name in ('key', 'kind', 'default', 'effect'))} |",
        "| --- | --- | --- | --- |",
    ]
    # In the order of params.yaml, then what it leaves out.
    for name in dict.fromkeys(
        key for key in (*given, *kind.model_fields) if key in kind.model_fields
    ):
        takes = _takes(schema["properties"][name], words)
        effect = effects[_home(kind, name).__name__][name][language]
        lines.append(f"| `{name}` | {takes} | {_default(kind, name, given, words)} | {effect} |")
    return [*lines, ""]


def _default(kind: type[BaseModel], name: str, given: dict[str, Any], words: dict[str, str]) -> str:
    field = kind.model_fields[name]
    value = given[name] if name in given else field.get_default(call_default_factory=True)
    if name not in given and field.is_required():
        return str(words["needed"])
    if isinstance(value, BaseModel) or (isinstance(value, dict) and value):
        return ""
    return f"`{json.dumps(value) if not isinstance(value, str) else value}`"


def _takes(one: dict[str, Any], words: dict[str, str]) -> str:
    """Return what a param takes, in words, from its JSON schema."""
    if "anyOf" in one:
        options = [_takes(other, words) for other in one["anyOf"]]
        return f" {words['or']} ".join(dict.fromkeys(options))
    if "$ref" in one or "oneOf" in one:
        return words["table"]
    if "enum" in one or "const" in one:
        return ", ".join(f"`{value}`" for value in one.get("enum", [one.get("const")]))
    kind = one.get("type", "string")
    if kind == "null":
        return "`null`"
    if kind == "array":
        count = f"{one['minItems']} × " if one.get("minItems", 1) > 1 else ""
        return f"{words['array']} {count}{_takes(one['items'], words)}"
    if kind == "object":
        return f"{words['object']} {_takes(one['additionalProperties'], words)}"
    return f"{words[kind]}{_range(one, words)}"


def _range(one: dict[str, Any], words: dict[str, str]) -> str:
    """Return the range of a number."""
    low, high = one.get("minimum"), one.get("maximum")
    above, below = one.get("exclusiveMinimum"), one.get("exclusiveMaximum")
    parts = []
    if low is not None and high is not None:
        return f", {low} {words['to']} {high}"
    if low is not None:
        parts.append(f"≥ {low}")
    if above is not None:
        parts.append(f"> {above}")
    if high is not None:
        parts.append(f"≤ {high}")
    if below is not None:
        parts.append(f"< {'2³²' if below == 2**32 else below}")
    return f" {', '.join(parts)}" if parts else ""


def write(folder: Path = ROOT / "docs") -> None:
    """Write the page in both languages."""
    for language in WORDS:
        path = folder / language / "reference" / "params.md"
        path.write_text(params_page(language), encoding="utf-8")
