"""Heads against plain scikit-learn and Keras: time and memory on synthetic features.

    python bench/heads.py linear                     # 10,000 x 1280 features, 10 classes
    python bench/heads.py large                      # 100,000 x 1280 features, 1,000 classes
    python bench/heads.py large --kinds ridge knn    # those alone
    python bench/heads.py networks                   # 10,000 x 1280 features, 10 classes

`linear` and `large` measure time and peak memory of the heads without TensorFlow, each in a process
of its own; `large` fits one setting. Expected: the logistic path in 8 s on two cores, no head's
peak memory above twice the large features. Each part replaces its section of bench/RESULTS.md,
unless `--dry` is given. What the heads are worth, bench/quality.py measures.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.results import machine, table, write_section
from headstart import heads
from headstart.common.files import digest_of
from headstart.configuration.params import load_params
from headstart.extraction import engines
from headstart.extraction.bottleneck import identify
from headstart.extraction.store import FeatureStore
from headstart.features.file import Columns, FeatureFile, Header, create_feature_file
from headstart.features.identity import FeatureIdentity
from headstart.heads import descent
from headstart.heads.data import TrainingData
from headstart.heads.options import (
    DenseOptions,
    KnnOptions,
    LinearSVCOptions,
    LogisticOptions,
    PrototypeOptions,
    RidgeOptions,
)

N_COLUMNS, N_CLASSES = 1280, 10
EPOCHS, BATCH_SIZE = 20, 32
PASS_IMAGES = 320  # measured of a pass of the backbone; its time grows with their number
RULE = {"channel_order": "rgb", "divisor": 1.0}
LINEAR = {
    "logistic": LogisticOptions(kind="logistic"),
    "linear_svc": LinearSVCOptions(kind="linear_svc"),
    "ridge": RidgeOptions(kind="ridge"),
}
WITHOUT_TENSORFLOW = {
    **LINEAR,
    "knn": KnnOptions(kind="knn"),
    "prototype": PrototypeOptions(kind="prototype"),
}
LARGE_ROWS, LARGE_CLASSES = 100_000, 1_000
LARGE = {
    **WITHOUT_TENSORFLOW,
    "logistic": LogisticOptions(kind="logistic", l2=10.0),
    "linear_svc": LinearSVCOptions(kind="linear_svc", c=1e-5),
    "ridge": RidgeOptions(kind="ridge", l2=100.0),
}
# Of the whole path on the features of `linear`.
PATH_PASSES = {"logistic": 174, "linear_svc": 97}
PLAIN = ("LinearSVC(C=1)", "LogisticRegression(C=1)")
PATIENCE = 240  # seconds, of scikit-learn; twice that of the heads
NETWORKS = ("dense", "bare Keras fit", "bare, 64 steps at once")


def synthetic(path: Path, n_train: int, n_classes: int = N_CLASSES) -> FeatureFile:
    """Overlapping classes in a spectrum that falls off like that of real features."""
    rng = np.random.default_rng(0)
    n = n_train + n_train // 4
    spectrum = (1.0 + np.arange(N_COLUMNS)) ** -0.5
    turn = np.linalg.qr(rng.standard_normal((N_COLUMNS, N_COLUMNS)))[0]
    # As far apart that nine in ten of either number of classes are told apart.
    distance = 0.093 if n_classes == N_CLASSES else 0.2
    means = distance * rng.standard_normal((n_classes, N_COLUMNS)) * spectrum
    labels = rng.integers(0, n_classes, n)
    identity = FeatureIdentity(
        backbone="synthetic", weights="random", weights_sha256="0" * 64, layer="none",
        pooling="avg", image_size=(1, 1), resize="stretch", interpolation="bilinear",
        preprocessing_digest=digest_of(RULE), precision="float32", engine="openvino",
    )  # fmt: skip
    header = Header(
        class_names=tuple(str(index) for index in range(n_classes)), identity=identity,
        feature_shape=(N_COLUMNS,), preprocessing=RULE, augment=None, versions={},
    )  # fmt: skip
    columns = Columns(
        label=labels, split=np.where(np.arange(n) < n_train, "train", "validation"),
        sha256=np.array([f"{index:064x}" for index in range(n)]),
        view=np.zeros(n, np.int32), group=np.full(n, -1), image=np.arange(n),
    )  # fmt: skip
    with create_feature_file(path, header, columns) as writer:
        for rows in np.array_split(np.arange(n), -(-n // 20_000)):
            spread = rng.standard_normal((len(rows), N_COLUMNS)) * spectrum
            features = (means[labels[rows]] + spread) @ turn + 0.5
            writer.write(rows, features.astype(np.float32))
    return FeatureFile.open(path)


def training_data(file: FeatureFile) -> TrainingData:
    """As params.yaml has it by default."""
    return TrainingData.from_file(
        file, min_validation=10, folds_below=1000, streaming_above=4 * 10**9, seed=0
    )


def timed(action: Callable[[], object]) -> tuple[float, float]:
    """Return elapsed and processor seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    action()
    return time.perf_counter() - wall, time.process_time() - cpu


def linear(n_train: int, kinds: Sequence[str]) -> list[str]:
    """Return the table of heads with their selection beside single fits of scikit-learn."""
    with tempfile.TemporaryDirectory() as folder:
        file = synthetic(Path(folder) / "bottleneck.h5", n_train)
        rows = [
            (f"{kind} with its selection", *measured(file.path, kind, "whole"))
            for kind in kinds
            if kind in WITHOUT_TENSORFLOW
        ]
        rows += [
            (f"one {kind}", *measured(file.path, kind, "whole")) for kind in kinds if kind in PLAIN
        ]
    return [
        f"{n_train:,} training and {n_train // 4:,} validation images, {N_COLUMNS} features, "
        f"{N_CLASSES} classes. The one fits are of plain scikit-learn.",
        "",
        *table(["", "seconds", "processor s", "peak memory", ""], rows),
    ]


def large(n_train: int, kinds: Sequence[str]) -> list[str]:
    """Return the table of single settings on features that dwarf all else in memory."""
    with tempfile.TemporaryDirectory() as folder:
        file = synthetic(Path(folder) / "bottleneck.h5", n_train, LARGE_CLASSES)
        size = file.features.nbytes
        rows = [
            (kind if kind in LARGE else f"one {kind}", *measured(file.path, kind, "one setting"))
            for kind in kinds
        ]
    return [
        f"{n_train:,} training and {n_train // 4:,} validation images, {N_COLUMNS} features, "
        f"{LARGE_CLASSES:,} classes: {size / 1e6:,.0f} MB of features, which are mapped and count "
        "as memory where they have been read; their share tells how many times their size the "
        "whole process took. The one fit is of plain scikit-learn.",
        "",
        *table(["", "seconds", "processor s", "peak memory", ""], rows),
    ]


def measured(path: Path, kind: str, extent: str) -> tuple[str, str, str, str]:
    """Fit in a process of its own; return the cells of a row."""
    command = [sys.executable, __file__, "fit", str(path), "--network", kind, "--extent", extent]
    patience = PATIENCE if kind in PLAIN else 2 * PATIENCE
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, check=True, text=True, timeout=patience
        )
    except subprocess.TimeoutExpired:
        cells = (f"{patience}", "", "", "had not ended by then")
    else:
        wall, cpu, peak, told = json.loads(done.stdout.splitlines()[-1])
        times = peak / FeatureFile.open(path).features.nbytes
        cells = (
            f"{wall:.2f}", f"{cpu:.2f}", f"{peak / 1e6:,.0f} MB, {times:.2f} times the features",
            told,
        )  # fmt: skip
    print(kind, *cells, file=sys.stderr, flush=True)
    return cells


def fit_and_measure(path: Path, kind: str, extent: str) -> None:
    """Fit a head or one of `PLAIN`, print seconds, memory and what to say; run as a process."""
    file = FeatureFile.open(path)
    data = training_data(file)
    if kind in PLAIN:
        # Here, since a head's process must not pay for what only scikit-learn needs.
        from sklearn.linear_model import LogisticRegression
        from sklearn.preprocessing import StandardScaler
        from sklearn.svm import LinearSVC

        x, labels = np.asarray(data.features[data.train]), data.label[data.train]
        if kind == "LinearSVC(C=1)":
            x = StandardScaler().fit_transform(x.astype(float))
            plain = LinearSVC(C=1, dual="auto", random_state=0, max_iter=1000)
        else:
            plain = LogisticRegression(C=1, max_iter=1000)
        seconds = timed(lambda: plain.fit(x, labels))
        told = f"{plain.n_iter_.max()} iterations"
    else:
        head = heads.create((WITHOUT_TENSORFLOW if extent == "whole" else LARGE)[kind], seed=0)
        passes = count_passes()
        seconds = timed(lambda: head.fit(data))
        told = describe(head, passes[0])
        if extent != "whole" and passes[0]:
            minutes = PATH_PASSES[kind] * seconds[0] / passes[0] / 60
            told += f"; {PATH_PASSES[kind]}, a path as of `linear`, would take {minutes:.0f} min"
    # `getrusage` would tell the peak of the process that started this one, if that was higher.
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    print(json.dumps([*seconds, 1024 * int(peak), told]))


def count_passes() -> list[int]:
    """Return a list whose one number grows with every pass of a descent over the features."""
    passes = [0]
    evaluate = descent._Objective.at

    def counted(*args: Any) -> Any:
        passes[0] += 1
        return evaluate(*args)

    # The library counts nothing itself: a pass is what this method does.
    descent._Objective.at = counted  # type: ignore[method-assign]
    return passes


def describe(head: heads.Head, passes: int) -> str:
    """Return what was chosen of how many settings."""
    parts = []
    if curve := head.card.curve:
        ((name, chosen),) = head.card.setting.items()
        best = max(point["accuracy"] for point in curve)
        parts.append(f"{len(curve)} values, validation {best:.3f} at {name} {chosen:.3g}")
    if passes:
        parts.append(f"{passes} passes")
    return ", ".join(parts)


def networks(n_train: int, repetitions: int) -> list[str]:
    """Return the table of times."""
    with tempfile.TemporaryDirectory() as folder:
        file = synthetic(Path(folder) / "bottleneck.h5", n_train)
        rows: list[tuple[str, float, float | None, str]] = []
        # Each in a process of its own: what one sets in TensorFlow, the other would inherit.
        runs: dict[str, list[tuple[float, float]]] = {name: [] for name in NETWORKS}
        for _ in range(repetitions):
            for name, taken_by in runs.items():
                taken_by.append(in_process(file.path, name))
        for name, taken_by in runs.items():
            ratios = [
                own[0] / bare[0] for own, bare in zip(taken_by, runs[NETWORKS[1]], strict=True)
            ]
            rows.append(
                (
                    f"{name}, {EPOCHS} epochs",
                    *(statistics.median(column) for column in zip(*taken_by, strict=True)),
                    f"median of {repetitions}; {statistics.median(ratios):.2f} times the bare fit",
                )
            )
        one_pass = pass_seconds(Path(folder)) * len(file)
    fit = rows[-len(NETWORKS)][1]
    recomputed, once = EPOCHS * one_pass + fit, one_pass + fit
    rows += [
        ("one pass of EfficientNetLite0", one_pass, None,
         f"forward only, float32: {PASS_IMAGES} images in memory, scaled to {len(file):,}"),
        (f"dense, {EPOCHS} epochs, features cached", once, None, "one pass and the fit"),
        (f"dense, {EPOCHS} epochs, features recomputed", recomputed, None,
         f"{EPOCHS} passes and the fit: {recomputed / once:.1f} times as long, "
         f"{recomputed / fit:.0f} times once the features are there"),
    ]  # fmt: skip
    cells = [
        (name, f"{wall:.2f}", "" if cpu is None else f"{cpu:.2f}", told)
        for name, wall, cpu, told in rows
    ]
    return [
        f"{n_train:,} training and {n_train // 4:,} validation images, {N_COLUMNS} features, "
        f"{N_CLASSES} classes.",
        "",
        *table(["", "seconds", "processor s", ""], cells),
    ]


def in_process(path: Path, name: str) -> tuple[float, float]:
    """Run `fit` as a process; return its wall and processor seconds."""
    command = [sys.executable, __file__, "fit", str(path), "--network", name]
    done = subprocess.run(command, capture_output=True, check=True, text=True, timeout=PATIENCE)
    wall, cpu = json.loads(done.stdout.splitlines()[-1])
    return wall, cpu


def fit(path: Path, name: str) -> None:
    """Fit one of `NETWORKS` and print its seconds; run as a process."""
    from headstart.common.tensorflow_runtime import keras

    # However few they are, validation images judge: a cross-validation would be six fits.
    data = replace(training_data(FeatureFile.open(path)), min_validation=0)
    options = DenseOptions(kind="dense", epochs=EPOCHS, patience=EPOCHS, batch_size=BATCH_SIZE)
    arrays = {
        split: (np.asarray(data.features[rows]), data.label[rows])
        for split, rows in (("train", data.train), ("validation", data.validation))
    }

    def bare(**changes: int) -> None:
        network = keras.Sequential([
            keras.Input((N_COLUMNS,)),
            keras.layers.Dense(256, activation="relu"),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(N_CLASSES),
        ])  # fmt: skip
        network.compile(
            "adam",
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            **changes,
        )
        network.fit(
            *arrays["train"], validation_data=arrays["validation"],
            batch_size=BATCH_SIZE, epochs=EPOCHS, verbose=0,
        )  # fmt: skip

    actions = (
        lambda: heads.create(options, seed=0).fit(data),
        bare,
        lambda: bare(steps_per_execution=64),
    )
    print(json.dumps(timed(actions[NETWORKS.index(name)])))


def pass_seconds(folder: Path) -> float:
    """Return the seconds per image of EfficientNetLite0's forward pass, the faster of three."""
    options = load_params(ROOT / "params.yaml").extract.model_copy(
        update={
            "backbone": "EfficientNetLite0", "weights": "pretrained", "image_size": "auto",
            "layer": "auto", "engine": "auto", "precision": "float32",
        }
    )  # fmt: skip
    wanted = identify(options, engines.resolve("auto", "float32"))
    engine = engines.load(wanted, FeatureStore(folder / "store"))
    batches = np.random.default_rng(0).integers(
        0, 256, (PASS_IMAGES // engine.batch_size, engine.batch_size, *wanted.image_size, 3),
        dtype=np.uint8,
    )  # fmt: skip
    with ThreadPoolExecutor(engine.workers) as pool:
        passes = [timed(lambda: list(pool.map(engine, batches)))[0] for _ in range(3)]
    return min(passes) / (len(batches) * engine.batch_size)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("linear", "large", "networks", "fit"))
    parser.add_argument("features", nargs="*", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--kinds", nargs="+", help="of linear and large: these alone")
    parser.add_argument("--images", type=int, help="training images")
    parser.add_argument("--repetitions", type=int, default=3, help="of the networks")
    parser.add_argument("--dry", action="store_true", help="print, do not write RESULTS.md")
    parser.add_argument("--network", help=argparse.SUPPRESS)
    parser.add_argument("--extent", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part == "fit":
        if args.extent is None:
            fit(args.features[0], args.network)
        else:
            fit_and_measure(args.features[0], args.network, args.extent)
        return
    at = f"Machine: {machine()}."
    if args.part == "linear":
        kinds = args.kinds or [*WITHOUT_TENSORFLOW, *PLAIN]
        heading, lines = "Heads: linear", linear(args.images or 10_000, kinds)
    elif args.part == "large":
        kinds = args.kinds or [*LARGE, "LogisticRegression(C=1)"]
        heading, lines = "Heads: large", large(args.images or LARGE_ROWS, kinds)
    else:
        heading, lines = "Heads: time", networks(args.images or 10_000, args.repetitions)
    print("\n".join(lines))
    if not args.dry:
        write_section(heading, [at, "", *lines])


if __name__ == "__main__":
    main()
