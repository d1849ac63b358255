"""Reading params.yaml: the only way in for values that decide a result.

A part of the pipeline declares its options as a `Section` beside its own code, and reads that
section alone.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from headstart.common.errors import InputError
from headstart.common.project import FILES, where_to_run

PARAMS_FILE = FILES[0]

Seed = Annotated[int, Field(ge=0, lt=2**32)]
Share = Annotated[float, Field(ge=0, lt=1)]
Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Side = Annotated[int, Field(ge=1, le=4096)]


def _check_name(name: str) -> str:
    if not name.replace("_", "").replace("-", "").isalnum():
        raise ValueError(
            f"nothing can be called {name!r}: the name stands in file names, so use letters, "
            "digits, '-' and '_'"
        )
    return name


FileName = Annotated[str, AfterValidator(_check_name)]
"""What a user calls a head or a run: any letters and digits, and no path."""


def _spell_out(name: Any) -> Any:
    if isinstance(name, bool):
        return str(name).lower()
    return str(name) if isinstance(name, int | float) else name


ClassName = Annotated[str, BeforeValidator(_spell_out)]
"""The name of a class, where YAML may take it for a number: `0` means the folder "0"."""

T = TypeVar("T")


class Section(BaseModel):
    """Base of all sections: no unknown key, no coercion of text into numbers, frozen."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def load_section(name: str, kind: type[T], path: Path = PARAMS_FILE) -> T:
    """Read and check one section of params.yaml.

    Args:
        name: Of the section.
        kind: What it holds, a `Section`.
        path: The file.

    Raises:
        InputError: the file is missing or no YAML, or a key of the section is missing, unknown or
            out of range; the message names file, key, value and what was expected.
    """
    content = read_params(path)
    if name not in content:
        raise InputError(f"{path}: {name}: the section is missing; add it")
    return check(content[name], kind, path, name)


def read_params(path: Path = PARAMS_FILE) -> dict[str, Any]:
    """Read params.yaml without checking its values.

    Read with ruamel.yaml, as DVC does, so that `1e-3` is a number in both.

    Raises:
        InputError: the file is missing, is no YAML, or holds no sections.
    """
    try:
        # utf-8-sig drops the mark that some editors put at the beginning.
        content = YAML(typ="safe").load(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file: {where_to_run()}") from None
    except MarkedYAMLError as error:
        place = error.problem_mark
        where = f", line {place.line + 1}, column {place.column + 1}" if place else ""
        hint = "; indent with spaces, not with a tab" if place and _by_tab(path, place.line) else ""
        raise InputError(f"{path}{where}: not valid YAML: {error.problem}{hint}") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError(
            f"{path}, line {line}: expected UTF-8, received the byte "
            f"{error.object[error.start]:#04x}; save it as UTF-8"
        ) from None
    except YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected sections such as `prepare:`, received {content!r}")
    return content


def _by_tab(path: Path, number: int) -> bool:
    """Return whether a line is indented by a tab, which the parser does not always say."""
    line = [*path.read_text(encoding="utf-8-sig").splitlines(), ""][number]
    return "\t" in line[: len(line) - len(line.lstrip())]


def check(content: Any, kind: type[T], source: Path | str, section: str = "") -> T:
    """Check values as read from YAML.

    Args:
        content: The values.
        kind: What they must be.
        source: What to call their origin in a message.
        section: Where they stand in it; empty for the whole.

    Raises:
        InputError: as `load_section`.
    """
    try:
        return TypeAdapter(kind).validate_python(content)
    except ValidationError as error:
        raise InputError(_explain(error, content, source, section)) from None


def _explain(error: ValidationError, content: Any, source: Path | str, section: str) -> str:
    problems: defaultdict[str, list[str]] = defaultdict(list)
    received: dict[str, str] = {}
    for keys, problem in _worth_telling(error.errors(include_url=False), content):
        key = ".".join([*([section] if section else []), *keys]) or "the file"
        message, value = problem["msg"].removeprefix("Value error, "), problem["input"]
        match problem["type"]:
            case "extra_forbidden":
                message = "unknown key; remove it or correct its spelling"
            case "model_type" | "model_attributes_type":
                message = "Input should be keys with values"
            case "union_tag_invalid":
                message = f"Input should be one of {problem['ctx']['expected_tags']}"
                value = value["kind"]
        # Each branch of "this or that" complains for itself.
        if problems[key]:
            message = message.removeprefix("Input should be ")
        if message not in problems[key]:
            problems[key].append(message)
        # A rule about several values names them itself, rather than the whole section.
        is_rule = problem["type"] == "value_error" and isinstance(value, Mapping)
        is_bare = is_rule or problem["type"] == "missing"
        received[key] = "" if is_bare else f", received {value!r}"
    return "\n".join(
        f"{source}: {key}: {' or '.join(messages)}{received[key]}"
        for key, messages in problems.items()
    )


def _worth_telling(
    errors: Sequence[ErrorDetails], content: Any
) -> Iterator[tuple[list[str], ErrorDetails]]:
    """Give the keys of each problem; leave out what follows from another one.

    Of "this or that" the branch that got furthest tells what is wrong; where a name is wrong,
    what it stands for does not matter.
    """
    found = []
    for problem in errors:
        keys = _keys(problem["loc"], content, problem["type"] == "missing")
        if problem["type"] == "union_tag_invalid":
            keys.append("kind")
        found.append((keys, problem))
    names = [keys for keys, problem in found if _is_name(problem)]
    for keys, problem in found:
        further = any(len(other) > len(keys) and other[: len(keys)] == keys for other, _ in found)
        if _is_name(problem) or not (further or any(keys[: len(name)] == name for name in names)):
            yield keys, problem


def _is_name(problem: ErrorDetails) -> bool:
    return bool(problem["loc"]) and problem["loc"][-1] == "[key]"


def _keys(location: tuple[Any, ...], content: Any, missing: bool) -> list[str]:
    """Keep the keys that a user wrote; pydantic also names the types it tried."""
    keys = []
    for position, part in enumerate(location):
        if (isinstance(content, Mapping) and part in content) or (
            isinstance(content, list) and isinstance(part, int) and part < len(content)
        ):
            content = content[part]
        elif not (missing and position == len(location) - 1):
            continue
        keys.append(str(part))
    return keys
