"""Three strategies and training from scratch, in four cases: few and many images, like and unlike.

Usage: python bench/strategies.py PHOTOS

PHOTOS is a folder of photos with one sub-folder per class, which are like ImageNet's; the digits of
the sample are not. Of each, ten training images per class are few, and all are many. What is run is
`headstart compare --strategies`, with the options of docs/en/course/4-three-strategies.md.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.projects import changed_params
from bench.results import machine, table, write_section
from headstart.samples import write_sample

FEW = 10
SIZES = {"photos": 64, "digits": 32}
HEADER = ("case", "strategy", "test accuracy", "95 % interval", "training, s", "weights")
OPTIONS = {
    "train.heads": {"logistic": {}},
    "finetune.epochs": 15,
    "finetune.patience": 15,
    "finetune.learning_rate": 1e-3,
}


def main() -> None:
    """Run the four cases; write the section."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    photos = parser.parse_args().photos.resolve()
    rows = []
    where = machine()
    with tempfile.TemporaryDirectory() as folder:
        write_sample("digits", Path(folder, "digits"))
        for name, source in (("photos", photos), ("digits", Path(folder, "digits"))):
            for candidate in _compare(Path(folder, f"project-{name}"), source, SIZES[name]):
                rows.append(_row(name, candidate))
    write_section(
        "Strategies: four cases",
        [
            f"Machine: {where}.",
            "",
            f"`headstart compare --strategies --over train.shots={FEW},null`: EfficientNetLite0, "
            "photos at 64 pixels, digits at 32, up to 15 epochs at a learning rate of 0.001. Few: "
            f"{FEW} training images per class. Seconds are of training, without the pass that "
            "computes features.",
            "",
            *table(HEADER, rows),
        ],
    )  # fmt: skip


def _compare(root: Path, source: Path, size: int) -> list[dict[str, Any]]:
    """Make a project of its own and compare in it."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HEADSTART_CACHE": str(root.with_suffix(".store")),
        "DVC_NO_ANALYTICS": "1",
        **dict.fromkeys(("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"), "bench"),
        **dict.fromkeys(("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"), "bench@example.org"),
    }  # fmt: skip

    def run(*command: str, place: Path = root) -> str:
        return subprocess.run(
            command, cwd=place, env=environment, check=True, text=True, stdout=subprocess.PIPE
        ).stdout

    run("git", "init", "--quiet", str(root), place=root.parent)
    run("headstart", "init", ".", "--source", str(source))
    params = changed_params({"prepare.source": str(source), "extract.image_size": size, **OPTIONS})
    (root / "params.yaml").write_text(params.model_dump_json(), encoding="utf-8")
    run("dvc", "repro", "--quiet")
    run("git", "add", "--all")
    run("git", "commit", "--quiet", "--message", "start")
    told = run(
        "headstart", "compare", "--strategies", "--over", f"train.shots={FEW},null",
        "--format", "json",
    )  # fmt: skip
    return list(json.loads(told)["candidates"])


def _row(name: str, candidate: dict[str, Any]) -> tuple[object, ...]:
    few = candidate["overrides"].get("train.shots") == FEW
    low, high = candidate["interval"]
    return (
        f"{'few' if few else 'many'} {name}",
        candidate["overrides"].get("finetune.unfreeze", "none"),
        f"{candidate['accuracy']:.3f}",
        f"{low:.3f} to {high:.3f}",
        f"{candidate['training_seconds'] or 0:.1f}",
        f"{candidate['trained_parameters']:,}",
    )


if __name__ == "__main__":
    main()
