"""Heads against plain scikit-learn and Keras: time on synthetic features, scores on real ones.

    python bench/heads.py speed                      # 10,000 x 1280 features, 10 classes
    python bench/heads.py quality a/bottleneck.h5 b/bottleneck.h5 ...

`quality` compares every linear head, chosen without the test images, with the best single value of
a fine grid chosen on the test images by scikit-learn, and tells the calibration error before and
after temperature scaling. Expected: speed as in issue 5, each loss at most 0.5 points.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from pipeline import heads
from pipeline.feature_file import Columns, FeatureFile, Header, write_feature_file
from pipeline.heads.calibration import softmax
from pipeline.heads.data import TrainingData
from pipeline.identity import FeatureIdentity, digest_of
from pipeline.metrics import reliability
from pipeline.options import DenseOptions, LinearSVCOptions, LogisticOptions, RidgeOptions

N_TRAIN, N_VALIDATION, N_COLUMNS, N_CLASSES = 10_000, 2_500, 1280, 10
EPOCHS = 20
RULE = {"channel_order": "rgb", "divisor": 1.0}
LINEAR = {
    "logistic": LogisticOptions(kind="logistic"),
    "linear_svc": LinearSVCOptions(kind="linear_svc"),
    "ridge": RidgeOptions(kind="ridge"),
}


def synthetic(path: Path) -> FeatureFile:
    """Ten overlapping classes in a spectrum that falls off like that of real features."""
    rng = np.random.default_rng(0)
    n = N_TRAIN + N_VALIDATION
    spectrum = (1.0 + np.arange(N_COLUMNS)) ** -0.5
    turn = np.linalg.qr(rng.standard_normal((N_COLUMNS, N_COLUMNS)))[0]
    means = 0.093 * rng.standard_normal((N_CLASSES, N_COLUMNS)) * spectrum
    labels = rng.integers(0, N_CLASSES, n)
    spread = rng.standard_normal((n, N_COLUMNS)) * spectrum
    features = ((means[labels] + spread) @ turn + 0.5).astype(np.float32)
    identity = FeatureIdentity(
        backbone="synthetic", weights="random", weights_sha256="0" * 64, layer="none",
        pooling="avg", image_size=(1, 1), resize="stretch", interpolation="bilinear",
        preprocessing_digest=digest_of(RULE), precision="float32", engine="openvino",
    )  # fmt: skip
    header = Header(
        class_names=tuple(str(index) for index in range(N_CLASSES)), identity=identity,
        feature_shape=(N_COLUMNS,), preprocessing=RULE, augment=None, versions={},
    )  # fmt: skip
    columns = Columns(
        label=labels, split=np.where(np.arange(n) < N_TRAIN, "train", "validation"),
        sha256=np.array([f"{index:064x}" for index in range(n)]),
        view=np.zeros(n, np.int32), group=np.full(n, -1), image=np.arange(n),
    )  # fmt: skip
    write_feature_file(path, header, columns, features)
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


def speed() -> None:
    """Print the table of times."""
    with tempfile.TemporaryDirectory() as folder:
        file = synthetic(Path(folder) / "bottleneck.h5")
        data = training_data(file)
        rows: list[tuple[str, tuple[float, float], str]] = []
        for kind, options in LINEAR.items():
            head = heads.create(options, seed=0)
            taken = timed(lambda head=head: head.fit(data))
            best = max(point["accuracy"] for point in head.card.curve)
            told = f"{len(head.card.curve)} values, validation {best:.3f} at {head.card.setting}"
            rows.append((kind, taken, told))
        features = StandardScaler().fit_transform(np.asarray(file.features[data.train], float))
        plain = LinearSVC(C=1, dual="auto", random_state=0, max_iter=1000)
        rows.append(
            ("LinearSVC(C=1)", timed(lambda: plain.fit(features, data.label[data.train])), "plain")
        )
        rows += networks(data)
    print(f"\n| {'head':24} | seconds | processor s | |\n|---|---|---|---|")
    for name, (wall, cpu), told in rows:
        print(f"| {name:24} | {wall:7.2f} | {cpu:11.2f} | {told} |")


def networks(data: TrainingData) -> list[tuple[str, tuple[float, float], str]]:
    """Time `dense` beside a bare Keras fit of the same network, alternated."""
    from pipeline.tensorflow_runtime import keras

    options = DenseOptions(kind="dense", epochs=EPOCHS, patience=EPOCHS)
    arrays = {
        name: (np.asarray(data.features[rows]), data.label[rows])
        for name, rows in (("train", data.train), ("validation", data.validation))
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
            batch_size=32, epochs=EPOCHS, verbose=0,
        )  # fmt: skip

    actions = {
        f"dense, {EPOCHS} epochs": lambda: heads.create(options, seed=0).fit(data),
        "bare Keras fit": bare,
        "bare, 40 steps at once": lambda: bare(steps_per_execution=40),
    }
    best = dict.fromkeys(actions, (np.inf, np.inf))
    for _ in range(2):
        for name, action in actions.items():
            best[name] = min(best[name], timed(action))
    return [(name, taken, "better of two") for name, taken in best.items()]


def quality(paths: list[Path]) -> None:
    """Print what choosing without the test images costs, and the calibration."""
    print("| features | head | chosen | test | best on test | loss | ECE before | after |")
    print("|---|---|---|---|---|---|---|---|")
    for path in paths:
        file = FeatureFile.open(path)
        data, test = training_data(file), file.rows("test")
        labels = file.label[test]
        for kind, options in LINEAR.items():
            head = heads.create(options, seed=0)
            head.fit(data)
            logits = head.predict_logits(file.features, test)
            own = float((logits.argmax(axis=1) == labels).mean())
            unfair, setting = unfair_optimum(kind, file, data, test)
            before, after = (
                reliability(labels, softmax(logits, temperature)).expected_error
                for temperature in (1.0, head.card.temperature)
            )
            ((_, chosen),) = head.card.setting.items()
            print(
                f"| {path.parent.parent.name} | {kind} | {chosen:.3g} | {own:.4f} | {unfair:.4f} "
                f"at {setting:.3g} | {100 * (unfair - own):+.2f} | {before:.3f} | {after:.3f} |",
                flush=True,
            )


def unfair_optimum(
    kind: str, file: FeatureFile, data: TrainingData, test: np.ndarray
) -> tuple[float, float]:
    """Return the best test accuracy of scikit-learn over a fine grid, and its value."""
    pooled = [
        np.asarray(file.features[rows], float).reshape(len(rows), -1, file.features.shape[-1])
        for rows in (data.train, test)
    ]
    train, judged = (block.mean(axis=1) for block in pooled)
    if kind == "linear_svc":
        scaler = StandardScaler().fit(train)
        train, judged = scaler.transform(train), scaler.transform(judged)
    grid = {
        "logistic": np.logspace(-6, 5, 45),
        "linear_svc": np.logspace(-6, 0, 25),
        "ridge": np.logspace(-6, 8, 57),
    }[kind]
    make = {
        "logistic": lambda value: LogisticRegression(C=1 / value, max_iter=300),
        "linear_svc": lambda value: LinearSVC(C=value, random_state=0, max_iter=2000),
        "ridge": lambda value: RidgeClassifier(alpha=value),
    }[kind]
    scores = [
        make(v).fit(train, data.label[data.train]).score(judged, file.label[test]) for v in grid
    ]
    best = int(np.argmax(scores))
    return float(scores[best]), float(grid[best])


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("speed", "quality"))
    parser.add_argument("features", nargs="*", type=Path)
    args = parser.parse_args()
    if args.part == "speed":
        speed()
    else:
        quality(args.features)


if __name__ == "__main__":
    main()
