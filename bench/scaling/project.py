"""A project of any number of small pictures whose features are drawn instead of computed."""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from ruamel.yaml import YAML

from bench.projects import ROOT
from headstart.common.params import load_section
from headstart.dataset.manifest import read_manifest
from headstart.extraction import engines
from headstart.extraction.bottleneck import identify
from headstart.extraction.options import ExtractOptions
from headstart.extraction.store import FeatureStore, make_keys

BACKBONE = {"backbone": "LeNet5", "weights": "random"}
N_COLUMNS = 120
"""What LeNet5 gives."""

_SIDE = 32
_AT_ONCE = 10_000
# How far apart classes lie, in standard deviations of an image about its class.
_GAP = 3.0


def write_pictures(folder: Path, count: int, n_classes: int) -> None:
    """Write small PNG files, no two alike, in a folder per class."""
    names = [folder / f"class_{number:04}" for number in range(n_classes)]
    for name in names:
        name.mkdir(parents=True)
    write = ThreadPoolExecutor(2).map
    for start in range(0, count, _AT_ONCE):
        rng = np.random.default_rng(start)
        small = rng.integers(0, 256, (min(_AT_ONCE, count - start), 6, 6, 3), np.uint8)

        def one(index: int, small: np.ndarray = small, start: int = start) -> None:
            picture = cv2.resize(small[index], (_SIDE, _SIDE), interpolation=cv2.INTER_CUBIC)
            number = start + index
            path = names[number % n_classes] / f"{number:08}.png"
            path.write_bytes(cv2.imencode(".png", picture)[1].tobytes())

        for _ in write(one, range(len(small))):
            pass


def move_pictures(folder: Path, n_classes: int) -> None:
    """Deal the pictures into other class folders; they stay the files that they were."""
    pictures = sorted(folder.rglob("*.png"), key=lambda path: path.name)
    for number in range(n_classes):
        (folder / f"class_{number:04}").mkdir(exist_ok=True)
    for number, path in enumerate(pictures):
        path.rename(folder / f"class_{number % n_classes:04}" / path.name)


def write_params(root: Path, changes: dict[str, Any]) -> None:
    """Write the committed params.yaml with other values for some dotted keys."""
    yaml = YAML()
    content = yaml.load(ROOT / "params.yaml")
    for key, value in changes.items():
        *path, last = key.split(".")
        section = content
        for name in path:
            section = section[name]
        section[last] = value
    yaml.dump(content, root / "params.yaml")


def fill_store(root: Path) -> None:
    """Store a vector for each image of a prepared project, near that of its class."""
    manifest = read_manifest(root / "data/manifest.csv")
    options = load_section("extract", ExtractOptions)
    engine = engines.resolve(options.engine, options.precision, options.backbone)
    identity = identify(options, engine).taps[0]
    centers = np.random.default_rng(1).standard_normal((len(manifest.class_names), N_COLUMNS))
    centers *= _GAP / np.sqrt(N_COLUMNS)
    with FeatureStore().collection(identity).writer((N_COLUMNS,), {"numpy": "any"}) as writer:
        for keys, labels, start in _keyed(manifest):
            noise = np.random.default_rng(start).standard_normal((len(labels), N_COLUMNS))
            writer.add(keys, (centers[labels] + noise).astype(np.float32))


def _keyed(manifest: Any) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    for start in range(0, len(manifest), _AT_ONCE):
        rows = manifest.rows[start : start + _AT_ONCE]
        keys = make_keys([row.sha256 for row in rows], ["0"] * len(rows))
        yield keys, manifest.labels[start : start + _AT_ONCE], start


if __name__ == "__main__":
    fill_store(Path(sys.argv[1]))
