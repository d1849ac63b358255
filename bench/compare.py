"""Measure `headstart compare` beside the passes and fits that it has to do.

Usage: python bench/compare.py PHOTOS [--budget] [--linear] [--repeat N]

PHOTOS is a folder with one sub-folder per class. Three backbones are compared cold, cold with
networks that were converted before, and again; with `--budget` ten, with and without. The project
is copied, so that neither its git repository nor the user's cache is touched.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.projects import changed_params
from bench.results import machine, table, write_section
from headstart.commands import yaml_text
from headstart.common.cache import Keep
from headstart.dataset.manifest import read_manifest
from headstart.dataset.prepared import prepare
from headstart.extraction import engines
from headstart.extraction.bottleneck import identify
from headstart.extraction.extract import extract
from headstart.extraction.feature_rows import wanted_features, write_features
from headstart.extraction.store import FeatureStore
from headstart.features.file import FeatureFile
from headstart.heads.training import train_heads

LITES = ("EfficientNetLite0", "EfficientNetLite1", "EfficientNetLite2")
TEN = (
    *LITES, "LeNet5:random", "AlexNet:random", "GoogLeNet:random", "MobileNetV2:random",
    "MobileNetV3Small:random", "ResNet50:random", "ResNet50V2:random",
)  # fmt: skip
LINEAR = {"linear_svc": {"c": "auto"}, "logistic": {"l2": "auto"}}
NETWORKS = ("models", "costs")
"""What a cache holds of networks that ran before."""


class Spent(NamedTuple):
    """Seconds by the clock, and of all processors; what other programs do moves the latter less."""

    clock: float
    processor: float


@dataclass(frozen=True)
class Run:
    """One call of `headstart compare`.

    Attributes:
        spent: From start to end, on all its processes.
        record: plots/comparison.json.
    """

    spent: Spent
    record: dict


@dataclass(frozen=True)
class Work:
    """What a candidate cannot do without.

    Attributes:
        passes: All images through the loaded network, decoding included.
        fits: All heads.
        conversion: Building and converting the network, once a machine.
    """

    passes: Spent
    fits: Spent
    conversion: Spent


def copy_project(root: Path, changes: dict[str, Any]) -> None:
    """Copy what git tracks into a new folder, change params.yaml, and commit."""
    root.mkdir()
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split("\0")
    for name in filter(None, tracked):
        if (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    params = root / "params.yaml"
    params.write_text(yaml_text.changed(params.read_text(), changes))
    for command in (
        ["init", "--quiet"],
        ["add", "--all"],
        ["commit", "--quiet", "--message", "bench"],
    ):
        identity = ["-c", "user.name=bench", "-c", "user.email=bench@example.org"]
        subprocess.run(["git", *identity, *command], cwd=root, check=True)


def compare(root: Path, store: Path, *arguments: str) -> Run:
    """Run `headstart compare` in the copied project."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(root),
        "HEADSTART_CACHE": str(store),
        "DVC_NO_ANALYTICS": "1",
    }
    with _clock(resource.RUSAGE_CHILDREN) as spent:
        subprocess.run(
            [sys.executable, "-m", "headstart.commands.cli", "compare", *arguments],
            cwd=root, env=environment, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
    return Run(spent[0], json.loads((root / "plots" / "comparison.json").read_text()))


@contextmanager
def _clock(who: int = resource.RUSAGE_SELF) -> Iterator[list[Spent]]:
    """Give a list that holds what was spent after the block."""

    def now() -> Spent:
        used = resource.getrusage(who)
        return Spent(time.perf_counter(), used.ru_utime + used.ru_stime)

    spent: list[Spent] = []
    started = now()
    yield spent
    ended = now()
    spent.append(Spent(ended.clock - started.clock, ended.processor - started.processor))


def measure_work(name: str, changes: dict[str, Any], folder: Path) -> Work:
    """Time a candidate's conversion, pass and fits, and nothing around them."""
    backbone, _, weights = name.partition(":")
    changes = {**changes, "extract.backbone": backbone, "extract.weights": weights or "pretrained"}
    params = changed_params(changes)
    paths = {key: folder / key for key in ("quarantine", "leaks", "metrics")}
    manifest_path, features = folder / "manifest.csv", folder / "features.h5"
    prepare(params.prepare, manifest=manifest_path, **paths)
    manifest = read_manifest(manifest_path)
    store = FeatureStore(folder / "store")
    bottleneck = identify(
        params.extract, engines.resolve(params.extract.engine, params.extract.precision)
    )
    with _clock() as conversion:
        engine = engines.load(bottleneck, store)
    wanted = wanted_features(manifest, params.extract)
    with _clock() as passes:
        extract(
            bottleneck, wanted.requests, recipe=wanted.recipe, store=store, load=lambda *_: engine
        )
    write_features(
        manifest, params.extract, features=features, views=folder / "views.png",
        metrics=paths["metrics"], store=store,
    )  # fmt: skip
    file = FeatureFile.open(features)
    with _clock() as fits:
        train_heads(
            file, params.train, models=folder / "models", metrics=paths["metrics"],
            plots=folder / "plots", keep=Keep("fits", store.root),
        )  # fmt: skip
    return Work(passes[0], fits[0], conversion[0])


def _keep_networks(cache: Path) -> None:
    for path in cache.iterdir():
        if path.is_dir() and path.name not in NETWORKS:
            shutil.rmtree(path)


def once(names: Sequence[str], changes: dict[str, Any], budget: bool) -> dict[str, Any]:
    """Measure everything once."""
    with tempfile.TemporaryDirectory() as folder:

        def project(name: str) -> Path:
            root = Path(folder, name)
            copy_project(root, changes)
            return root

        cache = Path(folder, "cache")
        runs = {}
        root = project("whole")
        runs["cold"] = compare(root, cache, *names)
        runs["again"] = compare(root, cache, *names)
        _keep_networks(cache)
        runs["cold, networks converted before"] = compare(project("converted"), cache, *names)
        if budget:
            _keep_networks(cache)
            runs["cold, networks converted before, --budget"] = compare(
                project("halved"), cache, *names, "--budget"
            )
            runs["cold, --budget"] = compare(
                project("halved-cold"), Path(folder, "cache-2"), *names, "--budget"
            )
        # For its start alone, which is no network's and would count as the first one's.
        import headstart.common.tensorflow_runtime  # noqa: F401

        # The user's cache would hold what is measured.
        os.environ["HEADSTART_CACHE"] = str(Path(folder, "cache-3"))
        work = {}
        for number, name in enumerate(names):
            candidate = Path(folder, f"candidate-{number}")
            candidate.mkdir()
            work[name] = measure_work(name, changes, candidate)
        return {"runs": runs, "work": work}


def _told(spent: Spent) -> str:
    return f"{spent.clock:.1f} ({spent.processor:.1f})"


def main() -> None:
    """Measure, print, and keep the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--budget", action="store_true", help="ten candidates, halved or not")
    parser.add_argument("--linear", action="store_true", help="linear heads alone")
    parser.add_argument("--repeat", type=int, default=1, help="medians of so many")
    args = parser.parse_args()
    about = machine()
    names = TEN if args.budget else LITES
    changes: dict[str, Any] = {"prepare.source": str(args.photos.resolve())}
    if args.linear:
        changes["train.heads"] = LINEAR
    found = [once(names, changes, args.budget) for _ in range(args.repeat)]

    def median(pick: Callable[[dict[str, Any]], Spent]) -> Spent:
        return Spent(*map(statistics.median, zip(*map(pick, found), strict=True)))

    def total(part: str) -> Spent:
        return median(
            lambda one: Spent(
                *map(sum, zip(*(getattr(w, part) for w in one["work"].values()), strict=True))
            )
        )

    passes, fits, conversions = total("passes"), total("fits"), total("conversion")
    needed = Spent(*(one + other for one, other in zip(passes, fits, strict=True)))
    rows = []
    for name, run in found[-1]["runs"].items():
        spent = median(lambda one, name=name: one["runs"][name].spent)
        forward = run.record["forward_passes"]
        dropped = ", ".join(
            f"{one['label']} at {one['share']:.0%}" for one in run.record["dropped"]
        )
        rows.append([
            name, f"{spent.clock:.1f}", f"{spent.clock / needed.clock:.2f}",
            f"{spent.processor:.1f}", f"{spent.processor / needed.processor:.2f}",
            f"{forward['computed']:,} of {forward['without_budget']:,}", run.record["winner"],
            dropped or "-",
        ])  # fmt: skip
    header = [
        "run", "seconds", "of passes and fits", "processor s", "of passes and fits",
        "forward passes", "chosen", "dropped",
    ]  # fmt: skip
    lines = [
        f"Machine: {about}.",
        "",
        f"`headstart compare {' '.join(names)}` on {args.photos.name}"
        + (" with linear heads" if args.linear else "")
        + f", {args.repeat} times, medians. Alone in one process, seconds by the clock (of all "
        f"processors): the passes of all candidates {_told(passes)}, their fits {_told(fits)}, "
        f"converting the networks, once a machine, {_told(conversions)}.",
        "",
        *table(header, rows),
    ]
    write_section("Comparison with a budget" if args.budget else "Comparison", lines)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
