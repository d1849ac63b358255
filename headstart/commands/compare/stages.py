"""The stages of a project, run one after the other within this process.

A candidate of `dvc repro` is ten processes, each of which imports what the one before it had
imported. Here they share one; what a candidate changes decides which of them run again.
"""

import logging
import os
import re
import runpy
import shlex
import subprocess
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager, redirect_stdout, suppress
from itertools import groupby
from pathlib import Path
from typing import Any

import psutil
from dvc.dependency import ParamsDependency
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.repo.reproduce import plan_repro

from headstart.common import interruption, places
from headstart.common.cache import ENVIRONMENT_VARIABLE, cache_folder
from headstart.common.files import digest_of
from headstart.common.params import PARAMS_FILE
from headstart.common.progress import notify
from headstart.common.urls import is_url
from headstart.dataset.tables import TABLES

# On standard output it would mix with the table; warnings go to standard error.
logging.getLogger("dvc").setLevel(logging.WARNING)

_HERE = re.compile(r"python -m (pipeline\.\w+)((?: [\w./=@%+,:-]+)*)")
"""Commands that run in this process: a stage's module and plain words."""

ELSEWHERE = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
"""Set inside a git hook, these would lead every command to the project's own working tree."""

_REFERENCE = re.compile(r"\$\{\s*(\w+)")
"""What a template in dvc.yaml names."""


class Stages:
    """The stages of one project folder, all with the params that stand in its params.yaml.

    A stage's outputs stay until it runs again: where neither its command, nor its values, nor a
    stage before it differ from its last run here, it does not run. What depends on no value is
    taken from DVC's cache where dvc.lock knows it.

    Args:
        root: The folder.
        hold: Descriptor of a lock that processes of their own keep, should they outlive this one.
    """

    def __init__(self, root: Path, hold: int) -> None:
        self._root = root
        self._hold = hold
        self._repo: Repo | None = None
        self._signatures: dict[str, str] = {}
        self._uncommitted: set[str] = set()

    def run(self, name: str, params: Mapping[str, Any], *, itself: bool = True) -> bool:
        """Run a stage and those that it depends on.

        Args:
            name: Of the stage.
            params: The content of params.yaml, which has been written.
            itself: Whether it runs itself, too.

        Returns:
            Whether all succeeded; if not, it has been said why on standard error.
        """
        with located(self._root):
            try:
                stages = self._up_to(name, params)
            except DvcException as error:
                notify(f"error: dvc.yaml: {error}")
                return False
            return all(self._bring(stage, params) for stage in stages[: None if itself else -1])

    def commit(self, name: str, params: Mapping[str, Any]) -> bool:
        """Put what a stage and those before it wrote into DVC's cache, and say so in dvc.lock.

        Args:
            name: Of the stage.
            params: As for `run`.

        Returns:
            Whether that succeeded, as `run`.
        """
        with located(self._root):
            new = [
                stage
                for stage in self._up_to(name, params)
                if stage.addressing in self._uncommitted
            ]
            try:
                with self._opened.lock, self._opened.scm_context(quiet=True):
                    for stage in new:
                        # The run cache would only tell once more what dvc.lock tells; samples
                        # that nothing reads may be missing.
                        stage.save(allow_missing=True, run_cache=False)
                        stage.commit()
                    # All at once: DVC reads and writes the whole file.
                    new.sort(key=lambda stage: str(stage.dvcfile.path))
                    for _, group in groupby(new, key=lambda stage: str(stage.dvcfile.path)):
                        together = list(group)
                        together[0].dvcfile.dump_stages(together, update_pipeline=False)
            except DvcException as error:
                notify(f"error: DVC cannot keep what the stages wrote: {error}")
                return False
            self._uncommitted -= {stage.addressing for stage in new}
        return True

    def close(self) -> None:
        """Let go of DVC's files."""
        if self._repo is not None:
            self._repo.close()
            self._repo = None

    @property
    def _opened(self) -> Repo:
        if self._repo is None:
            self._repo = Repo(str(self._root))
        return self._repo

    def _up_to(self, name: str, params: Mapping[str, Any]) -> list[Any]:
        """Return a stage and all that it depends on, in the order in which they run."""
        if self._repo is not None and self._depends_on(params):
            self.close()
        repo = self._opened
        (stage,) = repo.stage.collect(name)
        return list(plan_repro(repo.index.graph, [stage]))

    def _depends_on(self, params: Mapping[str, Any]) -> bool:
        """Return whether other values may make other stages."""
        text = (self._root / "dvc.yaml").read_text(encoding="utf-8")
        return not params.keys().isdisjoint(_REFERENCE.findall(text))

    def _bring(self, stage: Any, params: Mapping[str, Any]) -> bool:
        """Run a stage, unless its outputs are there; return whether they are."""
        # A file that DVC tracks is no work, and samples without a reader would be for nothing.
        if not stage.cmd or (stage.outs and self._is_unread(stage, params)):
            return True
        repo, name = self._opened, stage.addressing
        values = _values(stage, params)
        signature = digest_of([stage.cmd, values])
        if self._signatures.get(name) == signature:
            return True
        for stale in plan_repro(repo.index.graph, [stage], downstream=True):
            self._signatures.pop(stale.addressing, None)
            self._uncommitted.discard(stale.addressing)
        with repo.lock:
            kept = not values and _restore(stage)
            if not kept:
                # As `dvc repro` does: what lies there may be a link to a file in DVC's cache.
                stage.remove_outs()
        if not kept:
            if not self._execute(stage):
                return False
            if missing := [str(out) for out in stage.outs if not out.exists]:
                notify(f"error: the stage {name} has not written {', '.join(missing)}")
                return False
            self._uncommitted.add(name)
        self._signatures[name] = signature
        return True

    def _is_unread(self, stage: Any, params: Mapping[str, Any]) -> bool:
        """Return whether a stage writes but samples, thousands of files, that params do not name.

        Who depends on them looks at its own source, whatever changes.
        """
        sections = [section for section in params.values() if isinstance(section, Mapping)]
        given = [section["source"] for section in sections if "source" in section]
        named_there = [one if isinstance(one, list) else [one] for one in given]
        sources = [
            Path(str(source)) for each in named_there for source in each if not is_url(str(source))
        ]
        if any(source.suffix.lower() in TABLES and source != places.MANIFEST for source in sources):
            return False  # it may name any file
        named = [Path(os.path.normpath(self._root / source)) for source in sources]
        return all(
            reader.always_changed for reader in self._opened.index.graph.predecessors(stage)
        ) and all(
            out.is_relative_to(self._root / places.SAMPLES)
            and not any(one.is_relative_to(out) or out.is_relative_to(one) for one in named)
            for out in (Path(one.fs_path) for one in stage.outs)
        )

    def _execute(self, stage: Any) -> bool:
        commands = stage.cmd if isinstance(stage.cmd, list) else stage.cmd.splitlines()
        within = Path(stage.wdir) == self._root
        for command in commands:
            match = _HERE.fullmatch(command.strip())
            if match and within:
                succeeded = _run_module(match[1], shlex.split(match[2]))
            else:
                succeeded = self._run_apart(command, stage)
            if not succeeded:
                return False
        return True

    def _run_apart(self, command: str, stage: Any) -> bool:
        """Run a command in a process of its own."""
        environment = {
            **os.environ,
            # Stages are started as `python`, which must be this one.
            "PATH": os.pathsep.join(
                [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
            ),
            interruption.SPOKEN_FOR: "1",
            "DVC_ROOT": str(self._root),
            "DVC_STAGE": stage.addressing,
        }
        with subprocess.Popen(
            # Source: dvc/stage/run.py.
            [os.environ.get("SHELL") or "/bin/sh", "-c", command],
            cwd=stage.wdir,
            env=environment,
            stdout=subprocess.DEVNULL,
            # A run that outlives this process, killed, keeps the sandbox locked until it ends.
            pass_fds=[self._hold],
        ) as run:
            try:
                status = run.wait()
            except BaseException:
                _end(run.pid)
                raise
        if status:
            notify(f"error: the stage {stage.addressing} failed with status {status}: {command}")
        return status == 0


def _values(stage: Any, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of params.yaml, and the names of other such files, that a stage reads."""
    found: dict[str, Any] = {}
    for dep in stage.deps:
        if isinstance(dep, ParamsDependency):
            if Path(dep.fs_path).name != PARAMS_FILE.name:
                found[dep.fs_path] = dep.params
            for key in dep.params or params:
                value: Any = params
                for part in key.split("."):
                    value = value.get(part) if isinstance(value, Mapping) else None
                found[key] = value
    return found


def _restore(stage: Any) -> bool:
    """Bring a stage's outputs from DVC's cache; return whether they are those that it would write.

    That is where all that it depends on is as dvc.lock says.
    """
    with suppress(DvcException):
        if all(out.hash_info for out in stage.outs) and not stage.changed(allow_missing=True):
            stage.checkout()
            return not stage.changed()
    return False


def _run_module(name: str, arguments: Sequence[str]) -> bool:
    """Run a module as `python -m` does; return whether it succeeded."""
    # Layers and variables are numbered from the start, as in a process of its own; models of
    # earlier stages go.
    if "keras" in sys.modules:
        from headstart.common.tensorflow_runtime import keras

        keras.utils.clear_session()
    sys.argv[1:] = arguments
    try:
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if isinstance(end.code, str):
            notify(end.code)
        return end.code in (None, 0)
    # A defect ends the candidate, not the comparison.
    except Exception:
        notify(traceback.format_exc())
        return False
    return True


@contextmanager
def located(root: Path) -> Iterator[None]:
    """Be in a folder as `python -m` would be there: its modules, files and arguments."""
    path, arguments = list(sys.path), list(sys.argv)
    other = {name: sys.modules.pop(name) for name in _stage_modules()}
    variables = {name: os.environ.pop(name) for name in ELSEWHERE if name in os.environ}
    if ENVIRONMENT_VARIABLE in os.environ:
        variables[ENVIRONMENT_VARIABLE] = os.environ[ENVIRONMENT_VARIABLE]
        # A relative path would name another folder.
        os.environ[ENVIRONMENT_VARIABLE] = str(cache_folder())
    sys.path.insert(0, str(root))
    try:
        # What is printed would mix with the table; messages and bars go through.
        with chdir(root), Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
            yield
    finally:
        sys.path[:], sys.argv[:] = path, arguments
        for name in _stage_modules():
            del sys.modules[name]
        sys.modules.update(other)
        os.environ.update(variables)


def _stage_modules() -> list[str]:
    return [name for name in sys.modules if name.partition(".")[0] == "pipeline"]


def _end(pid: int) -> None:
    """End a process and all that it started: an interruption may have reached this one alone."""
    with suppress(psutil.NoSuchProcess):
        first = psutil.Process(pid)
        for process in (first, *first.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                process.kill()
