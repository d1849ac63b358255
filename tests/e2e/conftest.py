"""A copy of the project to run for real, with a feature store and a DVC cache of its own."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from selenium.webdriver.remote.webdriver import WebDriver

from tests.e2e.browser import start

ROOT = Path(__file__).parents[2]


LOOKING = {"prepare"}
"""Stages that run each time, to see whether photos have changed."""


def stages_in(output: str) -> list[str]:
    """Return the stages that ran, from what `dvc repro` printed, but for `LOOKING`."""
    ran = [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]
    return [stage for stage in ran if stage not in LOOKING]


@dataclass
class Project:
    """A checkout under a temporary folder, and how to use it as a user would."""

    root: Path
    environment: dict[str, str]

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in the project's folder; a failure shows what it printed."""
        done = subprocess.run(
            command, cwd=self.root, env=self.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        if check:
            assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-6000:]}"
        return done

    def repro(self, *arguments: str) -> list[str]:
        """Run `dvc repro` and return the stages that ran, as `stages_in` does."""
        return stages_in(self.run("dvc", "repro", *arguments).stdout)

    def edit(self, **values: object) -> None:
        """Set values of params.yaml; `a__b` names the key a.b."""
        yaml = YAML()
        path = self.root / "params.yaml"
        content = yaml.load(path)
        for dotted, value in values.items():
            *sections, key = dotted.split("__")
            section = content
            for name in sections:
                section = section[name]
            section[key] = value
        with path.open("w") as file:
            yaml.dump(content, file)

    def commit(self, message: str = "state") -> None:
        """Commit everything that git does not ignore."""
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--allow-empty", "--message", message)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    """One browser for all tests; each opens its page afresh."""
    driver = start(tmp_path_factory.mktemp("profile"))
    yield driver
    driver.quit()


@pytest.fixture(scope="session")
def make_project(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Project]:
    """Copy what git tracks into a new folder and commit it there."""

    def make(name: str) -> Project:
        root = tmp_path_factory.mktemp(name)
        tracked = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, check=True, capture_output=True, text=True,
        ).stdout.split("\0")  # fmt: skip
        for relative in filter(None, tracked):
            if (ROOT / relative).is_file():
                target = root / relative
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / relative, target)
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            # The copy's own package, not the one that is installed.
            "PYTHONPATH": str(root),
            "HEADSTART_CACHE": str(root / ".store"),
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(root / ".dvc" / "tmp" / "site"),
            "GIT_AUTHOR_NAME": "test", "GIT_AUTHOR_EMAIL": "test@example.org",
            "GIT_COMMITTER_NAME": "test", "GIT_COMMITTER_EMAIL": "test@example.org",
        }  # fmt: skip
        (root / ".git" / "info").mkdir(parents=True)
        project = Project(root, environment)
        project.run("git", "init", "--quiet")
        (root / ".git" / "info" / "exclude").write_text(".store\n")
        project.commit()
        return project

    return make
