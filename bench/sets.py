"""Data sets of different kinds, built from the samples, installed packages and a folder of photos.

Sizes, domains, gray and small pixels differ: what holds on all of them was tuned to none.
"""

import importlib.util
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

from bench.projects import changed_params, prepare_and_extract
from headstart.common import places
from headstart.common.files import atomic_folder
from headstart.configuration.params import Params
from headstart.dataset.manifest import Manifest, read_manifest
from headstart.features.file import FeatureFile
from headstart.heads.data import TrainingData
from headstart.samples import SampleName, write_sample

_SEEDS = 3
_LETTERS = "abdeghkmnrtz"
_SURFACES = ("brick", "gravel", "grass", "coins", "moon", "ihc", "hubble_deep_field", "retina")


@dataclass(frozen=True, slots=True)
class SplitSet:
    """A set in one of its splits, with its features.

    Attributes:
        name: Of the set.
        seed: Of the split.
        root: Folder with data/manifest.csv and features/bottleneck.h5.
        params: As the stages were run with.
        file: The features.
        manifest: The images.
    """

    name: str
    seed: int
    root: Path
    params: Params
    file: FeatureFile
    manifest: Manifest

    def training_data(self, seed: int | None = None, shots: int | None = None) -> TrainingData:
        """Return what the stage `train` learns from, without class weights.

        Args:
            seed: Another one than that of the split.
            shots: Training images per class; None for all.
        """
        options = self.params.train
        return TrainingData.from_file(
            self.file,
            min_validation=options.min_validation,
            folds_below=options.folds_below,
            streaming_above=options.streaming_above,
            seed=options.seed if seed is None else seed,
            shots=shots,
        )


@dataclass(frozen=True, slots=True)
class Sets:
    """The sets that a measurement runs on.

    Attributes:
        root: Where they are written.
        photos: Photos in two class folders, or None.
        names: Which sets.
        seeds: How many splits of each.
    """

    root: Path
    photos: Path | None
    names: tuple[str, ...]
    seeds: int

    @classmethod
    @contextmanager
    def open(
        cls, photos: Path | None, keep: Path | None, *, only: list[str] | None, seeds: int | None
    ) -> Iterator["Sets"]:
        """Give the sets, in a temporary folder unless `keep` names one that stays.

        Args:
            photos: Without it the sets made of photos are left out.
            keep: What lies there is taken as it is.
            only: Names of sets; all by default.
            seeds: How many splits of each.
        """
        names = tuple(
            name for name in only or SET_NAMES if photos is not None or name not in _OF_PHOTOS
        )
        with tempfile.TemporaryDirectory() as temporary:
            yield cls(keep or Path(temporary), photos, names, seeds or _SEEDS)

    def images(self, name: str) -> Path:
        """Return the folder of a set, with a folder per class; written now if it is missing."""
        folder = self.root / "images" / name
        if not folder.is_dir():
            if name in _OF_PHOTOS:
                assert self.photos is not None, f"{name} is made of photos"
                with atomic_folder(folder, flush=False) as new:
                    _OF_PHOTOS[name](self.photos, new)
            else:
                with atomic_folder(folder, flush=False) as new:
                    _BUILT[name](new)
        return folder

    def split(self, name: str, seed: int = 0, **changes: Any) -> SplitSet:
        """Return a set in one split with its features, computed once.

        Args:
            name: Of the set.
            seed: Of the split and of training.
            changes: Other values of params.yaml; `a__b` names the key a.b.
        """
        given = {key.replace("__", "."): value for key, value in changes.items()}
        params = changed_params(
            {
                "prepare.source": str(self.images(name).absolute()),
                "prepare.seed": seed,
                "train.seed": seed,
                **given,
            }
        )
        tag = "-".join([name, str(seed), *(f"{key}={value}" for key, value in given.items())])
        root = self.root / "splits" / tag.replace("/", "_")
        if not (root / places.FEATURES).is_file():
            prepare_and_extract(root, params)
        file = FeatureFile.open(root / places.FEATURES)
        return SplitSet(name, seed, root, params, file, read_manifest(root / places.MANIFEST))

    def splits(self, **changes: Any) -> Iterator[SplitSet]:
        """Yield every set in all its splits."""
        for name in self.names:
            for seed in range(self.seeds):
                yield self.split(name, seed, **changes)


def _save(pixels: NDArray[np.uint8] | Image.Image, folder: Path, label: str, number: int) -> None:
    (folder / label).mkdir(exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(folder / label / f"{number:04}.png")


def _folder_of(package: str) -> Path:
    """Return the folder of an installed package, without importing it."""
    spec = importlib.util.find_spec(package)
    assert spec is not None, f"expected the package {package}, received none: install it"
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0])


def _of_sample(
    name: SampleName, per_class: int | None, change: Callable[[Image.Image], Image.Image]
) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        with tempfile.TemporaryDirectory() as temporary:
            source = Path(temporary) / "sample"
            write_sample(name, source)
            _copy(source, folder, per_class, change)

    return write


def _copy(
    source: Path,
    folder: Path,
    per_class: int | dict[str, int] | None,
    change: Callable[[Image.Image], Image.Image],
) -> None:
    """Copy some images of each class, the first by name, changed."""
    for label in sorted(path for path in source.iterdir() if path.is_dir()):
        count = per_class.get(label.name) if isinstance(per_class, dict) else per_class
        for number, path in enumerate(sorted(label.iterdir())[:count]):
            with Image.open(path) as image:
                _save(change(image.convert("RGB")), folder, label.name, number)


def _small(side: int) -> Callable[[Image.Image], Image.Image]:
    return lambda image: image.resize((side, side), Image.Resampling.BILINEAR)


def _gray(image: Image.Image) -> Image.Image:
    return ImageOps.grayscale(image).resize((96, 96), Image.Resampling.BILINEAR)


def _patches(folder: Path) -> None:
    """Cut patches of 64 pixels from pictures of surfaces: a class each, all of one texture."""
    data = _folder_of("skimage") / "data"
    for name in _SURFACES:
        (path,) = data.glob(f"{name}.*")
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        rng = np.random.default_rng(len(name))
        corners = [
            (y, x)
            for y in range(0, pixels.shape[0] - 63, 64)
            for x in range(0, pixels.shape[1] - 63, 64)
        ]
        for number, at in enumerate(rng.permutation(len(corners))[:40]):
            y, x = corners[at]
            _save(pixels[y : y + 64, x : x + 64], folder, name, number)


def _glyphs(folder: Path) -> None:
    """Draw letters in the fonts that come with matplotlib, a little turned and shifted."""
    fonts = _folder_of("matplotlib") / "mpl-data/fonts/ttf"
    names = ("DejaVu", "STIXGeneral", "cmb10", "cmr10", "cmss10", "cmti10", "cmtt10")
    paths = [
        path
        for path in sorted(fonts.glob("*.ttf"))
        if path.name.startswith(names) and "Display" not in path.name
    ]
    rng = np.random.default_rng(0)
    for letter in _LETTERS:
        for number in range(2 * len(paths)):
            font = ImageFont.truetype(str(paths[number % len(paths)]), int(rng.integers(28, 44)))
            image = Image.new("L", (64, 64), int(rng.integers(170, 256)))
            at = tuple((32 + rng.integers(-6, 7, 2)).tolist())
            ImageDraw.Draw(image).text(at, letter, int(rng.integers(0, 80)), font, anchor="mm")
            turned = image.rotate(float(rng.uniform(-20, 20)), fillcolor=image.getpixel((0, 0)))
            _save(turned, folder, letter, number)


def _tiles(folder: Path) -> None:
    """Make gray surfaces with one kind of flaw each, most of them with none."""
    rng = np.random.default_rng(1)
    counts = {"none": 160, "scratch": 40, "pit": 40, "stain": 24}
    for label, count in counts.items():
        for number in range(count):
            noise = rng.normal(0, 1, (96, 96))
            rough = Image.fromarray((128 + 40 * noise).clip(0, 255).astype(np.uint8))
            image = rough.filter(ImageFilter.GaussianBlur(float(rng.uniform(1, 2.5))))
            image = Image.fromarray(
                (np.asarray(image) + rng.uniform(-40, 40) + np.linspace(-20, 20, 96)[:, None])
                .clip(0, 255)
                .astype(np.uint8)
            )
            draw = ImageDraw.Draw(image)
            x, y = rng.uniform(20, 76, 2)
            dark = int(np.asarray(image).mean() - rng.uniform(15, 40))
            if label == "scratch":
                angle, length = rng.uniform(0, np.pi), rng.uniform(10, 30)
                dx, dy = length * np.cos(angle), length * np.sin(angle)
                draw.line((x - dx, y - dy, x + dx, y + dy), fill=max(dark, 0), width=1)
            elif label == "pit":
                side = rng.uniform(2, 5)
                draw.ellipse((x - side, y - side, x + side, y + side), fill=max(dark, 0))
            elif label == "stain":
                soft = Image.new("L", image.size, 0)
                side = rng.uniform(8, 18)
                ImageDraw.Draw(soft).ellipse((x - side, y - side, x + side, y + side), fill=70)
                soft = soft.filter(ImageFilter.GaussianBlur(4))
                darker = np.asarray(image, np.int64) - np.asarray(soft)
                image = Image.fromarray(darker.clip(0, 255).astype(np.uint8))
            _save(image.filter(ImageFilter.GaussianBlur(0.7)), folder, label, number)


def _cells(folder: Path) -> None:
    """Draw cells whose nucleus has one to four lobes, in the colors of a stain."""
    rng = np.random.default_rng(2)
    for lobes in range(1, 5):
        for number in range(60):
            ground = tuple((np.array([232, 214, 206]) + rng.integers(-12, 13, 3)).tolist())
            image = Image.new("RGB", (128, 128), ground)
            draw = ImageDraw.Draw(image)
            for _ in range(int(rng.integers(3, 8))):  # red cells around
                x, y = rng.uniform(0, 128, 2)
                radius = rng.uniform(14, 20)
                draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(224, 164, 158))
            x, y = rng.uniform(50, 78, 2)
            radius = rng.uniform(30, 38)
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(206, 190, 216))
            turn = rng.uniform(0, 2 * np.pi)
            size = rng.uniform(13, 17) if lobes > 1 else rng.uniform(17, 24)
            for lobe in range(lobes):
                angle = turn + lobe * rng.uniform(1.1, 1.6)
                away = 0 if lobes == 1 else rng.uniform(10, 16)
                cx, cy = x + away * np.cos(angle), y + away * np.sin(angle)
                side = size * rng.uniform(0.55, 0.8) if lobes > 1 else size
                draw.ellipse((cx - side, cy - side, cx + side, cy + side), fill=(98, 64, 140))
            soft = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(1, 2))))
            noisy = np.asarray(soft) + rng.normal(0, 5, (128, 128, 3))
            _save(noisy.clip(0, 255).astype(np.uint8), folder, f"lobes {lobes}", number)


def _same(image: Image.Image) -> Image.Image:
    return image


_BUILT: dict[str, Callable[[Path], None]] = {
    "faces": _of_sample("faces", None, _same),
    "digits": _of_sample("digits", None, _same),
    "digits_few": _of_sample("digits", 20, lambda image: ImageOps.invert(_small(32)(image))),
    "textures": _patches,
    "glyphs": _glyphs,
    "tiles": _tiles,
    "cells": _cells,
}
_OF_PHOTOS: dict[str, Callable[[Path, Path], None]] = {
    "pets": lambda photos, folder: _copy(photos, folder, None, _same),
    "pets_few": lambda photos, folder: _copy(photos, folder, 40, _same),
    "pets_gray": lambda photos, folder: _copy(photos, folder, 200, _gray),
    "pets_32": lambda photos, folder: _copy(photos, folder, None, _small(32)),
    "pets_rare": lambda photos, folder: _copy(photos, folder, {"cat": 300, "dog": 24}, _small(64)),
}
SET_NAMES = (*_BUILT, *_OF_PHOTOS)
