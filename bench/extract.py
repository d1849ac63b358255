"""Measure extraction against the machine's bound and two usual scripts.

Usage: python bench/extract.py [--images 600] [--repetitions 3] [--dry]

The variants of one backbone alternate within one process, repetition by repetition, and the median
is told, so that whatever else the machine does hits all alike. Precisions that the processor does
not compute in are left out.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from joblib import cpu_count

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.extraction import bottleneck, make_photos, rate, requests_for, write
from bench.results import machine, write_section
from headstart.common.errors import InputError
from headstart.extraction import engines
from headstart.extraction.bottleneck import Bottleneck
from headstart.extraction.extract import Request, extract
from headstart.extraction.store import FeatureStore
from headstart.images import decoding
from headstart.images.resizing import resize

BACKBONES = {"MobileNetV2": "random", "ResNet50": "random", "EfficientNetLite0": "pretrained"}
VARIANTS = [
    (engine, precision)
    for engine in ("openvino", "tensorflow")
    for precision in ("float32", "bfloat16")
]
ONE_BY_ONE = 60  # images of the image-by-image loop, whose speed does not change with their number


def variants_here() -> list[tuple[str, str]]:
    """Return engines and precisions that this machine has."""
    found = []
    for engine, precision in VARIANTS:
        try:
            engines.resolve(engine, precision)
        except InputError as error:
            print(f"left out: {error}", file=sys.stderr)
        else:
            found.append((engine, precision))
    return found


def forward(engine: engines.Engine, batches: list[np.ndarray]) -> None:
    """Run the engine on batches in memory, from as many threads as it asks for."""
    with ThreadPoolExecutor(engine.workers) as pool:
        for _ in pool.map(engine, batches):
            pass


def decode_all(requests: list[Request], wanted: Bottleneck) -> list[np.ndarray]:
    """Read, decode and resize all images, on all cores."""

    def decode(request: Request) -> np.ndarray:
        image = decoding.decode(decoding.read(Path(request.path)))
        return resize(image, wanted.sizing)

    with ThreadPoolExecutor(cpu_count()) as pool:
        return list(pool.map(decode, requests))


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


def speed(folder: Path, requests: list[Request], scratch: Path, repetitions: int) -> list[str]:
    """Measure the extractor, its bound and the baselines, one table row each."""
    lines = [
        f"{len(requests)} images, images per second, median of {repetitions}.",
        "",
        "| backbone | variant | forward | decode | bound | files to HDF5 | of bound | x script "
        "| x one by one |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for backbone, weights in BACKBONES.items():
        keep = FeatureStore(scratch / "models-kept")
        variants = {}
        for engine, precision in variants_here():
            wanted = bottleneck(backbone, weights, engine, precision)
            variants[engine, precision] = (wanted, engines.load(wanted, keep))
        wanted = next(iter(variants.values()))[0]
        usual = baselines(wanted, folder, requests)
        pixels = decode_all(requests, wanted)
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
                store = FeatureStore(Path(tempfile.mkdtemp(dir=scratch)))

                def whole(one=one, engine=engine, store=store) -> None:
                    done = extract(one, requests, store=store, load=lambda *_: engine)
                    write(done, requests, store.root / "features.h5")

                note(rate(len(requests), whole), "whole", *key)
                shutil.rmtree(store.root)
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


def main() -> None:
    """Measure and write the section."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=600, help="generated JPEGs of 500 x 375")
    parser.add_argument("--folder", type=Path, help="photos to use instead, in class folders")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--dry", action="store_true", help="print, do not write RESULTS.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        folder = arguments.folder or scratch / "photos"
        if arguments.folder is None:
            make_photos(folder, arguments.images)
        found = speed(folder, requests_for(folder), scratch, arguments.repetitions)
    lines = [f"Machine: {machine()}.", "", *found]
    print("\n".join(lines))
    if not arguments.dry:
        write_section("Extraction", lines)


if __name__ == "__main__":
    main()
