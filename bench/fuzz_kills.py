"""Stages and commands that are killed or interrupted at any moment, and then run again."""

import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import scratch
from scratch import Scratch
from watchdog import Verdict

from headstart.common.files import sha256_of

_LIMIT = 600.0
_ANSWER = 30.0
"""Seconds after which an interrupted process counts as hanging: a call into a library may last."""

_STARTED = 0.4
"""Seconds until Python itself has started, which no program can shorten."""

_TEMPORARY = re.compile(r"\.[a-z0-9_]{8}(-.+)?")
_PRIVATE = {
    (".dvc", "tmp"),
    (".dvc", "cache"),
    *((".store", kind) for kind in ("inspections", "prepared", "times")),
}
_LINES = {signal.SIGINT: "interrupted; ", signal.SIGTERM: "terminated; "}


class Target(NamedTuple):
    """What is killed.

    Attributes:
        command: Its command line.
        before: What must have run in the project, in order.
        prepare: Changes a copy of the project before the command runs.
    """

    command: tuple[str, ...]
    before: tuple[str, ...]
    prepare: Callable[[Scratch], None] = lambda _: None


def _fill_cache(project: Scratch) -> None:
    """Leave old and abandoned things in the cache, and damage."""
    for folder in sorted((project.cache / "features").iterdir()):
        rubbish = folder / f".{folder.name[:8]}-killed.h5"
        rubbish.write_bytes(bytes(1000))
        os.utime(rubbish, (0, 0))
    for kind in ("fits", "models"):
        for folder in sorted((project.cache / kind).glob("*"))[:1]:
            shutil.copytree(folder, folder.with_name(f".{folder.name[:8]}"))
            os.utime(folder, (0, 0))
    for path in (project.cache).rglob("*"):
        os.utime(path, (0, 0))


def _commit_run(project: Scratch) -> None:
    # `compare` takes the stages' outputs out of DVC's cache.
    project.check("git", "add", "--all")
    project.check("git", "commit", "--quiet", "--allow-empty", "--message", "run")


TARGETS = {
    **{
        name: Target(scratch.stage(name), scratch.STAGES[: scratch.STAGES.index(name)])
        for name in ("prepare", "extract", "train", "finetune")
    },
    "export": Target(scratch.command("export", "--format", "onnx"), scratch.STAGES),
    "compare": Target(scratch.command("compare", "--over", "train.seed=0,1"), (), _commit_run),
    "prune": Target(
        scratch.command("cache", "prune", "--older-than", "1"), scratch.STAGES, _fill_cache
    ),
}


def run(
    part: str, targets: Iterable[str], count: int, seed: int, folder: Path
) -> Iterator[Verdict]:
    """Kill or interrupt each target `count` times.

    Args:
        part: "kills" or "interrupts".
        targets: Names in `TARGETS`.
        count: How often each; an even share of its time is drawn for each.
        seed: Of the moments.
        folder: For the projects.
    """
    done: dict[tuple[str, ...], Scratch] = {}
    for name in targets:
        target = TARGETS[name]
        yield from _each(part, name, target, _project(target, folder, done), count, seed, folder)


def _project(target: Target, folder: Path, done: dict[tuple[str, ...], Scratch]) -> Scratch:
    """Return a project in which what comes before the target has run; each stage runs once."""
    for length in range(len(target.before) + 1):
        stages = target.before[:length]
        if stages not in done:
            root = folder / f"{length}-{'-'.join(stages[-1:]) or 'start'}"
            done[stages] = done[stages[:-1]].copy(root) if stages else scratch.make(root)
            if stages:
                done[stages].check(*scratch.stage(stages[-1]))
    return done[target.before]


def _each(
    part: str, name: str, target: Target, start: Scratch, count: int, seed: int, folder: Path
) -> Iterator[Verdict]:
    whole = []
    durations = []
    for number in range(2):
        project = start.copy(folder / f"{name}-whole-{number}")
        target.prepare(project)
        started = time.monotonic()
        project.check(*target.command)
        durations.append(time.monotonic() - started)
        whole.append(_content(project))
        shutil.rmtree(project.root)
    for case in range(count):
        rng = random.Random(f"{part} {name} {seed} {case}")
        project = start.copy(folder / f"{name}-{case}")
        target.prepare(project)
        share = (case + rng.random()) / count
        number = signal.SIGKILL
        if part == "interrupts":
            number = rng.choice((signal.SIGINT, signal.SIGTERM))
        problem, after = _strike(project, target.command, number, share, min(durations))
        if problem is None:
            again = project.run(*target.command, timeout=_LIMIT)
            problem = _judge(project, again, whole)
        outcome, detail = problem or ("finished", "")
        yield Verdict(case, name, outcome, f"{number.name} after {after:.2f} s: {detail}")
        shutil.rmtree(project.root, ignore_errors=True)


Problem = tuple[str, str] | None


def _strike(
    project: Scratch, command: Sequence[str], number: signal.Signals, share: float, duration: float
) -> tuple[Problem, float]:
    """Start the command and send the signal; a process that was faster is started again."""
    least = 0.0 if number == signal.SIGKILL else _STARTED
    after = max(least, share * duration)
    while True:
        kept = project.copy(project.root.with_name(f"{project.root.name}-kept"))
        process = project.start(*command)
        try:
            process.wait(after)
        except subprocess.TimeoutExpired:
            break
        # Through before the signal: once more from the start, and earlier.
        process.communicate()
        shutil.rmtree(project.root)
        kept.root.rename(project.root)
        after = max(least / 2, 0.9 * after)
    shutil.rmtree(kept.root)
    os.killpg(process.pid, number)
    try:
        _, err = process.communicate(timeout=_ANSWER)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return ("hang", f"no end within {_ANSWER:.0f} s"), after
    if number == signal.SIGKILL or process.returncode == 0:
        return None, after
    lines = [line for line in err.splitlines() if line.startswith(_LINES[number])]
    if process.returncode != 128 + number or len(lines) != 1 or "Traceback" in err:
        return ("traceback", f"status {process.returncode}: {err[-600:]}"), after
    return _leftovers(project, interrupted=True), after


def _judge(
    project: Scratch, again: "subprocess.CompletedProcess[str]", whole: list[dict[str, str]]
) -> Problem:
    """Compare what the second run left with what undisturbed runs leave."""
    if again.returncode:
        return "failed", f"status {again.returncode}: {again.stderr[-600:]}"
    if "Traceback" in again.stderr:
        return "traceback", again.stderr[-600:]
    content = _content(project)
    one, other = whole
    # Files that hold times, or are named after such, differ from run to run.
    sure = {path: digest for path, digest in one.items() if other.get(path) == digest}
    if lost := sorted(set(one) & set(other) - set(content)):
        return "lost", ", ".join(lost)
    if changed := sorted(path for path in sure if content[path] != sure[path]):
        return "silent", ", ".join(changed)
    more = sorted(set(content) - set(one) - set(other))
    if more and len(content) > max(len(one), len(other)):
        return "leftover", ", ".join(more)
    return _leftovers(project)


def _leftovers(project: Scratch, *, interrupted: bool = False) -> Problem:
    hidden = [
        str(path.relative_to(project.root))
        for path in project.root.rglob(".*")
        if _TEMPORARY.fullmatch(path.name) and ".git" not in path.relative_to(project.root).parts
    ]
    if hidden:
        return "leftover", ", ".join(sorted(hidden))
    trees = project.run("git", "worktree", "list").stdout.splitlines()
    if len(trees) > 1 and not interrupted:
        return "leftover", f"working tree {trees[1]}"
    return None


def _content(project: Scratch) -> dict[str, str]:
    """Return the digest of every file, but for what git and DVC keep, and what tells files apart.

    The last holds when and where the photos of one copy of the project were written. Times of
    networks are kept on a machine that is not busy.
    """
    found = {}
    for path in sorted(project.root.rglob("*")):
        name = path.relative_to(project.root)
        private = name.parts[0] == ".git" or name.parts[:2] in _PRIVATE
        if path.is_file() and not private and "__pycache__" not in name.parts:
            found[name.as_posix()] = sha256_of(path)
    return found
