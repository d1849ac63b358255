"""What the scripts on extraction share: options, generated photos, the feature file, a rate."""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from headstart.extraction import engines
from headstart.extraction.bottleneck import Bottleneck, identify
from headstart.extraction.extract import Extraction
from headstart.extraction.options import ExtractOptions
from headstart.extraction.requests import Request
from headstart.features.file import Columns
from headstart.images.options import AugmentOptions


def options(backbone: str, weights: str, engine: str, precision: str, **changes) -> ExtractOptions:
    """Return a section `extract` without views."""
    return ExtractOptions(
        **{
            "backbone": backbone,
            "weights": weights,
            "seed": 0,
            "image_size": "auto",
            "resize": "stretch",
            "layer": "auto",
            "pooling": "avg",
            "engine": engine,
            "precision": precision,
            "augment": AugmentOptions(views=0, seed=0),
            **changes,
        }
    )


def bottleneck(*names: str, **changes) -> Bottleneck:
    """Resolve backbone, weights, engine and precision."""
    wanted = options(*names, **changes)
    return identify(wanted, engines.resolve(wanted.engine, wanted.precision))


def make_photos(folder: Path, count: int, size: tuple[int, int] = (500, 375)) -> None:
    """Write smooth JPEGs with some noise, in two class folders."""
    for index in range(count):
        target = folder / ("even", "odd")[index % 2] / f"{index:06}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(index)
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), dtype=np.float32)
        noisy = smooth + rng.normal(0, 6, smooth.shape)
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(target, quality=88)


def requests_for(folder: Path) -> list[Request]:
    """List the images below a folder."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix in (".jpg", ".png"))
    return [Request(str(path), hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths]


def write(extraction: Extraction, requests: list[Request], path: Path) -> None:
    """Assemble the feature file."""
    n = len(requests)
    columns = Columns(
        label=np.zeros(n, np.int64),
        split=np.full(n, "train"),
        sha256=np.array([request.sha256 for request in requests]),
        view=np.zeros(n, np.int32),
        group=np.full(n, -1),
        image=np.arange(n),
    )
    extraction.write(path, ("only",), columns)


def rate(count: int, work: Callable[[], object]) -> float:
    """Return how many of `count` were done per second."""
    started = time.perf_counter()
    work()
    return count / (time.perf_counter() - started)
