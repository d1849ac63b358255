"""Compiles headstart/images/resample.c where there is a C compiler, for wheels and editable ones.

The library goes into the wheel (an editable one puts it into site-packages as well), which is then
for this system only; nothing is written into the source tree. Without a compiler, or where the file
does not compile, the wheel goes without, and Pillow resizes the images to the same pixels.
"""

import hashlib
import os
import shlex
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import platform_tags

SOURCE = "headstart/images/resample.c"
# No fast but inexact floating point, so that weights are Pillow's; sums wrap as in Pillow.
FLAGS = ("-O3", "-std=gnu11", "-ffp-contract=off", "-fwrapv", "-fPIC", "-shared")


class CompilingHook(BuildHookInterface):
    """Adds the compiled library to a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and say where the library goes.

        Args:
            version: Of the wheel: "standard" or "editable".
            build_data: What hatchling builds from; changed.
        """
        source = Path(self.root, SOURCE)
        self._folder = TemporaryDirectory()
        # By content, so that a library is never taken for one of another source.
        name = f"resample-{hashlib.sha256(source.read_bytes()).hexdigest()[:16]}.so"
        library = Path(self._folder.name, name)
        if problem := compile_library(source, library):
            self.app.display_warning(f"Images will be resized by Pillow, more slowly: {problem}")
            return
        carried = {str(library): f"headstart/compiled/{name}"}
        if version == "editable":
            build_data["force_include_editable"].update(carried)
        else:
            build_data["force_include"].update(carried)
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{_platform()}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Take the folder away in which it was compiled."""
        self._folder.cleanup()


def compile_library(source: Path, library: Path) -> str:
    """Compile with $CC, or with the first of cc, gcc and clang; return why not, or ""."""
    named = [os.environ["CC"]] if os.environ.get("CC") else ["cc", "gcc", "clang"]
    commands = [command for command in map(shlex.split, named) if shutil.which(command[0])]
    if not commands:
        return f"no C compiler ({', '.join(named)}) is installed"
    command = [*commands[0], *FLAGS, "-o", str(library), str(source), "-lm"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return str(error)
    if done.returncode:
        said = next((line for line in done.stderr.splitlines() if "error" in line), "")
        return f"{shlex.join(commands[0])} failed on {SOURCE} {said}".rstrip()
    return ""


def _platform() -> str:
    # The manylinux and musllinux tags promise more than this machine's compiler keeps.
    return next(tag for tag in platform_tags() if "manylinux" not in tag and "musllinux" not in tag)
