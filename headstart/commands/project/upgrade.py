"""`headstart upgrade`: bring a project to the installed library."""

import argparse
import hashlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from headstart.commands import yaml_text
from headstart.commands.project.init import GIT_IGNORE, IGNORED, complete
from headstart.commands.project.new_params import add_missing
from headstart.commands.project.template import (
    PIPELINE_FILE,
    SAMPLE,
    make_lock,
    stage_bodies,
    template_files,
    template_params,
)
from headstart.common.errors import InputError
from headstart.common.files import atomic_write
from headstart.common.lock import LOCK_FILE, ProjectLock, read_lock
from headstart.common.params import PARAMS_FILE, read_params
from headstart.configuration.params import check_params

_BESIDE = ".new"
"""Suffix of a file of the template that is written beside the one which the user has edited."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--dry-run", action="store_true", help="tell what would be done, do nothing"
    )
    parser.epilog = (
        "No value of params.yaml and no file that you have edited is changed; where such a file "
        f"differs in the new version, that lies beside it as {PIPELINE_FILE}{_BESIDE}, for example."
    )


def run(args: argparse.Namespace) -> int:
    """Renew the lock, complete params.yaml, and tell what runs again.

    Raises:
        InputError: this is no project, or a file of it cannot be read.
    """
    old = read_lock()
    upgrade = plan(old)
    # The lock comes last: a run that is cut off before is simply repeated.
    if not args.dry_run:
        for path, content in upgrade.writes.items():
            with atomic_write(Path(path)) as temporary:
                temporary.write_bytes(content)
    print("\n".join(upgrade.lines()))
    if args.dry_run:
        print("Nothing is written (--dry-run).")
    return 0


@dataclass
class Upgrade:
    """What an upgrade writes and tells.

    Attributes:
        versions: Of the library, before and now.
        writes: New contents by path, in the order of writing.
        notes: A line per file that is new, or that the user should look at.
        reasons: By stage, why it runs again.
    """

    versions: tuple[str, str]
    writes: dict[str, bytes] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    reasons: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def lines(self) -> Iterator[str]:
        """Yield what the user is told."""
        if not self.writes and not self.notes:
            yield f"{LOCK_FILE} is of the installed headstart {self.versions[1]}: nothing to do."
            return
        before, now = self.versions
        yield f"{LOCK_FILE}: headstart {now}" + ("" if before == now else f", was {before}")
        yield from self.notes
        if not self.reasons:
            yield "No stage runs again: no code that one runs has changed."
            return
        yield "What the next `dvc repro` runs again, and after it what depends on changed results:"
        width = max(map(len, self.reasons))
        for stage, reasons in self.reasons.items():
            yield f"  {stage:<{width}}  {'; '.join(reasons)}"


def plan(old: ProjectLock) -> Upgrade:
    """Work out the upgrade of the project in the current folder.

    Args:
        old: Its lock.
    """
    pipeline = _read_pipeline()
    files = template_files(sample=SAMPLE in pipeline["stages"])
    new = make_lock(files)
    upgrade = Upgrade((old.version, new.version))
    bodies = dict(stage_bodies(pipeline))
    changed_stages = {
        name
        for name, code in new.stages.items()
        if name not in old.stages or old.stages[name].digest != code.digest
    }
    for name in new.stages:
        if name in bodies and name in changed_stages:
            upgrade.reasons[name].append(_changed_code(name, old, new))
    _take_over_params(upgrade, changed_stages, bodies)
    _take_over_files(upgrade, files, old, bodies)
    # What the user has deleted stays away.
    if GIT_IGNORE.is_file():
        content, missing = complete(GIT_IGNORE, IGNORED)
        if missing:
            upgrade.writes[str(GIT_IGNORE)] = content
            upgrade.notes.append(f"{GIT_IGNORE}: added {', '.join(missing)}")
    if new != old:
        upgrade.writes[str(LOCK_FILE)] = new.model_dump_json(indent=2).encode() + b"\n"
    return upgrade


def _read_pipeline() -> Any:
    path = Path(PIPELINE_FILE)
    try:
        pipeline = yaml_text.load(path.read_text(encoding="utf-8"))
        dict(stage_bodies(pipeline))
    except FileNotFoundError:
        raise InputError(f"{path} not found: bring it back (`git checkout {path}`)") from None
    except (YAMLError, TypeError, KeyError, AttributeError):
        raise InputError(
            f"{path}: expected stages as `dvc repro` reads them; correct the file"
        ) from None
    return pipeline


def _changed_code(stage: str, old: ProjectLock, new: ProjectLock) -> str:
    if stage not in old.stages:
        return "its code was not in the lock"
    before, now = set(old.stages[stage].packages), set(new.stages[stage].packages)
    edited = {name for name in before & now if old.packages.get(name) != new.packages[name]}
    return "code: " + ", ".join(f"headstart/{name}" for name in sorted((before ^ now) | edited))


def _take_over_params(upgrade: Upgrade, changed_stages: set[str], bodies: dict[str, Any]) -> None:
    """Add new keys to the sections whose options, which are code, may have changed."""
    read_params()  # raises, naming the line, where the file cannot be read
    text = PARAMS_FILE.read_text(encoding="utf-8")
    completed, keys = add_missing(text, template_params(), changed_stages)
    if keys:
        upgrade.writes[str(PARAMS_FILE)] = completed.encode()
        upgrade.notes.append(f"{PARAMS_FILE}: added {', '.join(keys)}")
    for stage, body in bodies.items():
        new = [key for key in keys if any(_covers(param, key) for param in body.get("params", []))]
        if new:
            upgrade.reasons[stage].append(f"new in {PARAMS_FILE}: {', '.join(new)}")
    try:
        check_params(YAML(typ="safe").load(completed))
    except InputError as error:
        upgrade.notes.append(f"Put right by hand, since no value is touched:\n{error}")


def _covers(param: Any, key: str) -> bool:
    return isinstance(param, str) and f"{key}.".startswith(f"{param}.")


def _take_over_files(
    upgrade: Upgrade, files: dict[str, bytes], old: ProjectLock, bodies: dict[str, Any]
) -> None:
    for path, content in files.items():
        mine = Path(path).read_bytes() if Path(path).is_file() else None
        before = old.files.get(path)
        if mine == content or _sha256(content) == before:
            continue
        if mine is None:
            if before is None:
                upgrade.writes[path] = content
                upgrade.notes.append(f"{path}: new")
            # What the user has deleted stays away.
        elif _sha256(mine) == before:
            upgrade.writes[path] = content
            upgrade.notes.append(f"{path}: renewed; you had not edited it")
            for stage in _stages_of(path, content, bodies):
                upgrade.reasons[stage].append(f"{path} renewed")
        else:
            upgrade.writes[path + _BESIDE] = content
            upgrade.notes.append(
                f"{path}: you have edited it, and Headstart has changed it: its new one lies "
                f"beside it as {path}{_BESIDE}; take over what you want, then delete that"
            )
    for path in old.files:
        if path not in files and Path(path).is_file():
            upgrade.notes.append(
                f"{path}: Headstart no longer has it; delete it, or keep it as yours"
            )


def _stages_of(path: str, content: bytes, bodies: dict[str, Any]) -> list[str]:
    """Return the stages that a renewed file makes run again."""
    if path == PIPELINE_FILE:
        renewed = dict(stage_bodies(yaml_text.load(content.decode())))
        return [name for name, body in renewed.items() if body != bodies.get(name)]
    return [name for name, body in bodies.items() if path in body.get("deps", [])]


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
