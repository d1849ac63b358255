"""Reading params.yaml: the only way in for values that decide a result."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

from pipeline.errors import InputError
from pipeline.options import (
    EvaluateOptions,
    ExtractOptions,
    FinetuneOptions,
    NoveltyOptions,
    PrepareOptions,
    PretrainOptions,
    ReportOptions,
    Section,
    TrainOptions,
)

PARAMS_FILE = Path("params.yaml")


class Params(Section):
    """The whole of params.yaml."""

    prepare: PrepareOptions
    pretrain: dict[str, PretrainOptions]
    extract: ExtractOptions
    train: TrainOptions
    finetune: FinetuneOptions
    novelty: NoveltyOptions
    evaluate: EvaluateOptions
    report: ReportOptions


def load_params(path: Path = PARAMS_FILE) -> Params:
    """Read and check params.yaml.

    Read with ruamel.yaml, as DVC does, so that `1e-3` is a number in both.

    Raises:
        InputError: the file is missing or no YAML, or a key is missing, unknown or out of range;
            the message names file, section, key, value and what was expected.
    """
    try:
        content = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{path} not found: run from the project's folder, which holds dvc.yaml and {path.name}"
        ) from None
    except MarkedYAMLError as error:
        place = error.problem_mark
        where = f", line {place.line + 1}, column {place.column + 1}" if place else ""
        raise InputError(f"{path}{where}: not valid YAML: {error.problem}") from None
    return check_params(content, path)


def check_params(content: Any, source: Path | str = PARAMS_FILE) -> Params:
    """Check the content of params.yaml.

    Args:
        content: As read from YAML.
        source: What to call it in a message.

    Raises:
        InputError: as `load_params`.
    """
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        raise InputError(_explain(source, error)) from None


def _explain(path: Path | str, error: ValidationError) -> str:
    lines = []
    for problem in error.errors(include_url=False):
        # Union branches put their type's name into the location; a user knows keys only.
        keys = [str(part) for part in problem["loc"]]
        message = problem["msg"]
        received = "" if problem["type"] == "missing" else f", received {problem['input']!r}"
        if problem["type"] == "extra_forbidden":
            message = "unknown key; remove it or correct its spelling"
        lines.append(f"{path}: {'.'.join(keys) or 'the file'}: {message}{received}")
    return "\n".join(lines)
