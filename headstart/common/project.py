"""Whether one is in a project's folder, and what to say where a run has left nothing."""

import os
from pathlib import Path

from headstart.common.errors import InputError

FILES = (Path("params.yaml"), Path("dvc.yaml"))
"""What a project's folder holds."""


def missing(path: Path, remedy: str) -> InputError:
    """Return the error for what a run leaves, and has not left.

    Args:
        path: The file or folder that is not there.
        remedy: What to do in a project, such as "run `dvc repro`".
    """
    anywhere = path.is_absolute() or any(file.is_file() for file in FILES)
    return InputError(f"{path}: no such file: {remedy if anywhere else where_to_run()}")


def where_to_run() -> str:
    """Say where commands run, to those who are in a folder that is no project."""
    text = f"run from a project's folder, which holds {' and '.join(map(str, FILES))}: "
    here = Path.cwd()
    for above in here.parents:
        if all((above / file).is_file() for file in FILES):
            return f"{text}that is `cd {os.path.relpath(above, here)}` from here"
    return f"{text}`headstart init FOLDER --source PHOTOS` makes one of your photos"
