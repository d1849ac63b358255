"""Time per epoch of fine-tuning from cached activations against plain Keras, trunk frozen.

Usage: python bench/finetune.py [--photos FOLDER] [--dry]
       python bench/finetune.py --gpu [--dry-run]

Plain Keras gets its images decoded and preprocessed in memory, so that decoding is not counted.
Both train with the same options in the same order; their weights are compared at the end. The
limit is what the multiply-adds allow: a training step costs three forward passes of what learns,
and live the trunk's forward pass besides. On a GPU the bound is the bare training step: the same
model, compiled alike, on one batch that lies on the GPU.
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

from bench import gpu
from bench.projects import Project, changed_params
from bench.results import machine, table, write_section
from headstart.catalog import building, cuts
from headstart.catalog.readout import Readout
from headstart.common import places
from headstart.common.tensorflow_runtime import dtype_policy, keras, seed_everything, tf
from headstart.extraction.bottleneck import Bottleneck, identify
from headstart.extraction.store import FeatureStore
from headstart.finetuning import batches, training
from headstart.finetuning.assembly import Assembly
from headstart.finetuning.batches import CachedActivations, shuffled
from headstart.finetuning.checkpoint import Checkpoint, TrainingState
from headstart.finetuning.head_layers import head_layers, pooled_layers
from headstart.finetuning.live import LiveImages
from headstart.finetuning.options import FinetuneOptions
from headstart.finetuning.plan import plan_steps
from headstart.finetuning.training import Examples, Phase, train
from headstart.finetuning.trunk import cache_trunk
from headstart.heads import load
from headstart.scoring.choosing import HeldOut

HEADING = "Fine-tuning"
EPOCHS = 4


def unjudged(train: np.ndarray, targets: np.ndarray) -> Examples:
    """Return what is trained on without validation: rows, and (n_rows, n_classes) one-hot."""
    nothing = np.empty(0, np.int64)
    return Examples(
        train=train,
        validation=nothing,
        targets=targets,
        weights=np.ones(len(targets), np.float32),
        held_out=HeldOut(nothing, nothing, nothing, np.empty(0)),
        log_prior=np.zeros(targets.shape[1], np.float32),
    )


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
GPU_BACKBONES = ("ResNet50", "MobileNetV2")
GPU_POLICIES = {"float32": "float32", "mixed": "mixed_float16"}
GPU_BATCHES = 32


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
        readout = Readout.of(spec, tap.pooling, tap.image_size)
        return Assembly(readout.up_to(backbone, tap.layer), spec.preprocessing, readout, head)

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
        examples = unjudged(self.rows, self.targets)
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


class GpuSetting:
    """A backbone with random weights and the activations below its last block, on a GPU."""

    def __init__(self, backbone: str, precision: str, scratch: Path, **changes: Any) -> None:
        changes |= {"backbone": backbone, "weights": "random"}
        params = changed_params({f"extract.{name}": value for name, value in changes.items()})
        content = {**params.finetune.model_dump(), "unfreeze": "last_block", "epochs": EPOCHS}
        content["precision"] = precision
        self.options = FinetuneOptions.model_validate(content)
        self.bottleneck: Bottleneck = identify(params.extract, "tensorflow-gpu")
        (self.step,) = plan_steps(self.assembly().backbone, self.options)
        n = GPU_BATCHES * self.options.batch_size
        # On disk and mapped, as what the pass computes is.
        activations = np.memmap(
            scratch / f"{backbone}-{precision}.raw", np.float32, "w+", shape=(n, *self.step.shape)
        )
        rng = np.random.default_rng(0)
        for start in range(0, n, self.options.batch_size):
            part = activations[start : start + self.options.batch_size]
            part[:] = np.maximum(rng.normal(0, 1, part.shape), 0)
        self.activations = activations
        targets = np.eye(10, dtype=np.float32)[rng.integers(0, 10, n)]
        self.examples = unjudged(np.arange(n), targets)

    def assembly(self) -> Assembly:
        """Build backbone and head anew."""
        seed_everything(0)
        tap, spec = self.bottleneck.taps[0], self.bottleneck.spec
        with dtype_policy(GPU_POLICIES[self.options.precision]):
            backbone = building.build(spec, tap.image_size, self.bottleneck.weights)
        readout = Readout.of(spec, tap.pooling, tap.image_size)
        cut = readout.up_to(backbone, tap.layer)
        head = pooled_layers((cut.output.shape[-1],), 10)
        return Assembly(cut, spec.preprocessing, readout, head)

    def phase(self) -> Phase:
        """Return what learns, from the start."""
        assembly = self.assembly()
        return Phase(
            epochs=EPOCHS,
            source=CachedActivations(self.activations),
            model=assembly.logits_from(self.step.cut),
            enter=lambda: assembly.set_trainable(self.step.cut),
            factors=assembly.learning_rate_factors(1.0),
        )

    @property
    def _scaling(self) -> bool:
        return self.options.precision == "mixed"

    def cached(self, folder: Path) -> float:
        """Return training steps per second from the cache, in the fastest epoch but the first."""
        phase, clock = self.phase(), Clock(folder)
        variables = phase.model.variables
        train([phase], variables, self.examples, self.options, clock, loss_scaling=self._scaling)
        return float(GPU_BATCHES / np.diff(clock.moments).min())

    def bare(self, repetitions: int = 3) -> float:
        """Return training steps per second on one batch that lies on the GPU."""
        phase = self.phase()
        phase.enter()
        training._compile(phase, self.options, self.examples, loss_scaling=self._scaling)
        size = self.options.batch_size
        data = tuple(
            tf.constant(array[:size])
            for array in (self.activations, self.examples.targets, self.examples.weights)
        )
        step = tf.function(lambda: phase.model.train_step(data))
        fastest = np.inf
        for _ in range(1 + repetitions):  # the first compiles
            started = time.perf_counter()
            for _ in range(GPU_BATCHES):
                scores = step()
            for value in scores.values():
                float(value)  # waits for all of it
            fastest = min(fastest, time.perf_counter() - started)
        return float(GPU_BATCHES / fastest)


def gpu_speed(devices: gpu.Devices, scratch: Path, repetitions: int) -> list[str]:
    """Return the table of a GPU."""
    names: tuple[str, ...] = GPU_BACKBONES
    changes: dict[str, Any] = {}
    if devices.stand_in:
        names, changes = ("LeNet5",), {"image_size": 32}
        batches.only_gpu = training.only_gpu = lambda: devices.names[1]
    rows = []
    for backbone in names:
        for precision in GPU_POLICIES:
            setting = GpuSetting(backbone, precision, scratch, **changes)
            folders = [scratch / f"{backbone}-{precision}-{n}" for n in range(repetitions)]
            bare = setting.bare()
            cached = max(setting.cached(folder) for folder in folders)
            cells = [backbone, precision, f"above {setting.step.cut}"]
            cells += [f"{bare:.1f}", f"{cached:.1f}", f"{cached / bare:.2f}", ">= 0.9"]
            rows.append(cells)
    header = ["backbone", "precision", "learns", "bare steps/s", "cached steps/s", "share", "aim"]
    return [
        *devices.lines,
        "",
        f"{EPOCHS} epochs of {GPU_BATCHES} batches with the default options, the fastest after the "
        "first, checkpoint included. Bare is the same compiled step on one batch on the GPU.",
        "",
        *table(header, rows),
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
    parser.add_argument("--gpu", action="store_true", help="measure training on a GPU")
    parser.add_argument(
        "--dry-run", action="store_true", help="with --gpu: a tiny network on two stand-in devices"
    )
    parser.add_argument("--dry", action="store_true", help="print, do not write RESULTS.md")
    arguments = parser.parse_args()
    if arguments.dry_run and not arguments.gpu:
        parser.error("--dry-run is for --gpu; --dry prints without writing RESULTS.md")
    lines = [f"Machine: {machine()}.", ""]
    if arguments.gpu:
        devices = gpu.find_devices(dry_run=arguments.dry_run)
        with tempfile.TemporaryDirectory() as name:
            lines += gpu_speed(devices, Path(name), arguments.repetitions)
        print("\n".join(lines))
        if not arguments.dry and not arguments.dry_run:
            write_section(f"{HEADING}: GPU", lines)
        return
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
