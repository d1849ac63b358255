from importlib.metadata import version
from pathlib import Path

import pytest

from headstart.common.code import digest_of_code
from headstart.common.errors import InputError
from headstart.common.lock import ProjectLock, StageCode, check_lock, read_lock

INSTALLED = version("headstart")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "headstart.lock"


def write(path: Path, digest: str, version: str = "0.0.7", packages: tuple[str, ...] = ("common",)):
    stages = {"train": StageCode(digest=digest, packages=packages)}
    lock = ProjectLock(version=version, stages=stages, packages={}, files={})
    path.write_text(lock.model_dump_json(indent=2))


def test_without_a_lock_every_stage_runs(path: Path) -> None:
    check_lock("train", path)


def test_the_code_counts_not_the_version(path: Path) -> None:
    write(path, digest_of_code(("common",)))
    check_lock("train", path)


def test_other_code_is_refused_with_both_ways_out(path: Path) -> None:
    write(path, "0" * 64)
    with pytest.raises(InputError) as refused:
        check_lock("train", path)
    assert str(refused.value) == (
        f"{path}: the stage 'train' is locked to the code of headstart 0.0.7, and that of the "
        f"installed headstart {INSTALLED} differs; `pip install headstart==0.0.7` keeps to it, "
        "`headstart upgrade` moves on"
    )


def test_an_edited_installation_of_the_same_version_is_told_so(path: Path) -> None:
    write(path, "0" * 64, version=INSTALLED)
    with pytest.raises(InputError, match=f"pip install --force-reinstall headstart=={INSTALLED}`"):
        check_lock("train", path)


def test_a_package_that_is_gone_is_other_code(path: Path) -> None:
    write(path, "0" * 64, packages=("common", "gone"))
    with pytest.raises(InputError, match="`headstart upgrade` moves on"):
        check_lock("train", path)


def test_a_stage_that_is_not_in_the_lock(path: Path) -> None:
    write(path, digest_of_code(("common",)))
    with pytest.raises(InputError, match="nothing about the stage 'segment'; run `headstart upg"):
        check_lock("segment", path)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("<<<<<<< HEAD\n{}", "Invalid JSON"),
        ('{"version": "1", "stages": {"train": {}}, "packages": {}, "files": {}}',
         "stages.train.digest: Field required"),
    ],
)  # fmt: skip
def test_a_damaged_lock(path: Path, content: str, problem: str) -> None:
    path.write_text(content)
    with pytest.raises(InputError, match=problem) as told:
        check_lock("train", path)
    assert str(told.value).startswith(f"{path}: ")
    assert "`git checkout " in str(told.value)


def test_no_project(path: Path) -> None:
    with pytest.raises(
        InputError, match="no such file: a project that `headstart init` made has one"
    ):
        read_lock(path)
