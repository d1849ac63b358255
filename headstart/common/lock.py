"""headstart.lock: the library that a project's results are of, so that no stage runs under another.

`headstart init` and `headstart upgrade` write it. Headstart's own repository has none: there the
stages depend on the library's files themselves.
"""

from importlib.metadata import version
from pathlib import Path

from pydantic import BaseModel, ValidationError

from headstart.common.code import digest_of_code
from headstart.common.errors import InputError
from headstart.common.project import missing

LOCK_FILE = Path("headstart.lock")


class StageCode(BaseModel):
    """What one stage runs of the library.

    Attributes:
        digest: Of the code of `packages`; the stage's dependency in dvc.yaml.
        packages: Folders and files of the library.
    """

    digest: str
    packages: tuple[str, ...]


class ProjectLock(BaseModel):
    """The content of headstart.lock.

    Attributes:
        version: Of the library.
        stages: The code of each stage.
        packages: The digest of each package that a stage runs, to tell what an upgrade changed.
        files: The sha256 of each of the template's files as it was written into the project, to
            tell whether the user has edited it since.
    """

    version: str
    stages: dict[str, StageCode]
    packages: dict[str, str]
    files: dict[str, str]


def read_lock(path: Path = LOCK_FILE) -> ProjectLock:
    """Read headstart.lock.

    Raises:
        InputError: it is missing or damaged.
    """
    try:
        return ProjectLock.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise missing(
            path,
            "a project that `headstart init` made has one; in the library's own repository, whose "
            "stages depend on its code itself, there is nothing to upgrade",
        ) from None
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        keys = ".".join(map(str, problem["loc"]))
        raise InputError(
            f"{path}: {keys + ': ' if keys else ''}{problem['msg']}; bring the committed file back "
            f"(`git checkout {path}`)"
        ) from None


def check_lock(stage: str, path: Path = LOCK_FILE) -> None:
    """Refuse to run a stage whose installed code is not that of the project's lock.

    Args:
        stage: Its name in dvc.yaml.
        path: The lock; where there is none, everything may run.

    Raises:
        InputError: the code differs; the message gives the two ways out.
    """
    if not path.exists():
        return
    lock = read_lock(path)
    if stage not in lock.stages:
        raise InputError(
            f"{path}: stages: nothing about the stage {stage!r}; run `headstart upgrade`"
        )
    locked = lock.stages[stage]
    try:
        same = digest_of_code(locked.packages) == locked.digest
    except FileNotFoundError:
        # A package that the installed library no longer has.
        same = False
    if not same:
        installed = version("headstart")
        force = "--force-reinstall " if installed == lock.version else ""
        raise InputError(
            f"{path}: the stage {stage!r} is locked to the code of headstart {lock.version}, and "
            f"that of the installed headstart {installed} differs; `pip install {force}"
            f"headstart=={lock.version}` keeps to it, `headstart upgrade` moves on"
        )
