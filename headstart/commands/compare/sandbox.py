"""A second working tree of the project, in which experiments run while the first stays untouched.

`dvc exp run` changes the tree it runs in, `dvc exp run --temp` stashes the user's changes for a
moment, and either leaves a half-changed tree when it is killed just then. The sandbox shares the
git objects and the DVC cache with the project and nothing else; deleting it loses nothing.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dvc.config import Config
from ruamel.yaml import YAML

from headstart.common.errors import InputError
from headstart.common.files import atomic_write

_FOLDER = Path(".dvc", "tmp", "compare")
_LOCK = "dvc.lock"
_OWN = frozenset({".git", ".dvc"})


class Sandbox:
    """The second working tree; `open_sandbox` makes it and takes it away.

    Attributes:
        root: Its project folder, which holds dvc.yaml and params.yaml.
        baseline: Digest of the git tree that it starts from: the last commit with the user's
            uncommitted changes.
    """

    def __init__(self, project: Path, root: Path, baseline: str, lock: int) -> None:
        self._project = project
        self._lock = lock
        self._environment = _environment()
        self.root = root
        self.baseline = baseline

    def run_experiment(self, name: str, stage: str, params: Mapping[str, Any]) -> bool:
        """Run stages with other params, and hand the experiment over to the project.

        Args:
            name: Of the experiment; one of that name, on the same commit, is replaced.
            stage: The last stage to run, after those that it needs.
            params: The whole content of params.yaml.

        Returns:
            Whether it succeeded; if not, it has said why on standard error.
        """
        self._reset(params)
        if not self._dvc("exp", "run", "--quiet", "--name", name, stage):
            return False
        reference = _reference(self.root, name)
        # One reference moves at once or not at all.
        _git(
            self._project,
            *("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance"),
            *(str(self.root), f"+{reference}:{reference}"),
        )
        self._git("update-ref", "-d", reference)
        return True

    def has_experiment(self, name: str) -> bool:
        """Return whether the project has an experiment of that name on its last commit."""
        return _reference(self._project, name) != ""

    def locked(self, stage: str) -> Any:
        """Return what dvc.lock says of a stage that the last run here came to."""
        lock = YAML(typ="safe").load((self.root / _LOCK).read_text(encoding="utf-8"))
        return lock["stages"][stage]

    def reproduce(self, stage: str, params: Mapping[str, Any]) -> bool:
        """Run a stage and those before it with other params; leave no experiment.

        Returns:
            Whether it succeeded; if not, it has said why on standard error.
        """
        self._reset(params)
        return self._dvc("repro", "--quiet", stage)

    def _reset(self, params: Mapping[str, Any]) -> None:
        # What the last run locked is kept: DVC then leaves alone what need not change.
        lock = self.root / _LOCK
        locked = lock.read_bytes() if lock.is_file() else None
        self._git("read-tree", "--reset", "-u", self.baseline)
        if locked is not None:
            lock.write_bytes(locked)
        path = self.root / "params.yaml"
        yaml = YAML()  # keeps comments and order
        content = yaml.load(path.read_text(encoding="utf-8"))
        _update(content, params)
        with atomic_write(path) as temporary:
            yaml.dump(content, temporary)

    def _dvc(self, *arguments: str) -> bool:
        # Standard output would mix with the table; messages and bars go through.
        finished = subprocess.run(
            [sys.executable, "-m", "dvc", *arguments],
            cwd=self.root,
            env=self._environment,
            stdout=subprocess.DEVNULL,
            check=False,
            # A run that outlives this process, killed, keeps the sandbox locked until it ends.
            pass_fds=[self._lock],
        )
        return finished.returncode == 0

    def _git(self, *arguments: str) -> str:
        return _git(self.root, *arguments)


@contextmanager
def open_sandbox(project: Path, inputs: Iterable[str]) -> Iterator[Sandbox]:
    """Make the sandbox; take it away at the end, or at the next start when this one is killed.

    Args:
        project: The project's folder.
        inputs: Paths that params.yaml names. Those that are relative, exist, are not tracked by
            git and are no stage's output are linked into the sandbox.

    Raises:
        InputError: the project cannot run experiments, or another comparison runs in it.
    """
    commit, tree = _baseline(project)
    folder = project / _FOLDER
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_suffix(".lock")) as lock:
        shutil.rmtree(folder, ignore_errors=True)
        paths = [Path(name) for name in inputs if not Path(name).is_absolute()]
        # As deep as `../photos` climbs, so that the link for it still lies within the folder.
        depth = max((path.parts.count("..") for path in paths), default=0)
        try:
            root = _populate(project, folder.joinpath(*["up"] * depth, "project"), commit, tree)
            _link(project, root, paths)
            yield Sandbox(project, root, tree, lock)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _reference(folder: Path, experiment: str) -> str:
    """Return the full name of an experiment on the last commit; empty if there is none."""
    commit = _git(folder, "rev-parse", "HEAD")
    return _git(
        folder,
        "for-each-ref",
        "--format=%(refname)",
        f"refs/exps/{commit[:2]}/{commit[2:]}/{experiment}",
    )


def _baseline(project: Path) -> tuple[str, str]:
    """Return the last commit, and the tree of it with the user's changes to tracked files."""
    if shutil.which("git") is None:
        raise InputError("compare: git is not installed; DVC keeps experiments in git")
    _expect(project, "rev-parse --git-dir", "this is no git repository: run `git init`, then")
    _expect(project, "rev-parse --verify HEAD^{commit}", "this git repository has no commit: run")
    if not (project / ".dvc").is_dir():
        raise InputError(f"compare: no folder .dvc in {project}: run `dvc init` and commit it")
    commit = _git(project, "rev-parse", "HEAD")
    # Writes a commit that nothing refers to, and leaves tree, index and stash alone.
    changed = _git(project, *_identity(project), "stash", "create")
    tree = _git(project, "rev-parse", f"{changed or commit}^{{tree}}")
    prefix = _git(project, "rev-parse", "--show-prefix")
    for name in ("dvc.yaml", "params.yaml"):
        if not _succeeds(project, "cat-file", "-e", f"{tree}:{prefix}{name}"):
            raise InputError(f"compare: git does not track {name}: run `git add .`, then commit")
    return commit, tree


def _expect(project: Path, command: str, problem: str) -> None:
    if not _succeeds(project, *command.split()):
        raise InputError(
            f"compare: DVC keeps experiments as git commits beside the last one, and {problem} "
            "`git add . && git commit`"
        )


def _populate(project: Path, folder: Path, commit: str, tree: str) -> Path:
    """Fill the sandbox; return its project folder."""
    _git(project, "init", "--quiet", str(folder))
    objects = _git(project, "rev-parse", "--path-format=absolute", "--git-path", "objects")
    alternates = folder / ".git" / "objects" / "info" / "alternates"
    alternates.write_text(f"{objects}\n", encoding="utf-8")
    for key, default in (("user.name", "headstart"), ("user.email", "headstart@localhost")):
        _git(folder, "config", key, _configured(project, key) or default)
    _git(folder, "update-ref", "--no-deref", "HEAD", commit)
    _git(folder, "read-tree", "--reset", "-u", tree)
    root = folder / _git(project, "rev-parse", "--show-prefix")
    settings = project / ".dvc" / "config.local"
    if settings.is_file():
        shutil.copyfile(settings, root / ".dvc" / "config.local")
    cache = Config(dvc_dir=str(project / ".dvc"))["cache"].get("dir", project / ".dvc" / "cache")
    with Config(dvc_dir=str(root / ".dvc")).edit("local") as config:
        config["cache"]["dir"] = str(cache)
    return root


def _link(project: Path, root: Path, inputs: Iterable[Path]) -> None:
    top = Path(_git(root, "rev-parse", "--show-toplevel"))
    exclude = Path(_git(root, "rev-parse", "--path-format=absolute", "--git-path", "info/exclude"))
    exclude.parent.mkdir(exist_ok=True)
    outputs = _outputs(project)
    links = [link for path in inputs for link in _make_links(project, root, path, outputs)]
    # Untracked in the sandbox too, they must not become part of an experiment.
    with exclude.open("a", encoding="utf-8") as file:
        for link in links:
            if link.is_relative_to(top):
                file.write(f"/{link.relative_to(top).as_posix()}\n")


def _make_links(project: Path, root: Path, path: Path, outputs: Collection[Path]) -> Iterator[Path]:
    """Link what is at `path` in the project and not in the sandbox, keeping clear of outputs."""
    source, target = project / path, Path(os.path.normpath(root / path))
    if path.name in _OWN or not source.exists() or _is_within(path, outputs):
        return
    holds_outputs = any(output.is_relative_to(path) for output in outputs)
    if not os.path.lexists(target) and not holds_outputs:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(source.resolve())
        yield target
    elif source.is_dir() and not target.is_symlink():
        for name in sorted(entry.name for entry in source.iterdir()):
            yield from _make_links(project, root, path / name, outputs)


def _is_within(path: Path, outputs: Collection[Path]) -> bool:
    return any(path.is_relative_to(output) for output in outputs)


def _outputs(project: Path) -> set[Path]:
    """Return what stages write: from dvc.lock what they wrote, from dvc.yaml what they will.

    Of a path with a placeholder, the folder above it.
    """
    outputs = set()
    for name in (_LOCK, "dvc.yaml"):
        file = project / name
        content = YAML(typ="safe").load(file.read_text(encoding="utf-8")) if file.is_file() else {}
        for stage in content.get("stages", {}).values():
            body = stage.get("do", stage)
            for out in (*body.get("outs", ()), *body.get("metrics", ()), *body.get("plots", ())):
                # dvc.lock has mappings with a path, dvc.yaml plain paths or one-key mappings.
                path = out.get("path") or next(iter(out)) if isinstance(out, dict) else out
                fixed = Path(path.partition("${")[0])
                outputs.add(
                    fixed if "${" not in path or path.startswith(f"{fixed}/") else fixed.parent
                )
    return outputs - {Path()}


def _update(place: Any, content: Mapping[str, Any]) -> None:
    """Bring a commented mapping to `content`, touching what differs only."""
    for key, value in content.items():
        if isinstance(value, Mapping) and isinstance(place.get(key), Mapping):
            _update(place[key], value)
        elif key not in place or place[key] != value:
            place[key] = value
    for key in set(place) - set(content):
        del place[key]


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


def _environment() -> dict[str, str]:
    # The stages are started as `python`, which must be this one; a relative feature store would
    # be another one in the sandbox.
    environment = dict(os.environ)
    folder = str(Path(sys.executable).parent)
    environment["PATH"] = os.pathsep.join([folder, environment.get("PATH", os.defpath)])
    if environment.get("HEADSTART_CACHE"):
        environment["HEADSTART_CACHE"] = str(Path(environment["HEADSTART_CACHE"]).absolute())
    # Set inside a git hook, these would lead every command to the project's own repository.
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        environment.pop(name, None)
    return environment


def _identity(project: Path) -> list[str]:
    named = _configured(project, "user.name") and _configured(project, "user.email")
    return [] if named else ["-c", "user.name=headstart", "-c", "user.email=headstart@localhost"]


def _configured(project: Path, key: str) -> str:
    return _start(["git", "config", key], project).stdout.strip()


def _succeeds(folder: Path, *arguments: str) -> bool:
    return _start(["git", *arguments], folder).returncode == 0


def _git(folder: Path, *arguments: str) -> str:
    return _run(["git", *arguments], folder)


def _run(command: list[str], folder: Path) -> str:
    """Return what a command writes; one that fails has met something nobody foresaw."""
    finished = _start(command, folder)
    if finished.returncode:
        raise RuntimeError(f"{' '.join(command)}: {finished.stderr.strip()}")
    return finished.stdout.strip()


def _start(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=_environment(), capture_output=True, text=True, check=False
    )
