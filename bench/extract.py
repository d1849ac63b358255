"""Measure extraction against the machine's bound and two usual scripts; write bench/RESULTS.md.

Usage: python bench/extract.py [--images 600] [--repetitions 3] [--parts speed store memory kill]

The variants of one backbone alternate within one process, repetition by repetition, and the median
is told, so that whatever else the machine does hits all alike.
"""

import argparse
import hashlib
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from joblib import cpu_count
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.results import machine, write_section
from headstart.extraction import engines, forward_pass
from headstart.extraction import store as feature_store
from headstart.extraction.bottleneck import Bottleneck, identify
from headstart.extraction.extract import Extraction, Request, extract
from headstart.extraction.options import ExtractOptions
from headstart.extraction.store import FeatureStore, make_keys
from headstart.features.file import Columns
from headstart.images import decoding
from headstart.images.options import AugmentOptions
from headstart.images.resizing import resize

HEADINGS = {
    "speed": "Extraction",
    "store": "Extraction: reuse",
    "memory": "Extraction: memory",
    "kill": "Extraction: kills",
}
BACKBONES = {"MobileNetV2": "random", "ResNet50": "random", "EfficientNetLite0": "pretrained"}
VARIANTS = [
    (engine, precision)
    for engine in ("openvino", "tensorflow")
    for precision in ("float32", "bfloat16")
]
ONE_BY_ONE = 60  # images of the image-by-image loop, whose speed does not change with their number
PARTS = ("speed", "store", "memory", "kill")
TALLY = "tally"


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
        for engine, precision in VARIANTS:
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


def store_figures(requests: list[Request], scratch: Path) -> list[str]:
    """Measure reuse, a tenth of new images, and a warm start."""
    wanted = bottleneck("EfficientNetLite0", "pretrained", "openvino", "float32")
    store = FeatureStore(scratch / "reuse")
    extract(wanted, requests, store=store)
    tenth = len(requests) // 10
    fresh = FeatureStore(scratch / "tenth")
    fresh.root.mkdir()
    (fresh.root / "models").symlink_to(store.root / "models")
    extract(wanted, requests[tenth:], store=fresh)
    counts = extract(wanted, requests, store=fresh).counts
    if counts.computed != tenth:
        raise RuntimeError(f"expected {tenth} computed, received {counts.computed}")

    code = (
        "import time; started = time.perf_counter();"
        f"import sys; sys.path.insert(0, {str(ROOT)!r});"
        "import numpy as np; from pathlib import Path; from headstart.extraction import engines;"
        "from headstart.extraction.bottleneck import recover;"
        "from headstart.extraction.store import FeatureStore;"
        "from headstart.features.identity import FeatureIdentity;"
        f"wanted = recover(FeatureIdentity.from_dict({wanted.taps[0].as_dict()!r}));"
        f"engine = engines.load(wanted, FeatureStore(Path({str(store.root)!r})));"
        "engine(np.zeros((1, *wanted.image_size, 3), np.uint8));"
        "assert 'tensorflow' not in sys.modules; print(time.perf_counter() - started)"
    )
    starts = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
        for _ in range(3)
    ]

    # 20,000 vectors as if computed, since only looking up, checking and assembling is measured.
    many = [Request(f"{n}.jpg", hashlib.sha256(b"%d" % n).hexdigest()) for n in range(20_000)]
    keys = make_keys([request.sha256 for request in many], ["0"] * len(many))
    filled = FeatureStore(scratch / "filled")
    rng = np.random.default_rng(0)
    with filled.collection(wanted.taps[0]).writer((1280,), {}) as writer:
        for start in range(0, len(many), 1000):
            block = rng.standard_normal((1000, 1280), dtype=np.float32)
            writer.add(keys[start : start + 1000], block)

    def reuse() -> None:
        write(extract(wanted, many, store=filled), many, scratch / "reused.h5")

    rates = [rate(len(many), reuse) for _ in range(5)]
    return [
        f"- 10 % new images: computed {counts.computed} of {len(requests)}, exactly those.",
        f"- Warm start, from a new process to the first vector, no TensorFlow: "
        f"{statistics.median(starts):.2f} s.",
        f"- All reused: {statistics.median(rates):,.0f} vectors of 1280 assembled per second.",
    ]


class Counting:
    """An engine that notes each image it computes, one byte each, in a file for another process."""

    def __init__(self, engine: engines.Engine, tally: Path) -> None:
        self.engine, self.tally = engine, tally.open("ab", buffering=0)

    def __getattr__(self, name: str) -> object:
        return getattr(self.engine, name)

    def __call__(self, pixels: np.ndarray) -> tuple[np.ndarray, ...]:
        """See `engines.Engine`."""
        self.tally.write(b"." * len(pixels))
        return self.engine(pixels)


def extract_here(folder: str, root: str, target: str) -> None:
    """Run one extraction with a small backbone and print its peak memory; run as a process."""
    requests = requests_for(Path(folder))
    wanted = bottleneck("LeNet5", "random", "openvino", "float32")
    extraction = extract(
        wanted,
        requests,
        store=FeatureStore(Path(root)),
        load=lambda *arguments: Counting(engines.load(*arguments), Path(root, TALLY)),
    )
    write(extraction, requests, Path(target))
    print(peak_memory())


def peak_memory() -> int:
    """Return this process' peak resident memory in kB.

    Not `ru_maxrss`: on Linux a process inherits its parent's, which may have loaded TensorFlow.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)[1])


def start_extraction(folder: Path, root: Path, target: Path) -> subprocess.Popen[bytes]:
    """Start `extract_here` in a process of its own."""
    command = [sys.executable, __file__, "--process", str(folder), str(root), str(target)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def memory_figures(scratch: Path, count: int, repetitions: int) -> list[str]:
    """Compare the peak memory of a tenth of the images with that of all."""
    peaks = {}
    root = scratch / "memory-models"
    engines.load(bottleneck("LeNet5", "random", "openvino", "float32"), FeatureStore(root))
    for number in (count // 10, count):
        folder = scratch / f"small{number}"
        make_photos(folder, number, (64, 48))
        found = []
        for _ in range(repetitions):
            store = Path(tempfile.mkdtemp(dir=scratch))
            (store / "models").symlink_to(root / "models")
            output, _ = start_extraction(folder, store, scratch / "memory.h5").communicate()
            found.append(int(output) / 1024)
            shutil.rmtree(store)
        peaks[number] = statistics.median(found)
    few, many = peaks.values()
    return [
        f"- Peak memory, LeNet5 on small images: {few:.0f} MB at {count // 10:,} images, "
        f"{many:.0f} MB at {count:,}: {many / few:.2f} times."
    ]


def kill_figures(scratch: Path, count: int, kills: int) -> list[str]:
    """Kill runs at random moments; compare bytes, and count what their reruns computed again."""
    folder = scratch / "many"
    make_photos(folder, count, (64, 48))
    model_root = scratch / "kill-models"
    wanted = bottleneck("LeNet5", "random", "openvino", "float32")
    engine = engines.load(wanted, FeatureStore(model_root))

    def empty(name: str) -> Path:
        root = scratch / name
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        (root / "models").symlink_to(model_root / "models")
        (root / TALLY).touch()
        return root

    target = scratch / "killed.h5"
    if start_extraction(folder, empty("undisturbed"), target).wait():
        raise RuntimeError("the undisturbed run failed")
    expected = target.read_bytes()
    moments = random.Random(0)
    repeated = []
    for _ in range(kills):
        target.unlink(missing_ok=True)
        root = empty("killed")
        tally = root / TALLY
        process = start_extraction(folder, root, target)
        # By images, not by seconds, most of which go by before the first image.
        moment = moments.randrange(count)
        while tally.stat().st_size < moment and process.poll() is None:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if start_extraction(folder, root, target).wait() or target.read_bytes() != expected:
            raise RuntimeError("a rerun after SIGKILL gave other bytes")
        repeated.append(tally.stat().st_size - count)
    # What the engine has computed waits in tasks before it is in a shard; see BackbonePass.run.
    on_its_way = (engine.workers + 1) * (1 + forward_pass._WAITING) * forward_pass._TASK_SIZE
    shard = feature_store.SHARD_ROWS
    if max(repeated) > shard + on_its_way:
        raise RuntimeError(f"{max(repeated)} vectors were computed twice, a shard holds {shard}")
    return [
        f"- SIGKILL at {kills} random moments of {count:,} images, then a rerun: identical bytes "
        f"every time; at most {max(repeated)} vectors were computed twice (median "
        f"{statistics.median(repeated):.0f}), where a shard holds {shard} and {on_its_way} more "
        "may be on their way to it."
    ]


def main() -> None:
    """Run the chosen parts and write the section."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=600, help="generated JPEGs of 500 x 375")
    parser.add_argument("--folder", type=Path, help="photos to use instead, in class folders")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--small", type=int, default=20_000, help="images of the memory test")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--killed", type=int, default=4_000, help="small images of a killed run")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--dry", action="store_true", help="print, do not write RESULTS.md")
    parser.add_argument("--process", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.process:
        extract_here(*arguments.process)
        return
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        folder = arguments.folder or scratch / "photos"
        if arguments.folder is None:
            make_photos(folder, arguments.images)
        requests = requests_for(folder)
        measure = {
            "speed": lambda: speed(folder, requests, scratch, arguments.repetitions),
            "store": lambda: store_figures(requests, scratch),
            "memory": lambda: memory_figures(scratch, arguments.small, arguments.repetitions),
            "kill": lambda: kill_figures(scratch, arguments.killed, arguments.kills),
        }
        for part in arguments.parts:
            lines = [f"Machine: {machine()}.", "", *measure[part]()]
            print("\n".join(lines), flush=True)
            if not arguments.dry:
                write_section(HEADINGS[part], lines)


if __name__ == "__main__":
    main()
