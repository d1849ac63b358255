"""Measure extraction against the machine's bound and two usual scripts.

Usage: python bench/extract.py [BACKBONE ...] [--repeat 3] [--engine E] [--precision P] [--dry]
       python bench/extract.py [BACKBONE ...] --gpu [--dry-run]

The variants of one backbone alternate within one process, repetition by repetition, and the median
is told, so that whatever else the machine does hits all alike. Precisions that the processor does
not compute in are named and left out. On a GPU the two halves overlap, so its bound is the slower
one; see bench/gpu.py. RESULTS.md is written by runs over everything only.
"""

import argparse
import itertools
import shutil
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from joblib import cpu_count

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench import gpu
from bench.extraction import bottleneck, make_photos, options, rate, requests_for, write
from bench.results import machine, table, write_section
from headstart.common.errors import InputError
from headstart.extraction import engines
from headstart.extraction.bottleneck import Bottleneck, identify
from headstart.extraction.extract import extract
from headstart.extraction.options import ExtractOptions
from headstart.extraction.requests import Request
from headstart.extraction.store import FeatureStore
from headstart.images import decoding
from headstart.images.resizing import resize

BACKBONES = {
    **{"MobileNetV2": "random", "ResNet50": "random", "EfficientNetLite0": "pretrained"},
    # ViT-S/16, and ViT-S/14.
    **{"DeiTSmall": "random", "DINOv2Small": "random"},
}
GPU_PRECISIONS = ("float32", "bfloat16")
GPU_IMAGES = 8192  # some seconds of the fastest
COMPARED = 64  # images whose features are compared with the CPU's
ENGINES = ("openvino", "tensorflow")
PRECISIONS = ("float32", "bfloat16")
ONE_BY_ONE = 60  # images of the image-by-image loop, whose speed does not change with their number

Variant = tuple[str, str]


def variants_here(wanted: Sequence[Variant]) -> tuple[list[Variant], list[str]]:
    """Return the engines and precisions that this machine has, and why it lacks the others."""
    found, lacking = [], []
    for engine, precision in wanted:
        try:
            engines.resolve(engine, precision)
        except InputError as error:
            lacking.append(f"Left out: {engine} {precision} ({error}).")
        else:
            found.append((engine, precision))
    return found, lacking


def forward(engine: engines.Engine, batches: Iterable[np.ndarray]) -> None:
    """Run the engine on batches in memory, from as many threads as it asks for."""
    with ThreadPoolExecutor(engine.workers) as pool:
        for _ in pool.map(engine, batches):
            pass


def decoded(requests: list[Request], wanted: Bottleneck) -> Iterator[np.ndarray]:
    """Read, decode and resize all images, on all cores."""

    def decode(request: Request) -> np.ndarray:
        image = decoding.decode(decoding.read(Path(request.path)))
        return resize(image, wanted.sizing)

    with ThreadPoolExecutor(cpu_count()) as pool:
        yield from pool.map(decode, requests)


def decode_all(requests: list[Request], wanted: Bottleneck) -> None:
    """Read, decode and resize all images; keep none."""
    for _ in decoded(requests, wanted):
        pass


def files_to_hdf5(
    wanted: Bottleneck, engine: engines.Engine, requests: list[Request], scratch: Path
) -> float:
    """Return images per second of the whole, with an engine that is loaded, into a new store."""
    store = FeatureStore(Path(tempfile.mkdtemp(dir=scratch)))

    def whole() -> None:
        done = extract(wanted, requests, store=store, load=lambda *_: engine)
        write(done, requests, store.root / "features.h5")

    speed = rate(len(requests), whole)
    shutil.rmtree(store.root)
    return speed


def baselines(wanted: Bottleneck, folder: Path, requests: list[Request]) -> dict[str, Callable]:
    """The usual Keras script, and the loop over single images, for one backbone."""
    from headstart.common.tensorflow_runtime import keras
    from headstart.extraction.model import assemble

    model = assemble(wanted)  # Preprocessing inside; nothing folded or compiled by hand.

    def script() -> None:
        data = keras.utils.image_dataset_from_directory(
            folder, image_size=wanted.image_size, batch_size=32, shuffle=False, verbose=False
        )
        model.predict(data.map(lambda x, _: x), verbose=0)

    def loop() -> None:
        for request in requests[:ONE_BY_ONE]:
            image = keras.utils.load_img(request.path, target_size=wanted.image_size)
            model.predict(keras.utils.img_to_array(image)[np.newaxis], verbose=0)

    return {"script": script, "loop": loop}


def speed(
    folder: Path,
    requests: list[Request],
    scratch: Path,
    repetitions: int,
    backbones: Sequence[str],
    wanted_variants: Sequence[Variant],
) -> list[str]:
    """Measure the extractor, its bound and the baselines, one table row each."""
    here, lacking = variants_here(wanted_variants)
    lines = [
        f"{len(requests)} images, images per second, median of {repetitions}. The bound is "
        "1 / (1/forward + 1/decode): both take the same cores.",
        "",
        *(line for reason in lacking for line in (reason, "")),
        "| backbone | variant | forward | decode | bound | files to HDF5 | of bound | x script "
        "| x one by one |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for backbone in backbones:
        keep = FeatureStore(scratch / "models-kept")
        variants = {}
        for engine, precision in here:
            wanted = bottleneck(backbone, BACKBONES[backbone], engine, precision)
            variants[engine, precision] = (wanted, engines.load(wanted, keep))
        wanted = next(iter(variants.values()))[0]
        usual = baselines(wanted, folder, requests)
        pixels = list(decoded(requests, wanted))
        measured: dict[tuple[str, ...], list[float]] = {}

        def note(value: float, *key: str, into: dict = measured) -> None:
            into.setdefault(key, []).append(value)

        for _ in range(repetitions):
            note(rate(len(requests), lambda w=wanted: decode_all(requests, w)), "decode")
            note(rate(len(requests), usual["script"]), "script")
            note(rate(min(ONE_BY_ONE, len(requests)), usual["loop"]), "loop")
            for key, (one, engine) in variants.items():
                size = engine.batch_size
                batches = [
                    np.stack(pixels[start : start + size])
                    for start in range(0, len(pixels) - size + 1, size)
                ]
                note(
                    rate(size * len(batches), lambda e=engine, b=batches: forward(e, b)),
                    "forward",
                    *key,
                )
                note(files_to_hdf5(one, engine, requests, scratch), "whole", *key)
        median = {key: statistics.median(values) for key, values in measured.items()}
        for key in variants:
            # The bound of each repetition, since forward and decoding vary together.
            shares = [
                got * (1 / one + 1 / other)
                for got, one, other in zip(
                    measured["whole", *key],
                    measured["forward", *key],
                    measured["decode",],
                    strict=True,
                )
            ]
            bound = 1 / (1 / median["forward", *key] + 1 / median["decode",])
            lines.append(
                f"| {backbone} | {' '.join(key)} | {median['forward', *key]:.0f} "
                f"| {median['decode',]:.0f} | {bound:.0f} | {median['whole', *key]:.0f} "
                f"| {statistics.median(shares):.2f} "
                f"| {median['whole', *key] / median['script',]:.1f} "
                f"| {median['whole', *key] / median['loop',]:.1f} |"
            )
        lines.append(
            f"| {backbone} | image_dataset_from_directory + predict | | | "
            f"| {median['script',]:.0f} | | 1.0 | {median['script',] / median['loop',]:.1f} |"
        )
        lines.append(
            f"| {backbone} | image by image | | | | {median['loop',]:.0f} | "
            f"| {median['loop',] / median['script',]:.2f} | 1.0 |"
        )
    return lines


def gpu_speed(
    devices: gpu.Devices,
    backbones: dict[str, str],
    arguments: argparse.Namespace,
    scratch: Path,
) -> list[str]:
    """Measure the pass on GPUs, its bound, and how near its features are to the CPU's."""
    changes = {}
    photos, count = arguments.folder or scratch / "photos", GPU_IMAGES
    if devices.stand_in:
        backbones, count, changes = {"LeNet5": "random"}, 40, {"image_size": 32}
    if arguments.folder is None:
        make_photos(photos, min(count, arguments.images))
    requests = requests_for(multiplied(photos, count, scratch / "multiplied"))
    rows = [
        gpu_row(devices, options(backbone, weights, "auto", precision, **changes), requests,
                scratch, arguments.repeat)
        for backbone, weights in backbones.items()
        for precision in GPU_PRECISIONS
    ]  # fmt: skip
    header = ["backbone", "precision", "batch", "load s", "forward", "decode", "bound"]
    header += ["files to HDF5", "of bound", "aim", "off the CPU's", "aim", "bits by place"]
    return [
        *devices.lines,
        "",
        f"{len(requests)} images, images per second, median of {arguments.repeat}. Decoding on "
        "the CPU overlaps with the GPU's work, so the bound is the slower of the two. Off the "
        "CPU's: largest difference from TensorFlow's float32 features on the CPU, as a share of "
        "the largest feature.",
        "",
        *table(header, rows),
    ]


def gpu_row(
    devices: gpu.Devices,
    wanted: ExtractOptions,
    requests: list[Request],
    scratch: Path,
    repetitions: int,
) -> list[object]:
    """Measure one backbone in one precision."""
    from headstart.extraction.engines import tensorflow_engine

    one = identify(wanted, "tensorflow-gpu")
    started = time.perf_counter()
    engine = tensorflow_engine.on_gpus(one, devices.names)
    loaded = time.perf_counter() - started
    size = engine.batch_size
    few = itertools.cycle(decoded(requests[: max(2 * size, COMPARED)], one))
    batches = [np.stack(list(itertools.islice(few, size))) for _ in range(-(-COMPARED // size))]
    calls = max(2 * engine.workers, len(requests) // size)
    measured: dict[str, list[float]] = defaultdict(list)
    for _ in range(repetitions):
        several = itertools.islice(itertools.cycle(batches), calls)
        measured["forward"].append(rate(calls * size, lambda b=several: forward(engine, b)))
        measured["decode"].append(rate(len(requests), lambda: decode_all(requests, one)))
        measured["whole"].append(files_to_hdf5(one, engine, requests, scratch))
    median = {key: statistics.median(values) for key, values in measured.items()}
    bound = min(median["forward"], median["decode"])
    difference, same = gpu.agreement(engine, batches, wanted)
    return [
        wanted.backbone,
        wanted.precision,
        size,
        f"{loaded:.0f}",
        *(f"{median[key]:.0f}" for key in ("forward", "decode")),
        f"{bound:.0f}",
        f"{median['whole']:.0f}",
        f"{median['whole'] / bound:.2f}",
        ">= 0.9",
        f"{difference:.0e}",
        "<= 1e-3" if wanted.precision == "float32" else "",
        "same" if same else "OTHERS",
    ]


def multiplied(folder: Path, count: int, target: Path) -> Path:
    """Write so many different files that show the photos of a folder in turn.

    What follows a JPEG's end marker changes its digest and no pixel.
    """
    target.mkdir()
    photos = itertools.cycle(sorted(folder.rglob("*.jpg")))
    for index, photo in enumerate(itertools.islice(photos, count)):
        tail = index.to_bytes(4, "big")
        (target / f"{index:06}.jpg").write_bytes(photo.read_bytes() + tail)
    return target


def main() -> None:
    """Measure, and write the section after a run over everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("backbones", nargs="*", help=f"of {', '.join(BACKBONES)}; all by default")
    parser.add_argument("--images", type=int, default=600, help="generated JPEGs of 500 x 375")
    parser.add_argument("--folder", type=Path, help="photos to use instead, in class folders")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--engine", choices=ENGINES, help="this one alone")
    parser.add_argument("--precision", choices=PRECISIONS, help="this one alone")
    parser.add_argument("--gpu", action="store_true", help="measure the GPU's pass")
    parser.add_argument(
        "--dry-run", action="store_true", help="with --gpu: a tiny network on two stand-in devices"
    )
    parser.add_argument("--dry", action="store_true", help="print, do not write RESULTS.md")
    arguments = parser.parse_args()
    if unknown := set(arguments.backbones) - BACKBONES.keys():
        parser.error(f"expected backbones of {', '.join(BACKBONES)}, received {unknown.pop()}")
    if arguments.dry_run and not arguments.gpu:
        parser.error("--dry-run is for --gpu; --dry prints without writing RESULTS.md")
    backbones = arguments.backbones or list(BACKBONES)
    variants = [
        (engine, precision)
        for engine in ENGINES
        for precision in PRECISIONS
        if arguments.engine in (None, engine) and arguments.precision in (None, precision)
    ]
    heading = "Extraction: GPU" if arguments.gpu else "Extraction"
    everything = backbones == list(BACKBONES) and len(variants) == len(ENGINES) * len(PRECISIONS)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        if arguments.gpu:
            devices = gpu.find_devices(dry_run=arguments.dry_run)
            wanted = {name: BACKBONES[name] for name in backbones}
            found = gpu_speed(devices, wanted, arguments, scratch)
        else:
            folder = arguments.folder or scratch / "photos"
            if arguments.folder is None:
                make_photos(folder, arguments.images)
            found = speed(
                folder, requests_for(folder), scratch, arguments.repeat, backbones, variants
            )
    lines = [f"Machine: {machine()}.", "", *found]
    print("\n".join(lines))
    if everything and not arguments.dry and not arguments.dry_run:
        write_section(heading, lines)


if __name__ == "__main__":
    main()
