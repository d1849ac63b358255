"""Runs the blocks of a page as its reader would: in an empty home folder, one after the other.

What a page starts from stands in its first line, `<!-- state: photos, VGG16 -->`: `photos` are 600
of cats and dogs in ~/photos, `checkout` is this repository in ~/headstart, and a backbone's name
stands for its published weights. $HEADSTART_PHOTOS names a folder of such photos,
$HEADSTART_WEIGHTS one of weights under the names that Keras gives them; where these are not at
hand, fewer made-up pictures and random weights stand in, and only what does not depend on them is
compared.
"""

import contextlib
import doctest
import io
import os
import shutil
import subprocess
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from ruamel.yaml import YAML

from docs.transcripts import Block, Step, blocks, state, steps

ROOT = Path(__file__).parents[1]
PICTURES_PER_CLASS = 120
"""Made-up ones; fewer than photos, since the tests wait for them."""
READER = "/home/kim"
_MARK = "\x01"
_UNSEEN = ("models", "costs", "cuts", "inspections", "pictures", "pages")
"""What a cache folder keeps that saves time, and that commands say nothing of."""
_OWN = ("HEADSTART_", "DVC_", "GIT_", "XDG_", "PYTEST_", "MAKE", "MFLAGS")
"""Beginnings of variables that no reader has set; `make` hands its own on to a `make` on a page."""


@dataclass(frozen=True)
class Outcome:
    """What a step of a page gave.

    Attributes:
        block: The block that it is of.
        step: What was run, and what the page shows.
        printed: What it printed, both streams.
        status: Its exit status.
    """

    block: Block
    step: Step
    printed: str
    status: int

    @property
    def as_told(self) -> bool:
        """Whether it failed just where the page says so, which it can of a block's last step."""
        told = self.block.mark == "fails" and self.step == steps(self.block)[-1]
        return (self.status != 0) == told


class Home:
    """A reader's home folder.

    Attributes:
        as_shown: Whether photos and weights are those that pages are written with.
    """

    def __init__(self, folder: Path, shared: Path | None = None) -> None:
        """Make it.

        Args:
            folder: Where.
            shared: Keeps converted networks and the like from one home to the next, which saves
                time and shows nowhere but in what `headstart cache` prints.
        """
        self.folder = folder
        self.as_shown = True
        self._shared = shared
        self.folder.mkdir(parents=True)

    def furnish(self, names: list[str]) -> None:
        """Make what a page starts from.

        Raises:
            ValueError: its first line names something else.
        """
        from headstart import catalog

        for name in names:
            if name == "photos":
                self._photos()
            elif name == "checkout":
                _check_out(self.folder / "headstart")
            elif name in [spec.name for spec in catalog.specs()]:
                self._weights(name)
            else:
                raise ValueError(
                    f"state: expected photos, checkout or backbones, received {name!r}"
                )

    def run(self, page: str) -> list[Outcome]:
        """Run a page's blocks in order."""
        cache = self.folder / ".cache" / "headstart"
        shared = self._shared if "headstart cache" not in page else None
        if shared is not None and shared.is_dir():
            shutil.copytree(shared, cache)
        found = self._run(page)
        if shared is not None and cache.is_dir():
            for name in _UNSEEN:
                if (cache / name).is_dir():
                    shutil.copytree(cache / name, shared / name, dirs_exist_ok=True)
            shutil.copy2(cache / "CACHEDIR.TAG", shared)
        return found

    def _run(self, page: str) -> list[Outcome]:
        found: list[Outcome] = []
        place = self.folder / ("headstart" if "checkout" in state(page) else "")
        pending: list[Block] = []
        for block in [*blocks(page), None]:
            if block is not None and block.kind == "examples":
                pending.append(block)
                continue
            if pending:
                found += self._examples(pending, place)
                pending = []
            if block is None or block.mark == "not run":
                continue
            if block.kind == "file":
                _write(block, place)
            elif block.kind == "console":
                outcomes, place = self._commands(block, place)
                found += outcomes
        return found

    @property
    def environment(self) -> dict[str, str]:
        """What commands find: this checkout's code, and nothing of the machine's owner."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_OWN)}
        author = {"NAME": "Kim", "EMAIL": "kim@example.org"}
        git = {f"GIT_{who}_{key}": author[key] for who in ("AUTHOR", "COMMITTER") for key in author}
        return kept | {
            "HOME": str(self.folder),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": f"{self.folder / '.mirror'}{os.pathsep}{ROOT}",
            "MIRROR": str(self.folder / ".mirror"),
            "COLUMNS": "100",
            "LC_ALL": "C.UTF-8",
            "CUDA_VISIBLE_DEVICES": "",
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(self.folder / ".cache" / "dvc-site"),
            **git,
        }

    def _commands(self, block: Block, place: Path) -> tuple[list[Outcome], Path]:
        """Run a block's commands in one shell; return what came of them, and where it ended."""
        listed = steps(block)
        script = ["exec 2>&1"]
        for step in listed:
            script += [step.source, f"printf '{_MARK}%s\\n' $?"]
        done = subprocess.run(
            ["bash", "-c", "\n".join([*script, "pwd -P"])],
            cwd=place, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            text=True, check=False,
        )  # fmt: skip
        *parts, end = done.stdout.split(_MARK)
        outcomes, status = [], ""
        for step, part, after in zip(listed, parts, [*parts[1:], end], strict=True):
            printed = part.removeprefix(status + "\n") if status else part
            status = after.split("\n", 1)[0]
            outcomes.append(Outcome(block, step, self._shown(printed), int(status)))
        return outcomes, Path(end.strip().splitlines()[-1])

    def _examples(self, pending: list[Block], place: Path) -> list[Outcome]:
        """Run Python examples in one process; the blocks share their names."""
        done = subprocess.run(
            [sys.executable, "-m", "docs.sandbox"],
            input=_MARK.join(block.text for block in pending),
            cwd=place, env=self.environment, stdout=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
        listed = [(block, step) for block in pending for step in steps(block)]
        printed = done.stdout.split(_MARK)[1:]
        return [
            Outcome(block, step, self._shown(text[1:]), int(text[0]))
            for (block, step), text in zip(listed, printed, strict=True)
        ]

    def _shown(self, printed: str) -> str:
        """Return what was printed with the reader's home folder, and without progress bars."""
        lines = (line.rsplit("\r", 1)[-1].rstrip() for line in printed.rstrip("\n").split("\n"))
        return "\n".join(lines).replace(str(self.folder.resolve()), READER)

    def _photos(self) -> None:
        given = os.environ.get("HEADSTART_PHOTOS")
        target = self.folder / "photos"
        if given:
            shutil.copytree(given, target)
            return
        self.as_shown = False
        for label in ("cat", "dog"):
            (target / label).mkdir(parents=True)
            for index in range(PICTURES_PER_CLASS):
                _drawn(label, index).save(target / label / f"{label}.{index}.jpg", quality=80)

    def _weights(self, name: str) -> None:
        """Lay published weights, or random ones, where a download of them is answered from."""
        from headstart import catalog
        from headstart.catalog.spec import DownloadWeights

        source = catalog.get(name).pretrained
        assert isinstance(source, DownloadWeights), f"{name}: its weights are no file"
        mirror = self.folder / ".mirror"
        mirror.mkdir(exist_ok=True)
        shutil.copy2(ROOT / "docs" / "mirror.py", mirror / "sitecustomize.py")
        given = Path(os.environ.get("HEADSTART_WEIGHTS", ""), source.file)
        if "HEADSTART_WEIGHTS" in os.environ and given.is_file():
            shutil.copy2(given, mirror / source.file)
            return
        self.as_shown = False
        made = (self._shared.with_name("weights") if self._shared else mirror) / source.file
        if not made.is_file():
            made.parent.mkdir(exist_ok=True)
            subprocess.run(
                [sys.executable, "-c", _RANDOM_WEIGHTS, name, str(made)],
                env=self.environment, check=True, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        if made.parent != mirror:
            shutil.copy2(made, mirror)


_RANDOM_WEIGHTS = """
import sys
from headstart import catalog
from headstart.catalog import building, weights
spec = catalog.get(sys.argv[1])
model = building.build(spec, spec.default_size, weights.resolve(spec, "random", 0))
model.save(sys.argv[2])
"""


def _check_out(folder: Path) -> None:
    """Copy what git tracks, as a clone has it, with the environment that `make` has made."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    (folder / ".venv").mkdir()
    for path in Path(sys.prefix).iterdir():
        if path.name != ".ready":
            (folder / ".venv" / path.name).symlink_to(path)
    (folder / ".venv" / ".ready").touch()


def _write(block: Block, place: Path) -> None:
    """Write the file that a block is; of params.yaml, set what the block sets."""
    path = place / block.path
    if block.path != "params.yaml":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text.split("\n", 1)[1], encoding="utf-8")
        return
    yaml = YAML()
    yaml.width = 1000
    content, changes = yaml.load(path), YAML(typ="safe").load(block.text)
    for section, values in changes.items():
        for key, value in values.items():
            if (
                isinstance(value, dict)
                and isinstance(content[section][key], dict)
                and key != "heads"
            ):
                content[section][key].update(value)
            else:
                content[section][key] = value
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(content, file)


def _drawn(label: str, index: int) -> Image.Image:
    """Return a made-up picture whose texture tells its class."""
    rng = np.random.default_rng([index, label == "dog"])
    noise = rng.integers(0, 256, (12, 16, 3) if label == "cat" else (12, 4, 3), dtype=np.uint8)
    size = (int(rng.integers(160, 240)), int(rng.integers(120, 200)))
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def _run_examples(texts: list[str]) -> None:
    """Run statements one by one, and print what each gives after a mark and its status."""
    names: dict[str, object] = {"__name__": "__main__"}
    for example in doctest.DocTestParser().get_examples("\n".join(texts)):
        output, status = io.StringIO(), 0
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            try:
                exec(compile(example.source, "<page>", "single"), names)
            # An error of any kind may be what a page shows, and the page goes on after it.
            except Exception as error:
                status = 1
                output.write("".join(traceback.format_exception_only(error)))
        print(f"{_MARK}{status}{output.getvalue()}", end="")


if __name__ == "__main__":
    _run_examples(sys.stdin.read().split(_MARK))
