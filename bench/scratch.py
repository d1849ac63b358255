"""A small project in a folder of its own, whose stages and commands run as processes."""

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]

STAGES = ("prepare", "extract", "train", "novelty", "finetune", "evaluate")
"""Those that the other commands need, in the order in which they run."""

PARAMS: dict[str, Any] = {
    "prepare.source": "photos",
    "extract.backbone": "LeNet5",
    "extract.weights": "random",
    "train.heads": {"logistic": {}, "dense": {"units": [16], "epochs": 4}},
    "train.learning_curve": "none",
    "train.min_validation": 1,
    "train.folds_below": 1,
    "finetune.unfreeze": "last_block",
    "finetune.epochs": 2,
    "report.projections": ["pca"],
    "report.heat_maps": 2,
}
"""Values of params.yaml by dotted key: everything runs, nothing takes long."""


@dataclass(frozen=True)
class Scratch:
    """A project under `root`, its cache within it."""

    root: Path

    @property
    def cache(self) -> Path:
        """What HEADSTART_CACHE names."""
        return self.root / ".store"

    def start(self, *command: str, **options: Any) -> "subprocess.Popen[str]":
        """Start a command in the project's folder, in a process group of its own."""
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "HEADSTART_CACHE": str(self.cache),
            "CUDA_VISIBLE_DEVICES": "",
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(self.root / ".dvc" / "tmp" / "site"),
            **{f"GIT_{who}_{what}": "fuzz" for who in ("AUTHOR", "COMMITTER")
               for what in ("NAME", "EMAIL")},
            **options.pop("environment", {}),
        }  # fmt: skip
        streams: dict[str, int | IO[str]] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(
            command, cwd=self.root, env=environment, text=True, errors="backslashreplace",
            start_new_session=True, **{**streams, **options},
        )  # fmt: skip

    def run(self, *command: str, **options: Any) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end; after `timeout` seconds, if given, to its death."""
        timeout = options.pop("timeout", None)
        process = self.start(*command, **options)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def check(self, *command: str) -> None:
        """Run a command that must succeed.

        Raises:
            RuntimeError: it failed; the message shows what it printed.
        """
        done = self.run(*command)
        if done.returncode:
            raise RuntimeError(
                f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}"
            )

    def copy(self, root: Path) -> "Scratch":
        """Copy the project with all it holds; times of files stay."""
        shutil.copytree(self.root, root, symlinks=True)
        return Scratch(root)


def stage(name: str) -> tuple[str, ...]:
    """Return the command that runs a stage by itself."""
    return (sys.executable, "-m", f"pipeline.{name}")


def command(*arguments: str) -> tuple[str, ...]:
    """Return the command line of `headstart`."""
    return (sys.executable, "-m", "headstart.commands.cli", *arguments)


def make(root: Path, *, images: int = 15, changes: dict[str, Any] | None = None) -> Scratch:
    """Make a project with two classes of generated photos, nothing run yet, committed to git."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.split("\0")  # fmt: skip
    for name in filter(None, listed):
        source, target = ROOT / name, root / name
        # The code is taken from the checkout; a project has its stages and settings only.
        if source.is_file() and not name.startswith(("headstart/", "tests/", "bench/", "docs/")):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    # DVC wants to see what the stages depend on.
    (root / "headstart").symlink_to(ROOT / "headstart")
    shutil.rmtree(root / "metrics", ignore_errors=True)
    (root / "dvc.lock").unlink(missing_ok=True)
    for label, channel in (("warm", 0), ("cold", 2)):
        (root / "photos" / label).mkdir(parents=True)
        for index in range(images):
            pixels = photo(index + 1000 * channel) // 2
            pixels[..., channel] += 100
            Image.fromarray(pixels).save(root / "photos" / label / f"{index:02}.jpg", quality=92)
    yaml = YAML()
    content = yaml.load(root / "params.yaml")
    for key, value in {**PARAMS, **(changes or {})}.items():
        section, name = key.split(".", 1)
        content[section][name] = value
    yaml.dump(content, root / "params.yaml")
    project = Scratch(root)
    project.check("git", "init", "--quiet")
    (root / ".git" / "info" / "exclude").write_text(".store\n")
    project.check("git", "add", "--all")
    project.check("git", "commit", "--quiet", "--message", "start")
    return project


def photo(seed: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Make a smooth, noisy, photo-like image, (height, width, 3) uint8."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=float)
    return np.clip(smooth + rng.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)
