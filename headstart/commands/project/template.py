"""What a project is made from: the pipeline of Headstart's own repository.

The wheel carries it as `headstart/template`; in an editable installation it is the repository.
"""

import hashlib
import re
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from headstart.commands import yaml_text
from headstart.common.code import LIBRARY, digest_of_code, digest_of_package
from headstart.common.lock import LOCK_FILE, ProjectLock, StageCode
from headstart.common.places import SAMPLES

PIPELINE_FILE = "dvc.yaml"
SAMPLE = "sample"
"""The stage that writes the sample data sets; a project on photos of its own goes without."""

_HEADER = f"""\
# The pipeline. A stage is the file of its name in pipeline/ and the section of its name in
# params.yaml. DVC does not follow imports: {LOCK_FILE}, which `headstart upgrade` renews, stands
# for the code of the library that a stage runs.
"""
COPIED = ("pipeline/*.py", ".dvc/plots/*.json", ".dvcignore")
_CODE = "headstart/"


def template_folder() -> Path:
    """Return the folder that is laid out as Headstart's repository."""
    packaged = LIBRARY / "template"
    return packaged if packaged.is_dir() else LIBRARY.parent


def template_params() -> str:
    """Return the text of params.yaml, with all defaults and comments."""
    return (template_folder() / "params.yaml").read_text(encoding="utf-8")


def template_files(*, sample: bool) -> dict[str, bytes]:
    """Return the files that a project shares with every other, by path from its folder.

    Args:
        sample: Whether the pipeline has the stage that writes the sample data sets.
    """
    folder = template_folder()
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for pattern in COPIED
        for path in sorted(folder.glob(pattern))
    }
    if not sample:
        del files[f"pipeline/{SAMPLE}.py"]
    return {**files, PIPELINE_FILE: _project_pipeline(sample=sample).encode()}


def make_lock(files: dict[str, bytes]) -> ProjectLock:
    """Return the lock of a project under the installed library.

    Args:
        files: As `template_files` returns them.
    """
    stages = stage_packages()
    return ProjectLock(
        version=version("headstart"),
        stages={
            name: StageCode(digest=digest_of_code(packages), packages=packages)
            for name, packages in stages.items()
        },
        packages={
            package: digest_of_package(package)
            for package in sorted({package for packages in stages.values() for package in packages})
        },
        files={path: hashlib.sha256(content).hexdigest() for path, content in files.items()},
    )


@cache
def stage_packages() -> dict[str, tuple[str, ...]]:
    """Return the packages of the library that each stage lists in the repository's dvc.yaml."""
    return {
        name: tuple(
            sorted(
                path.removeprefix(_CODE) for path in body.get("deps", []) if path.startswith(_CODE)
            )
        )
        for name, body in stage_bodies(yaml_text.load(_repository_pipeline()))
    }


def stage_bodies(pipeline: Any) -> Iterator[tuple[str, Any]]:
    """Yield the name and the definition of each stage, that of `foreach` stages without its loop.

    Args:
        pipeline: Content of a dvc.yaml.
    """
    for name, stage in pipeline["stages"].items():
        yield name, stage.get("do", stage)


def cached_outputs(pipeline: Any) -> list[str]:
    """Return the paths that DVC keeps out of git, as patterns of .gitignore."""
    outputs = [
        output
        for _, body in stage_bodies(pipeline)
        for output in body.get("outs", [])
        if isinstance(output, str)
    ]
    return [re.sub(r"\$\{.*?\}", "*", f"/{output}") for output in outputs]


@cache
def _repository_pipeline() -> str:
    return (template_folder() / PIPELINE_FILE).read_text(encoding="utf-8")


def _project_pipeline(*, sample: bool) -> str:
    """The repository's dvc.yaml with the lock instead of the library's files."""
    text = _repository_pipeline()
    pipeline = yaml_text.load(text[text.index("stages:\n") :])
    if not sample:
        del pipeline["stages"][SAMPLE]
    for name, body in stage_bodies(pipeline):
        left_out = (_CODE,) if sample else (_CODE, SAMPLES.as_posix())
        body["deps"] = [path for path in body["deps"] if not path.startswith(left_out)]
        locked = yaml_text.load(f"[{LOCK_FILE}: [stages.{name}.digest]]")
        if "params" in body:
            body["params"].extend(locked)
        else:
            body.insert(list(body).index("deps") + 1, "params", locked)
    return _HEADER + yaml_text.dump(pipeline)
