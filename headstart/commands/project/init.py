"""`headstart init`: make a project in any folder."""

import argparse
import os
from collections.abc import Iterable
from pathlib import Path

from headstart.catalog import get
from headstart.commands import yaml_text
from headstart.commands.project.template import (
    PIPELINE_FILE,
    cached_outputs,
    make_lock,
    template_files,
    template_params,
)
from headstart.common.errors import InputError
from headstart.common.files import atomic_write
from headstart.common.lock import LOCK_FILE
from headstart.common.params import PARAMS_FILE
from headstart.common.temporaries import TEMPORARY_PATTERN
from headstart.common.urls import check_url, is_url
from headstart.dataset.tar_shards import expand_braces

GIT_IGNORE = Path(".gitignore")

_IGNORE_FILES = (str(GIT_IGNORE), ".dvcignore")
"""Files to which the lines that they lack are added, where they are there already."""

IGNORED = (
    "__pycache__/",
    "/exports/",
    "/features/parts.json",
    "/plots/comparison.*",
    "/views.png",
    "/dvc_plots/",
    TEMPORARY_PATTERN,
)
"""What commands write into a project besides the outputs of stages, as lines of .gitignore."""

_README = """\
# {name}

An image classifier on {photos}, made with Headstart.

- `dvc repro` runs what is new: it lists the photos, computes their features, trains and scores.
- `params.yaml` holds every value that decides a result. Edit one, `dvc repro` again, and
  `dvc metrics diff` shows what that changed against the last commit.
- `headstart scores` prints the scores; `report/index.html` shows everything, open it in a browser.
- `headstart predict PHOTO ...` classifies other photos with the selected model.
- `pipeline/` holds one short file per stage of `dvc.yaml`; they are yours to edit.
- `headstart upgrade`, after an update of Headstart, says what will run again and why.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "folder",
        metavar="FOLDER",
        nargs="?",
        type=Path,
        default=Path(),
        help="where the project goes; made when missing (default: the current folder)",
    )
    parser.add_argument(
        "--source",
        metavar="PHOTOS",
        help="the folder of photos, the .csv or the tar shards such as 'photos/{000..009}.tar' to "
        "learn from, or the URL such as s3://bucket/photos (default: a small sample of faces)",
    )
    parser.add_argument("--backbone", metavar="NAME", help="as `headstart backbones` lists them")
    parser.add_argument(
        "--no-scm", action="store_true", help="do without git, even inside a git repository"
    )
    parser.epilog = (
        "Nothing is overwritten. A run that was cut off is finished by the same command."
    )


def run(args: argparse.Namespace) -> int:
    """Write the project's files, all or none, and tell the next steps.

    Raises:
        InputError: an unknown backbone, photos that are not there, or files in the way.
    """
    folder: Path = args.folder
    with_git = not args.no_scm and _in_git(folder)
    source = None if args.source is None else _source(args.source, folder)
    files = _files(folder, source, args.backbone, with_git=with_git)
    if (folder / LOCK_FILE).exists():
        raise InputError(
            f"{folder / LOCK_FILE} exists: this is a project already; `headstart upgrade` renews it"
        )
    _refuse_to_overwrite(folder, files)
    for path, content in files.items():
        with atomic_write(folder / path) as temporary:
            temporary.write_bytes(content)
    print("\n".join(_next_steps(folder, source, len(files), with_git=with_git)))
    return 0


def _files(
    folder: Path, source: str | None, backbone: str | None, *, with_git: bool
) -> dict[str, bytes]:
    """Return what to write, by path from the project's folder, the lock last."""
    values = {}
    if source is not None:
        values["prepare.source"] = source
    if backbone is not None:
        values["extract.backbone"] = get(backbone).name
    shared = template_files(sample=source is None)
    pipeline = yaml_text.load(shared[PIPELINE_FILE].decode())
    ignored = [*IGNORED, *cached_outputs(pipeline)]
    config = "[core]\n    analytics = false\n" + ("" if with_git else "    no_scm = true\n")
    readme = _README.format(
        name=folder.resolve().name,
        photos="100 faces and 100 other pictures"
        if source is None
        else f"the photos of `{source}`",
    )
    files = {
        **shared,
        str(PARAMS_FILE): yaml_text.changed(template_params(), values).encode(),
        "README.md": readme.encode(),
        # Weights files that a user puts there are watched by DVC.
        "models/weights/.gitkeep": b"",
        str(GIT_IGNORE): _lines(ignored),
        # As in a fresh clone of a DVC project, which DVC fills up by itself.
        ".dvc/config": config.encode(),
        ".dvc/.gitignore": _lines(["/config.local", "/tmp", "/cache"]),
        str(LOCK_FILE): make_lock(shared).model_dump_json(indent=2).encode() + b"\n",
    }
    return _joined(folder, files)


def _joined(folder: Path, files: dict[str, bytes]) -> dict[str, bytes]:
    """Fit the files to what a repository has: a README, ignore files, DVC's configuration."""
    for name in ("README.md", ".dvc/config", ".dvc/.gitignore"):
        if (folder / name).exists():
            del files[name]
    for name in _IGNORE_FILES:
        if (folder / name).exists():
            files[name], _ = complete(folder / name, files[name].decode().splitlines())
    return files


def complete(path: Path, lines: Iterable[str]) -> tuple[bytes, list[str]]:
    """Return the content of an ignore file with all of these lines, and those that it lacked."""
    present = path.read_text(encoding="utf-8")
    missing = [line for line in lines if line not in present.splitlines()]
    separator = "\n" if present and not present.endswith("\n") else ""
    return (present + separator).encode() + _lines(missing), missing


def _refuse_to_overwrite(folder: Path, files: dict[str, bytes]) -> None:
    """Let through what an earlier run, cut off, has written: the same bytes."""
    in_the_way = [
        path
        for path, content in files.items()
        if path not in _IGNORE_FILES
        and (folder / path).exists()
        and not ((folder / path).is_file() and (folder / path).read_bytes() == content)
    ]
    if in_the_way:
        raise InputError(
            f"{folder}: exists already: {', '.join(in_the_way)}; nothing is written. Move them "
            "away, or choose another folder"
        )


def _source(named: str, folder: Path) -> str:
    """Return the photos' path as params.yaml names it: relative where they lie in the project."""
    if is_url(named):
        return check_url(named, "--source")
    photos = Path(named)
    missing = next((one for one in expand_braces(named) if not Path(one).exists()), None)
    if missing is not None:
        raise InputError(
            f"--source {missing}: there is no such folder or file; expected a folder with one "
            "sub-folder per class, a .csv with the columns path,label, or tar shards"
        )
    if folder.resolve().is_relative_to(photos.resolve()):
        raise InputError(
            f"--source {photos}: the project would lie among its own photos; choose another folder "
            f"than {folder}"
        )
    absolute, project = _absolute(photos), _absolute(folder)
    if absolute.is_relative_to(project):
        return absolute.relative_to(project).as_posix()
    return str(absolute)


def _absolute(path: Path) -> Path:
    """Return a path without its `..`, where links keep their names, unlike in Path.resolve."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - pathlib has no such method


def _in_git(folder: Path) -> bool:
    resolved = folder.resolve()
    return any((parent / ".git").exists() for parent in (resolved, *resolved.parents))


def _next_steps(folder: Path, source: str | None, count: int, *, with_git: bool) -> list[str]:
    lines = [f"{folder.resolve()}: a project, {count} files. Next:"]
    if folder.resolve() != Path.cwd():
        lines.append(f"  cd {folder}")
    lines.append("  dvc repro")
    if (
        with_git
        and source is not None
        and (folder / source).is_dir()
        and not Path(source).is_absolute()
    ):
        lines.append(f"  dvc add {source}    # keeps the photos themselves out of git")
    if with_git:
        lines.append(
            "  git add . && git commit -m Start    # `dvc metrics diff` compares with that"
        )
    else:
        lines += [
            "Without git everything runs; missed is what compares commits: `dvc metrics diff`,",
            "`dvc exp` and `headstart compare`. To have them, now or later:",
            "  git init && dvc config --unset core.no_scm && git add . && git commit -m Start",
        ]
    return lines


def _lines(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()
