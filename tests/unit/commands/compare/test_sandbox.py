import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dvc.cli import main as dvc_main
from ruamel.yaml import YAML

from headstart.commands.compare.sandbox import Sandbox, find_baseline, find_experiments
from headstart.commands.compare.sandbox import open_sandbox as open_on
from headstart.common.errors import InputError

DVC_YAML = """
stages:
  prepare:
    cmd: cat ${prepare.source}/* > data/list
    deps: ["${prepare.source}"]
    params: [prepare]
    outs: [data/list]
  evaluate:
    cmd: mkdir -p metrics && python score.py
    deps: [data/list, score.py]
    params: [extract]
    metrics:
      - metrics/test.json: {cache: false}
"""
PARAMS = """
prepare:
  source: photos # mine
extract:
  layer: auto
"""
SCORE = """
import json, sys
layer = open("params.yaml").read().partition("layer: ")[2].split()[0]
if layer == "broken":
    sys.exit("error: no such layer")
scores = {"accuracy": len(layer), "list": open("data/list").read()}
json.dump(scores, open("metrics/test.json", "w"))
"""


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=n", "-c", "user.email=e@x", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def dvc(folder: Path, *arguments: str) -> str:
    # In this process, since starting DVC takes longer than what it does here.
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()) as output:
        assert dvc_main(list(arguments)) == 0
    return output.getvalue()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A committed project with photos that git ignores, and changes not yet committed."""
    root = tmp_path / "deep" / "project"
    root.mkdir(parents=True)
    git(root, "init", "--quiet")
    # DVC's own commits read it from here; a machine may have none.
    git(root, "config", "user.name", "n")
    git(root, "config", "user.email", "e@x")
    dvc(root, "init", "--quiet")
    (root / "dvc.yaml").write_text(DVC_YAML)
    (root / "score.py").write_text(SCORE)
    (root / "params.yaml").write_text(PARAMS)
    (root / "data").mkdir()
    (root / "data" / "kept").write_text("")
    (root / "photos").mkdir()
    (root / "photos" / "1").write_text("one")
    (root / ".gitignore").write_text("/photos\n/data/list\n")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message", "begin")
    (root / "score.py").write_text(SCORE.replace("len(layer)", "10 * len(layer)"))
    (root / "staged").write_text("new")
    git(root, "add", "staged")
    (root / "untracked").write_text("left alone")
    return root


@contextlib.contextmanager
def open_sandbox(project: Path, inputs: list[str]) -> Iterator[Sandbox]:
    with open_on(project, find_baseline(project), inputs) as sandbox:
        yield sandbox


def params(layer: str) -> dict[str, Any]:
    content: dict[str, Any] = YAML().load(PARAMS.replace("auto", layer))
    return content


def state(root: Path) -> dict[str, tuple[bytes, int]]:
    files = [path for path in root.rglob("*") if path.is_file()]
    return {
        str(path.relative_to(root)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in files
        if not {".git", ".dvc"} & set(path.relative_to(root).parts)
    }


def test_experiments_reach_the_project_and_nothing_else_changes(project: Path) -> None:
    before, status = state(project), git(project, "status", "--porcelain")
    stashes = git(project, "stash", "list")
    with open_sandbox(project, ["photos"]) as sandbox:
        assert sandbox.run("evaluate", params("four"))
        assert '"accuracy": 40' in (sandbox.root / "metrics" / "test.json").read_text()
        assert sandbox.run_experiment("evaluate", params("one"), "try-one")
        assert not sandbox.run_experiment("evaluate", params("broken"), "try-broken")
        assert sandbox.run_experiment("evaluate", params("three"), "try-three")
    assert state(project) == before
    assert git(project, "status", "--porcelain") == status
    assert git(project, "stash", "list") == stashes
    assert not sandbox.root.exists()
    assert len(git(project, "worktree", "list").splitlines()) == 1

    assert find_experiments(project, find_baseline(project)) == {"try-one", "try-three"}
    references = git(project, "for-each-ref", "--format=%(refname)", "refs/exps").split()
    assert [name.rpartition("/")[2] for name in references] == ["try-one", "try-three"]
    head = git(project, "rev-parse", "HEAD")
    for reference, accuracy in zip(references, (30, 50), strict=True):
        assert git(project, "rev-parse", f"{reference}^") == head
        assert f'"accuracy": {accuracy}' in git(project, "show", f"{reference}:metrics/test.json")
        assert '"list": "one"' in git(project, "show", f"{reference}:metrics/test.json")
        assert git(project, "show", f"{reference}:staged") == "new"
        assert "source: photos # mine" in git(project, "show", f"{reference}:params.yaml")
        assert "photos" not in git(project, "ls-tree", "-r", "--name-only", reference)
    shown = dvc(project, "exp", "show", "--csv")
    assert "try-one" in shown
    assert "try-three" in shown

    dvc(project, "exp", "apply", "try-three")
    applied = YAML(typ="safe").load((project / "params.yaml").read_text())
    assert applied == {"prepare": {"source": "photos"}, "extract": {"layer": "three"}}
    assert (project / "data" / "list").read_text() == "one"
    assert "up to date" in dvc(project, "status")


def test_inputs_outside_git_and_above_the_project_are_linked(project: Path, tmp_path: Path) -> None:
    (tmp_path / "above").mkdir()
    (tmp_path / "above" / "2").write_text("two")
    (project / "data" / "beside").write_text("ignored by git, beside outputs")
    (project / "data" / "list").write_text("an output")
    inputs = ["../../above", "data", "photos", str(tmp_path), "missing"]
    with open_sandbox(project, inputs) as sandbox:
        above = Path(os.path.normpath(sandbox.root / "../../above"))
        assert (above / "2").read_text() == "two"
        assert above.is_relative_to(project / ".dvc")
        assert (sandbox.root / "data" / "beside").is_symlink()
        assert not (sandbox.root / "data").is_symlink()
        assert not (sandbox.root / "data" / "list").exists()
        assert not (sandbox.root / "missing").exists()
        assert sandbox.run_experiment("prepare", params("auto"), "linked")
    (reference,) = git(project, "for-each-ref", "--format=%(refname)", "refs/exps").split()
    changed = git(project, "diff", "--name-only", "HEAD", reference).split()
    assert changed == ["dvc.lock", "params.yaml", "score.py", "staged"]
    assert (tmp_path / "above" / "2").exists()


def test_one_comparison_at_a_time(project: Path) -> None:
    with (
        open_sandbox(project, []),
        pytest.raises(InputError, match="another comparison runs in this project"),
        open_sandbox(project, []),
    ):
        pass


@pytest.fixture
def comparison(project: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A comparison at work, in a process group of its own."""
    code = (
        "import os, signal, sys; from pathlib import Path;"
        "from headstart.commands.compare.sandbox import find_baseline, open_sandbox\n"
        "project = Path(sys.argv[1])\n"
        "with open_sandbox(project, find_baseline(project), []) as sandbox:\n"
        "    sandbox.run('wait', {})"
    )
    (project / "dvc.yaml").write_text("stages: {wait: {cmd: touch started && sleep 60}}\n")
    (project / "params.yaml").write_text("{}\n")
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(project)], start_new_session=True, stderr=subprocess.PIPE
    )
    try:
        deadline = time.monotonic() + 60
        while not started(project).exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def started(project: Path) -> Path:
    return project / ".dvc" / "tmp" / "compare" / "project" / "started"


def test_a_run_that_outlives_a_killed_comparison_keeps_the_sandbox(
    project: Path, comparison: "subprocess.Popen[bytes]"
) -> None:
    comparison.kill()
    comparison.wait()
    with pytest.raises(InputError, match="another comparison runs"), open_sandbox(project, []):
        pass
    assert started(project).exists()
    os.killpg(comparison.pid, signal.SIGKILL)
    # What the killed one left is taken away.
    for _ in range(100):
        with contextlib.suppress(InputError), open_sandbox(project, []) as sandbox:
            assert not (sandbox.root / "started").exists()
            break
        time.sleep(0.05)
    else:
        pytest.fail("the lock outlived all that held it")


def test_an_interrupted_comparison_ends_what_it_started(
    project: Path, comparison: "subprocess.Popen[bytes]"
) -> None:
    """Also where the signal reaches it alone: a scheduler's, or `kill`."""
    comparison.send_signal(signal.SIGINT)
    assert comparison.wait(20) != 0
    assert not started(project).parent.exists()
    with open_sandbox(project, []):
        pass


def test_what_a_kill_left_half_made_goes_and_the_users_working_trees_stay(project: Path) -> None:
    git(project, "worktree", "add", "--detach", "../on-a-drive")
    shutil.rmtree(project.parent / "on-a-drive")
    half = project / ".dvc" / "tmp" / "compare" / "up" / "project"
    # Git locks a working tree while it is being made.
    git(project, "worktree", "add", "--detach", "--lock", str(half))
    (half / ".git").unlink()
    with open_sandbox(project, []) as sandbox:
        assert not half.exists()
        assert sandbox.root.exists()
    listed = git(project, "worktree", "list")
    assert "on-a-drive" in listed
    assert "compare" not in listed


def no_repository(root: Path) -> None:
    pass


def no_commit(root: Path) -> None:
    git(root, "init", "--quiet")


def no_dvc(root: Path) -> None:
    git(root, "init", "--quiet")
    git(root, "commit", "--quiet", "--allow-empty", "--message", "begin")


def no_tracked_params(root: Path) -> None:
    no_dvc(root)
    (root / ".dvc").mkdir()
    (root / "dvc.yaml").write_text("")
    (root / "params.yaml").write_text("")
    git(root, "add", "dvc.yaml")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (no_repository, "no git repository: run `git init`"),
        (no_commit, "this git repository has no commit: run `git add . && git commit`"),
        (no_dvc, "no folder .dvc .* run `dvc init`"),
        (no_tracked_params, "git does not track params.yaml"),
    ],
)
def test_what_cannot_hold_experiments_is_refused(
    tmp_path: Path, make: Callable[[Path], None], message: str
) -> None:
    make(tmp_path)
    with pytest.raises(InputError, match=message):
        find_baseline(tmp_path)
