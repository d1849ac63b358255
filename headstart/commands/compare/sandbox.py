"""A second working tree of the project, in which candidates run while the first stays untouched.

Stages run there, and git makes a DVC experiment of what they leave. `dvc exp run` would do both,
but it keeps its state in references that all working trees of a repository share: an experiment
that the user starts meanwhile would fail, or make this one fail.
"""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.config import Config
from dvc.exceptions import DvcException
from dvc.repo import Repo

from headstart.commands import yaml_text
from headstart.commands.compare.stages import ELSEWHERE, Stages, located
from headstart.common.errors import InputError
from headstart.common.files import atomic_write
from headstart.common.params import PARAMS_FILE
from headstart.common.system_errors import writing

_FOLDER = Path(".dvc", "tmp", "compare")
_NEVER_LINKED = frozenset({".git", ".dvc"})


@dataclass(frozen=True, slots=True)
class Baseline:
    """What candidates change, in git's words.

    Attributes:
        commit: The project's last commit, under which DVC lists the experiments.
        state: A commit of it with the user's uncommitted changes of tracked files on top.
        tree: The git tree of that, the same for the same content.
    """

    commit: str
    state: str
    tree: str


class Sandbox:
    """The second working tree; `open_sandbox` makes it and takes it away.

    Attributes:
        root: Its project folder, which holds dvc.yaml and params.yaml.
    """

    def __init__(self, root: Path, commit: str, links: Collection[Path], stages: Stages) -> None:
        self._commit = commit
        self._links = links
        self._stages = stages
        self.root = root

    def located(self) -> AbstractContextManager[None]:
        """Be in its folder, as the stages are, within the block."""
        return located(self.root)

    def run(self, stage: str, params: Mapping[str, Any], *, itself: bool = True) -> bool:
        """Run a stage, and those before it, with other params; see `Stages.run`.

        Args:
            stage: The last to run.
            params: The whole content of params.yaml.
            itself: Whether it runs itself, too.
        """
        with atomic_write(self.root / PARAMS_FILE) as temporary:
            temporary.write_text(yaml_text.dump(params), encoding="utf-8")
        return self._stages.run(stage, params, itself=itself)

    def run_experiment(self, stage: str, params: Mapping[str, Any], name: str) -> bool:
        """Run a stage, as `run`, and make an experiment of what it and those before it left.

        An experiment of that name is replaced.
        """
        if not (self.run(stage, params) and self._stages.commit(stage, params)):
            return False
        self._save(name)
        return True

    def _save(self, name: str) -> None:
        _git(self.root, "add", "--all", "--", ":(top)")
        if self._links:
            forget = ("rm", "--cached", "--quiet", "--ignore-unmatch", "--")
            _git(self.root, "--literal-pathspecs", *forget, *map(str, self._links))
        tree = _git(self.root, "write-tree")
        message = f"headstart compare: {name}"
        arguments = ("commit-tree", tree, "-p", self._commit, "-m", message)
        commit = _git(self.root, *_identity(self.root), *arguments)
        # A reference moves at once or not at all.
        _git(self.root, "update-ref", _references(self._commit) + name, commit)


@contextmanager
def open_sandbox(project: Path, baseline: Baseline, inputs: Iterable[str]) -> Iterator[Sandbox]:
    """Make the sandbox; take it away at the end, or at the next start when this one is killed.

    Args:
        project: The project's folder.
        baseline: What it holds, see `find_baseline`.
        inputs: Paths that params.yaml names. Those that are relative, exist, are not tracked by
            git and are no stage's output are linked into the sandbox.

    Raises:
        InputError: dvc.yaml cannot be read, or another comparison runs in the project.
    """
    outputs = _outputs(project)
    folder = (project / _FOLDER).resolve()
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_suffix(".lock")) as lock:
        _remove(project, folder)
        paths = [Path(name) for name in inputs if not Path(name).is_absolute()]
        # As deep as `../photos` climbs, so that the link for it still lies within the folder.
        depth = max((path.parts.count("..") for path in paths), default=0)
        top = folder.joinpath(*["up"] * depth, "project")
        try:
            with writing(folder):
                # Hooks are the user's, for the user's checkouts.
                hooks = ("-c", f"core.hooksPath={os.devnull}")
                where = ("--quiet", "--detach", str(top), baseline.state)
                _git(project, *hooks, "worktree", "add", *where)
                root = top / _git(project, "rev-parse", "--show-prefix")
                _share_cache(project, root)
                links = [link for path in paths for link in _link(project, root, path, outputs)]
            inside = [link for link in links if link.is_relative_to(top)]
            with closing(Stages(root, lock)) as stages:
                yield Sandbox(root, baseline.commit, inside, stages)
        finally:
            _remove(project, folder)


def find_baseline(project: Path) -> Baseline:
    """Return what the candidates of a project change, leaving the project as it is.

    Raises:
        InputError: it cannot hold experiments.
    """
    if shutil.which("git") is None:
        raise InputError("compare: git is not installed; DVC keeps experiments in git")
    _expect(project, "rev-parse --git-dir", "this is no git repository: run `git init`, then")
    _expect(project, "rev-parse --verify HEAD^{commit}", "this git repository has no commit: run")
    if not (project / ".dvc").is_dir():
        raise InputError(f"compare: no folder .dvc in {project}: run `dvc init` and commit it")
    commit = _git(project, "rev-parse", "HEAD")
    # Writes a commit that nothing refers to, and leaves tree, index and stash alone.
    state = _git(project, *_identity(project), "stash", "create") or commit
    prefix = _git(project, "rev-parse", "--show-prefix")
    for name in ("dvc.yaml", PARAMS_FILE):
        if not _succeeds(project, "cat-file", "-e", f"{state}:{prefix}{name}"):
            raise InputError(f"compare: git does not track {name}: run `git add .`, then commit")
    return Baseline(commit, state, _git(project, "rev-parse", f"{state}^{{tree}}"))


def find_experiments(project: Path, baseline: Baseline) -> set[str]:
    """Return the names of the experiments that there are on a baseline's commit."""
    start = _references(baseline.commit)
    listed = _git(project, "for-each-ref", "--format=%(refname)", start).splitlines()
    return {reference.removeprefix(start) for reference in listed}


def _references(commit: str) -> str:
    # Source: dvc/repo/experiments/refs.py.
    return f"refs/exps/{commit[:2]}/{commit[2:]}/"


def _expect(project: Path, command: str, problem: str) -> None:
    if not _succeeds(project, *command.split()):
        raise InputError(
            f"compare: DVC keeps experiments as git commits beside the last one, and {problem} "
            "`git add . && git commit`"
        )


def _outputs(project: Path) -> list[Path]:
    """Return what stages write, relative to the project's folder; not files that DVC tracks."""
    try:
        with Repo(str(project)) as repo:
            outs = [out for stage in repo.index.stages if stage.cmd for out in stage.outs]
            return [Path(os.path.relpath(out.fs_path, repo.root_dir)) for out in outs]
    except DvcException as error:
        raise InputError(f"compare: dvc.yaml: {error}; `dvc status` says more") from None


def _remove(project: Path, folder: Path) -> None:
    """Take away working trees below a folder, whole or half made, and the folder."""
    shutil.rmtree(folder, ignore_errors=True)
    # `git worktree prune` would also forget the user's own ones on a drive that is not there now.
    for line in _git(project, "worktree", "list", "--porcelain").splitlines():
        key, _, path = line.partition(" ")
        if key == "worktree" and Path(path).is_relative_to(folder):
            # Twice: git locks a working tree while it is being made.
            _git(project, "worktree", "remove", "--force", "--force", path)


def _share_cache(project: Path, root: Path) -> None:
    """Let DVC in the sandbox use the project's cache, with the user's own settings."""
    settings = project / ".dvc" / "config.local"
    if settings.is_file():
        shutil.copyfile(settings, root / ".dvc" / "config.local")
    cache = Config(dvc_dir=str(project / ".dvc"))["cache"].get("dir", project / ".dvc" / "cache")
    with Config(dvc_dir=str(root / ".dvc")).edit("local") as config:
        config["cache"]["dir"] = str(cache)
        # Nothing here is edited in place, so outputs need not be copied out of the cache.
        config["cache"]["type"] = ["reflink", "hardlink", "copy"]


def _link(project: Path, root: Path, path: Path, outputs: Collection[Path]) -> Iterator[Path]:
    """Link what is at `path` in the project and not in the sandbox, keeping clear of outputs."""
    source, target = project / path, Path(os.path.normpath(root / path))
    is_output = any(path.is_relative_to(output) for output in outputs)
    if path.name in _NEVER_LINKED or is_output or not source.exists():
        return
    holds_outputs = any(output.is_relative_to(path) for output in outputs)
    if not os.path.lexists(target) and not holds_outputs:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(source.resolve())
        yield target
    elif source.is_dir() and not target.is_symlink():
        for entry in sorted(source.iterdir()):
            yield from _link(project, root, path / entry.name, outputs)


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    with path.open("w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                "compare: another comparison runs in this project; wait for it, or stop it"
            ) from None
        yield file.fileno()


def _identity(folder: Path) -> list[str]:
    """Return options that give git an author where it knows none."""
    if _succeeds(folder, "var", "GIT_COMMITTER_IDENT"):
        return []
    return ["-c", "user.name=headstart", "-c", "user.email=headstart@localhost"]


def _succeeds(folder: Path, *arguments: str) -> bool:
    return _start(folder, *arguments).returncode == 0


def _git(folder: Path, *arguments: str) -> str:
    """Return what git prints; where it fails, it has met something nobody foresaw."""
    finished = _start(folder, *arguments)
    if finished.returncode:
        raise RuntimeError(f"git {' '.join(arguments)}: {finished.stderr.strip()}")
    return finished.stdout.strip()


def _start(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name not in ELSEWHERE},
        capture_output=True,
        text=True,
        check=False,
    )
