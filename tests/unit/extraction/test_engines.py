"""Both engines on real backbones: the same numbers, to the bit wherever an image lies."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headstart.common.errors import InputError
from headstart.extraction import engines
from headstart.extraction.bottleneck import Bottleneck, identify, recover
from headstart.extraction.engines import Engine
from headstart.extraction.options import ExtractOptions
from headstart.extraction.store import FeatureStore
from headstart.images.options import AugmentOptions
from tests.hardware import needs_precision

ROOT = Path(__file__).parents[3]
ENGINES = ("openvino", "tensorflow")
TAPS = [("auto", "avg"), ("auto", "none"), ("auto", "max"), ("block4c_add", "none")]


def options(**changes: object) -> ExtractOptions:
    defaults = {
        "backbone": "EfficientNetLite0",
        "weights": "pretrained",
        "seed": 0,
        "image_size": 64,
        "resize": "stretch",
        "layer": "auto",
        "pooling": "avg",
        "engine": "auto",
        "precision": "float32",
        "augment": AugmentOptions(views=0, seed=0),
    }
    return ExtractOptions(**{**defaults, **changes})


def bottleneck(**changes: object) -> Bottleneck:
    wanted = options(**changes)
    return identify(wanted, engines.resolve(wanted.engine, wanted.precision))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    return FeatureStore(tmp_path_factory.mktemp("engines"))


@pytest.fixture(scope="module")
def pictures(photo: Callable[[int, int, int], np.ndarray]) -> np.ndarray:
    return np.stack([photo(seed, 64, 64) for seed in range(40)])


@pytest.fixture(scope="module")
def load(store: FeatureStore) -> Callable[..., Engine]:
    """Load an engine, each only once."""
    loaded: dict[Bottleneck, Engine] = {}

    def give(taps: list[tuple[str, str]] | None = None, **changes: object) -> Engine:
        wanted = bottleneck(**changes)
        if taps:
            wanted = wanted.tapped(taps)
        if wanted not in loaded:
            loaded[wanted] = engines.load(wanted, store)
        return loaded[wanted]

    return give


def run(engine: Engine, images: np.ndarray) -> list[np.ndarray]:
    parts = []
    for start in range(0, len(images), engine.batch_size):
        batch = images[start : start + engine.batch_size]
        padding = np.zeros((engine.batch_size - len(batch), *batch.shape[1:]), np.uint8)
        outputs = engine(np.concatenate([batch, padding]))
        parts.append([output[: len(batch)] for output in outputs])
    return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]


def relative(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max() / np.abs(other).max())


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    """The smallest over all images."""
    one, other = (x.reshape(len(x), -1).astype(np.float64) for x in (one, other))
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return float(((one * other).sum(axis=1) / norms).min())


def test_engines_agree_in_float32(load: Callable[..., Engine], pictures: np.ndarray) -> None:
    openvino, tensorflow = (run(load(TAPS, engine=engine), pictures) for engine in ENGINES)
    shapes = [(1280,), (2, 2, 1280), (1280,), (4, 4, 80)]
    assert [output.shape[1:] for output in openvino] == shapes
    for one, other in zip(openvino, tensorflow, strict=True):
        assert one.dtype == other.dtype == np.float32
        assert relative(one, other) <= 1e-5


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("network", "least"),
    [
        ({"backbone": "MobileNetV2", "weights": "random"}, 0.9999),
        # What eight bits of mantissa leave of a trained network with ReLU6 at 64 pixels.
        ({"backbone": "EfficientNetLite0", "weights": "pretrained"}, 0.99),
    ],
    ids=["random", "trained"],
)
def test_bfloat16_is_near_float32(
    load: Callable[..., Engine],
    pictures: np.ndarray,
    engine: str,
    network: dict[str, str],
    least: float,
) -> None:
    needs_precision("bfloat16", engine)
    (exact,) = run(load(**network, engine=engine), pictures)
    (reduced,) = run(load(**network, engine=engine, precision="bfloat16"), pictures)
    assert not np.array_equal(exact, reduced)
    assert cosine(reduced, exact) >= least


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_place_and_neighbors_change_no_bit(
    load: Callable[..., Engine], pictures: np.ndarray, engine: str, precision: str
) -> None:
    needs_precision(precision, engine)
    loaded = load(engine=engine, precision=precision)
    (first,) = run(loaded, pictures)
    order = np.random.default_rng(0).permutation(len(pictures))
    (shuffled,) = run(loaded, pictures[order])
    assert np.array_equal(shuffled, first[order])
    (alone,) = run(loaded, pictures[7:8])
    assert np.array_equal(alone[0], first[7])


def test_one_pass_gives_what_single_passes_give(
    load: Callable[..., Engine], pictures: np.ndarray
) -> None:
    average, unpooled, maximum, _ = run(load(TAPS), pictures)
    (alone,) = run(load(), pictures)
    assert relative(average, alone) <= 1e-5
    assert relative(unpooled.mean(axis=(1, 2)), average) <= 1e-5
    assert np.array_equal(unpooled.max(axis=(1, 2)), maximum)


def test_features_are_those_of_the_keras_model(
    load: Callable[..., Engine], pictures: np.ndarray
) -> None:
    """Preprocessing, network and pooling put together by hand, nothing folded or converted."""
    from headstart.catalog import building

    wanted = bottleneck()
    network = building.build(wanted.spec, wanted.image_size, wanted.weights)
    maps = network(wanted.spec.preprocessing(pictures), training=False).numpy()
    for engine in ENGINES:
        (features,) = run(load(engine=engine), pictures)
        assert relative(features, maps.mean(axis=(1, 2))) <= 1e-5


def test_same_taps_twice_are_one() -> None:
    assert len(bottleneck().tapped([("auto", "avg"), ("top_activation", "avg")]).taps) == 1


@pytest.mark.parametrize("engine", ENGINES)
def test_unknown_layer(store: FeatureStore, engine: str) -> None:
    wanted = bottleneck(
        backbone="LeNet5", weights="random", image_size=32, layer="s9", engine=engine
    )
    with pytest.raises(InputError, match="layer: there is no layer 's9'; cuts near it: "):
        engines.load(wanted, store)
    assert not list((store.root / "models").glob(".*")), "a half-made model was left"


def test_precision_that_the_cpu_lacks() -> None:
    message = r"extract\.precision: expected what this CPU computes in with tensorflow \(float32"
    with pytest.raises(InputError, match=rf"{message}.*\), received float16"):
        engines.resolve("tensorflow", "float16")


def test_choice_of_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert engines.resolve("auto", "float32") == "openvino"
    assert engines.resolve("tensorflow", "float32") == "tensorflow"
    # Stands for a platform that OpenVINO has no wheel for.
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert engines.resolve("auto", "float32") == "tensorflow"
    with pytest.raises(InputError, match=r"extract\.engine: openvino is not installed"):
        engines.resolve("openvino", "float32")


def test_a_damaged_converted_model_is_made_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = FeatureStore(tmp_path)
    wanted = bottleneck(backbone="LeNet5", weights="random", image_size=32)
    picture = np.full((1, 32, 32, 3), 99, np.uint8)
    (expected,) = engines.load(wanted, store)(picture)
    (place,) = (store.root / "models").iterdir()
    weights = place / "model.bin"
    whole = weights.read_bytes()
    for damaged in (whole[:-8], whole[:50] + bytes([whole[50] ^ 1]) + whole[51:]):
        weights.write_bytes(damaged)
        assert np.array_equal(engines.load(wanted, store)(picture)[0], expected)
        assert "the checksum of model.bin does not fit. It is deleted" in capsys.readouterr().err
        assert weights.read_bytes() == whole
    (place / "card.json").unlink()
    assert np.array_equal(engines.load(wanted, store)(picture)[0], expected)


def test_a_warm_start_needs_no_tensorflow(load: Callable[..., Engine], store: FeatureStore) -> None:
    load()  # Converts the model, if no other test has.
    code = f"""
import sys, pathlib
sys.path.insert(0, {str(ROOT)!r})
import numpy as np
from tests.unit.extraction.test_engines import bottleneck, engines, FeatureStore
engine = engines.load(bottleneck(), FeatureStore(pathlib.Path({str(store.root)!r})))
(features,) = engine(np.zeros((1, 64, 64, 3), np.uint8))
assert features.shape == (1, 1280)
loaded = {{name.partition(".")[0] for name in sys.modules if sys.modules[name] is not None}}
print(sorted(loaded & {{"tensorflow", "keras", "openvino", "openvino_telemetry"}}))
"""
    environment = {**os.environ, "HOME": str(store.root / "home")}
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert answer.stdout.strip() == "['openvino']"
    assert not (store.root / "home").exists(), "telemetry left a folder in the user's home"


_ON_TWO_DEVICES = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import dataclasses
import numpy as np
from headstart.common.tensorflow_runtime import tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from concurrent.futures import ThreadPoolExecutor
from headstart.extraction.engines import tensorflow_engine
from tests.unit.extraction.test_engines import bottleneck, cosine, relative, run
tensorflow_engine._LARGEST_GPU_BATCH_SIZE = 4
images = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), dtype=np.uint8)
wanted = bottleneck(engine="tensorflow", backbone="LeNet5", weights="random", image_size=32)
(expected,) = run(tensorflow_engine.on_cpu(wanted), images)
placed = []
fold = tensorflow_engine.fold_batch_normalization
def folding(network):
    folded = fold(network)
    placed.append({{variable.value.device[-5:] for variable in folded.variables}})
    return folded
tensorflow_engine.fold_batch_normalization = folding
for precision in ("float32", "bfloat16", "float16"):
    tap = dataclasses.replace(wanted.taps[0], precision=precision, engine="tensorflow-gpu")
    engine = tensorflow_engine.on_gpus(
        dataclasses.replace(wanted, taps=(tap,)), ["CPU:0", "CPU:1"]
    )
    assert (engine.batch_size, engine.workers) == (4, 6)
    assert placed[-2:] == [{{"CPU:0"}}, {{"CPU:1"}}], placed
    with ThreadPoolExecutor(engine.workers) as pool:
        parts = list(pool.map(engine, np.split(images, 4)))
    features = np.concatenate([part[0] for part in parts])
    print(precision, relative(features, expected) <= 1e-5, cosine(features, expected) >= 0.9999)
"""


@pytest.mark.slow
def test_replicas_under_xla() -> None:
    """The code for GPUs, on two virtual CPU devices: all of it but the hardware."""
    answer = subprocess.run(
        [sys.executable, "-c", _ON_TWO_DEVICES], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    lines = dict(line.split(" ", 1) for line in answer.stdout.splitlines())
    assert lines == {"float32": "True True", "bfloat16": "False True", "float16": "False True"}


def test_a_gpu_has_features_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store never takes a GPU's numbers for the CPU's; heads serve both."""
    monkeypatch.setattr(engines, "has_gpu", lambda: True)
    for precision in ("float32", "bfloat16", "float16"):
        assert engines.resolve("auto", precision) == "tensorflow-gpu"
        assert engines.resolve("tensorflow", precision) == "tensorflow-gpu"
    assert engines.resolve("openvino", "float32") == "openvino"
    (gpu,) = identify(options(precision="bfloat16"), "tensorflow-gpu").taps
    (cpu,) = identify(options(), "tensorflow").taps
    assert gpu.fingerprint != cpu.fingerprint
    assert gpu.feature_digest == cpu.feature_digest


def test_features_of_a_gpu_where_there_is_none(store: FeatureStore) -> None:
    wanted = identify(options(precision="bfloat16"), "tensorflow-gpu")
    with pytest.raises(InputError, match=r"extract\.engine: the features are of a GPU, and"):
        engines.load(wanted, store)
    # A head of theirs is served by the CPU.
    assert recover(wanted.taps[0]) == identify(options(), "tensorflow")


def _foldable_network() -> Any:
    """Every kind of layer that can be folded, and every reason not to."""
    from headstart.common.tensorflow_runtime import keras

    layers = keras.layers
    inputs = keras.Input((16, 16, 3))
    x = layers.ZeroPadding2D()(inputs)
    x = layers.Conv2D(8, 3, use_bias=False)(x)
    x = layers.BatchNormalization(name="after_conv")(x)
    x = layers.ReLU(6.0)(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same")(x)
    x = layers.BatchNormalization(scale=False, center=False)(x)
    x = layers.SeparableConv2D(8, 3, padding="same")(x)
    x = layers.BatchNormalization()(x)
    x = layers.Conv2DTranspose(6, 2, strides=2)(x)
    x = layers.BatchNormalization(axis=3)(x)
    x = layers.Conv2D(12, 3, groups=2)(x)
    x = layers.BatchNormalization(name="tap")(x)
    tapped = x
    x = layers.Activation("relu")(x)
    x = layers.BatchNormalization(name="standing_alone")(x)
    x = layers.Conv2D(12, 1, activation="relu")(x)
    x = layers.BatchNormalization(name="after_activation")(x)
    branch = layers.Conv2D(4, 1)(x)
    x = layers.Concatenate()([branch, layers.BatchNormalization(name="not_alone")(branch)])
    output = layers.Conv2D(5, 1, name="output_conv")(x)
    normalized = layers.BatchNormalization(name="after_output")(output)
    shared = layers.Conv2D(5, 1, name="shared")
    twice = layers.Add()([
        layers.BatchNormalization(name="first_use")(shared(normalized)),
        layers.BatchNormalization(name="second_use")(shared(output)),
    ])  # fmt: skip
    vector = layers.Dense(7)(layers.GlobalAveragePooling2D()(twice))
    vector = layers.BatchNormalization()(vector)
    return keras.Model(inputs, [tapped, output, vector])


def test_folding_changes_nothing_but_the_number_of_layers() -> None:
    from headstart.common.tensorflow_runtime import keras
    from headstart.extraction.engines.folding import fold_batch_normalization

    keras.utils.set_random_seed(0)
    model = _foldable_network()
    rng = np.random.default_rng(0)
    for layer in model.layers:
        layer.set_weights([
            rng.uniform(0.5, 2, weight.shape)
            if weight.name in ("gamma", "moving_variance")
            else rng.normal(0, 0.5, weight.shape)
            for weight in layer.weights
        ])  # fmt: skip
    images = rng.normal(0, 1, (3, 16, 16, 3)).astype(np.float32)
    before = model(images, training=False)
    folded = fold_batch_normalization(model)
    for one, other, again in zip(
        folded(images, training=False), before, model(images, training=False), strict=True
    ):
        assert relative(one.numpy(), other.numpy()) <= 1e-5
        assert np.array_equal(again.numpy(), other.numpy()), "folding changed the original"
    kept = {
        layer.name for layer in folded.layers if isinstance(layer, keras.layers.BatchNormalization)
    }
    assert kept == {
        "standing_alone",
        "after_activation",
        "not_alone",
        "after_output",
        "first_use",
        "second_use",
    }
