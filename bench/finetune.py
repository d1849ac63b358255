"""Time per epoch of fine-tuning from cached activations against plain Keras, trunk frozen.

Usage: python bench/finetune.py [--photos FOLDER] [--dry]

Plain Keras gets its images decoded and preprocessed in memory, so that decoding is not counted.
Both train with the same options in the same order; their weights are compared at the end. The
limit is what the multiply-adds allow: a training step costs three forward passes of what learns,
and live the trunk's forward pass besides.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.projects import Project
from bench.results import machine, table, write_section
from headstart.catalog import building, cuts
from headstart.common import places
from headstart.common.tensorflow_runtime import keras, seed_everything
from headstart.extraction.bottleneck import identify
from headstart.extraction.store import FeatureStore
from headstart.finetuning.assembly import Assembly, cut_off
from headstart.finetuning.batches import shuffled
from headstart.finetuning.checkpoint import Checkpoint, TrainingState
from headstart.finetuning.head_layers import head_layers
from headstart.finetuning.live import LiveImages
from headstart.finetuning.options import FinetuneOptions
from headstart.finetuning.plan import plan_steps
from headstart.finetuning.training import Examples, Phase, train
from headstart.finetuning.trunk import cache_trunk
from headstart.heads import load

HEADING = "Fine-tuning"
EPOCHS = 4


class Case(NamedTuple):
    """One backbone.

    Attributes:
        backbone: Its name.
        weights: What fills it.
        images: Number of training images.
        wanted: Share of the limit, or factor, that is aimed at.
    """

    backbone: str
    weights: str
    images: int
    wanted: str


CASES = (
    Case("EfficientNetLite0", "pretrained", 480, ">= 4 times"),
    Case("VGG16", "random", 320, ">= 0.9 of the limit"),
)


class Clock(Checkpoint):
    """Notes when each epoch's state had been written."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.moments: list[float] = []

    def save(self, state: TrainingState) -> None:
        """Save and note the time."""
        super().save(state)
        self.moments.append(time.perf_counter())


class Setting:
    """One case, ready to be trained in either way, always from the same start."""

    def __init__(self, case: Case, photos: Path, scratch: Path) -> None:
        changes = {"extract.backbone": case.backbone, "extract.weights": case.weights}
        self.project = Project(scratch / case.backbone, str(photos), changes)
        params, file = self.project.params, self.project.file
        content = {**params.finetune.model_dump(), "unfreeze": "last_block", "epochs": EPOCHS}
        self.options = FinetuneOptions.model_validate(content)
        self.bottleneck = identify(params.extract, file.header.identity.engine)
        self.rows = file.rows()[: case.images]
        (self.step,) = plan_steps(self.assembly().backbone, self.options)
        folder = scratch / f"{case.backbone}-trunk"
        started = time.perf_counter()
        sources = cache_trunk(
            [self.step], self.bottleneck, file, self.project.manifest, FeatureStore(), folder
        )
        self.trunk_seconds = (time.perf_counter() - started) * case.images / len(file)
        self.source = sources[self.step.cut]
        n_classes = len(file.header.class_names)
        self.targets = np.eye(n_classes, dtype=np.float32)[file.label]
        live = LiveImages(file, self.project.manifest)
        (pixels,) = live.read(self.rows, 0, len(self.rows))
        self.images = self.bottleneck.spec.preprocessing(pixels)

    def assembly(self) -> Assembly:
        """Build backbone and head anew."""
        seed_everything(self.project.params.finetune.seed)
        tap, spec = self.bottleneck.taps[0], self.bottleneck.spec
        backbone = building.build(spec, tap.image_size, self.bottleneck.weights)
        head = head_layers(load(self.project.root / places.HEADS / "logistic"))
        return Assembly(cut_off(backbone, tap.layer), spec.preprocessing, tap.pooling, head)

    def cached(self, folder: Path) -> tuple[list[float], dict[str, np.ndarray]]:
        """Train from the cache; return seconds per epoch and the weights that learned."""
        assembly = self.assembly()
        model = assembly.logits_from(self.step.cut)
        variables = model.variables
        phase = Phase(
            epochs=EPOCHS,
            source=self.source,
            model=model,
            enter=lambda: assembly.set_trainable(self.step.cut),
            factors=assembly.learning_rate_factors(1.0),
        )
        examples = Examples(
            train=self.rows,
            validation=np.empty(0, np.int64),
            targets=self.targets,
            weights=np.ones(len(self.targets), np.float32),
        )
        clock = Clock(folder)
        state = train([phase], variables, examples, self.options, clock)
        names = [variable.path for variable in variables]
        return list(np.diff(clock.moments)), dict(zip(names, state.current, strict=True))

    def live(self) -> tuple[list[float], dict[str, np.ndarray]]:
        """Train as the Keras guide to transfer learning does."""
        assembly = self.assembly()
        base = assembly.backbone
        frozen = True
        for layer in base.layers:
            layer.trainable = not (frozen or isinstance(layer, keras.layers.BatchNormalization))
            frozen = frozen and layer.name != self.step.cut
        inputs = keras.Input(self.images.shape[1:])
        pooled = keras.layers.GlobalAveragePooling2D()(base(inputs, training=False))
        model = keras.Model(inputs, assembly.head(pooled))
        options = self.options
        steps = EPOCHS * -(-len(self.rows) // options.batch_size)
        warmup = round(options.warmup * steps)
        rate = keras.optimizers.schedules.CosineDecay(
            options.learning_rate / (warmup + 1),
            steps - warmup,
            warmup_target=options.learning_rate,
            warmup_steps=warmup,
        )
        model.compile(
            keras.optimizers.Adam(rate, global_clipnorm=options.clip_norm),
            keras.losses.CategoricalCrossentropy(from_logits=True),
        )
        seconds = []
        place = {int(row): index for index, row in enumerate(self.rows)}
        for epoch in range(EPOCHS):
            order = shuffled(self.rows, options.seed, epoch)
            images = self.images[[place[int(row)] for row in order]]
            targets = self.targets[order]
            started = time.perf_counter()
            model.fit(images, targets, batch_size=options.batch_size, shuffle=False, verbose=0)
            seconds.append(time.perf_counter() - started)
        values = {v.path: keras.ops.convert_to_numpy(v) for v in model.variables}
        # The first epoch traces the graph.
        return seconds[1:], values


def measure(case: Case, photos: Path, scratch: Path, repetitions: int) -> list[str]:
    """Return one row of the table."""
    setting = Setting(case, photos, scratch)
    cached: list[float] = []
    live: list[float] = []
    largest = 0.0
    for repetition in range(repetitions):
        seconds, learned = setting.cached(scratch / f"{case.backbone}-{repetition}")
        cached += seconds
        seconds, expected = setting.live()
        live += seconds
        differences = [np.abs(learned[path] - expected[path]).max() for path in learned]
        largest = max(largest, float(max(differences)))
    cut = cuts.get_cut(setting.assembly().backbone, setting.step.cut)
    top = cut.multiply_adds_above
    limit = (cut.multiply_adds_below + 3 * top) / (3 * top)
    # Other programs disturb an epoch and none helps it, so the fastest tells most.
    one, other = min(live), min(cached)
    return [
        case.backbone,
        f"above {cut.name}",
        f"{len(setting.rows)}",
        f"{one:.2f}",
        f"{other:.2f}",
        f"{one / other:.1f}",
        f"{limit:.1f}",
        f"{one / other / limit:.2f}",
        case.wanted,
        f"{setting.trunk_seconds:.1f}",
        f"{largest:.0e}",
    ]


def make_photos(folder: Path, count: int) -> None:
    """Write smooth photo-like JPEGs in two class folders."""
    for index in range(count):
        rng = np.random.default_rng(index)
        coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        target = folder / ("even", "odd")[index % 2] / f"{index:04}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        coarse.resize((500, 375), Image.Resampling.BICUBIC).save(target, quality=92)


def main() -> None:
    """Measure all cases and write the section."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, help="photos in class folders; else generated")
    parser.add_argument("--repetitions", type=int, default=2)
    parser.add_argument("--backbones", nargs="+", default=[case.backbone for case in CASES])
    parser.add_argument("--dry", action="store_true", help="print, do not write RESULTS.md")
    arguments = parser.parse_args()
    lines = [f"Machine: {machine()}.", ""]
    rows: list[Any] = []
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        photos = arguments.photos or scratch / "photos"
        if arguments.photos is None:
            make_photos(photos, 480)
        for case in CASES:
            if case.backbone in arguments.backbones:
                rows.append(measure(case, photos.absolute(), scratch, arguments.repetitions))
    header = ["backbone", "learns", "images", "live s/epoch", "cached s/epoch", "times faster"]
    header += ["limit", "share of limit", "aim", "trunk once, s", "largest weight difference"]
    lines += [
        f"{EPOCHS} epochs with the default options, batches of 32; the fastest epoch after the "
        "first. Live is plain Keras, `model.fit` on preprocessed images in memory, trunk frozen.",
        "",
        *table(header, rows),
    ]
    print("\n".join(lines))
    if not arguments.dry:
        write_section(HEADING, lines)


if __name__ == "__main__":
    main()
