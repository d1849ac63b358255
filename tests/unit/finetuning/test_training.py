"""The loop against plain Keras, on small networks with generated images."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headstart.catalog import cuts
from headstart.catalog.readout import Readout
from headstart.catalog.spec import TF
from headstart.common.tensorflow_runtime import keras, seed_everything, tf
from headstart.finetuning.assembly import Assembly
from headstart.finetuning.batches import CachedActivations, shuffled
from headstart.finetuning.checkpoint import Checkpoint, TrainingState
from headstart.finetuning.head_layers import pooled_layers
from headstart.finetuning.optimizers import learning_rate_schedule, make_optimizer
from headstart.finetuning.options import FinetuneOptions
from headstart.finetuning.training import Examples, Phase, train
from headstart.scoring.choosing import HeldOut

OPTIONS = FinetuneOptions(
    unfreeze="last_block",
    head="logistic",
    seed=0,
    trunk="cached",
    max_cache=20e9,
    batch_norm="inference",
    optimizer="adam",
    learning_rate=1e-4,
    layer_decay=1.0,
    warmup=0.1,
    schedule="cosine",
    weight_decay=0.0,
    label_smoothing=0.0,
    clip_norm=1.0,
    batch_size=8,
    epochs=3,
    patience=99,
    precision="float32",
    stages=[],
)
N_TRAIN, N_VALIDATION, N_CLASSES = 30, 10, 3
CUT = "block1_add"


def make_options(**changes: Any) -> FinetuneOptions:
    return OPTIONS.model_copy(update=changes)


def make_assembly(**arguments: Any) -> Assembly:
    """A small network with all that fine-tuning meets: blocks, BatchNormalization, a residual."""
    seed_everything(1)
    layers = keras.layers

    def convolution(x: Any, filters: int, strides: int, name: str) -> Any:
        x = layers.Conv2D(filters, 3, strides, "same", use_bias=False, name=f"{name}_conv")(x)
        x = layers.BatchNormalization(name=f"{name}_bn")(x)
        return layers.ReLU(name=f"{name}_relu")(x)

    inputs = keras.Input((32, 32, 3))
    x = convolution(inputs, 8, 2, "stem")
    first = layers.Add(name="block1_add")([x, convolution(x, 8, 1, "block1")])
    x = layers.Add(name="block2_add")([first, convolution(first, 8, 1, "block2")])
    backbone = keras.Model(inputs, convolution(x, 16, 2, "top"))
    # Random statistics, so that a BatchNormalization that forgets them shows.
    rng = np.random.default_rng(0)
    for layer in backbone.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.moving_mean.assign(rng.normal(0, 0.1, layer.moving_mean.shape))
            layer.moving_variance.assign(rng.uniform(0.5, 1.5, layer.moving_variance.shape))
    return Assembly(
        backbone, TF, Readout("avg", None, (16, 16)), pooled_layers((16,), N_CLASSES), **arguments
    )


def held_out_of(labels: np.ndarray) -> HeldOut:
    n = len(labels)
    return HeldOut(label=labels, unit=np.arange(n), part=np.arange(n) % 5, weight=np.ones(n))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (N_TRAIN + N_VALIDATION, 8, 8, 3), dtype=np.uint8)
    return coarse.repeat(4, axis=1).repeat(4, axis=2)


@pytest.fixture(scope="module")
def examples(images: np.ndarray) -> Examples:
    n = len(images)
    labels = np.random.default_rng(1).integers(0, N_CLASSES, n)
    return Examples(
        train=np.arange(N_TRAIN),
        validation=np.arange(N_TRAIN, n),
        targets=np.eye(N_CLASSES, dtype=np.float32)[labels],
        weights=np.ones(n, np.float32),
        held_out=held_out_of(labels[N_TRAIN:]),
        log_prior=np.zeros(N_CLASSES, np.float32),
    )


@pytest.fixture(scope="module")
def activations(images: np.ndarray) -> np.ndarray:
    assembly = make_assembly()
    trunk = keras.Model(assembly.backbone.input, cuts.tensor_at(assembly.backbone, CUT))
    run = tf.function(lambda batch: trunk(batch, training=False))
    inputs = assembly.preprocessing(images)
    return np.concatenate([run(inputs[i : i + 8]).numpy() for i in range(0, len(inputs), 8)])


def run(
    assembly: Assembly,
    activations: np.ndarray,
    examples: Examples,
    options: FinetuneOptions,
    folder: Path,
    cut: str = CUT,
    **arguments: Any,
) -> tuple[TrainingState, dict[str, np.ndarray]]:
    model = assembly.logits_from(cut)
    variables = model.variables
    phase = Phase(
        epochs=options.epochs,
        source=CachedActivations(activations),
        model=model,
        enter=lambda: assembly.set_trainable(cut),
        factors=assembly.learning_rate_factors(options.layer_decay),
    )
    state = train([phase], variables, examples, options, Checkpoint(folder), **arguments)
    paths = [variable.path for variable in variables]
    return state, dict(zip(paths, state.current, strict=True))


def test_equals_plain_keras_with_the_trunk_frozen(
    images: np.ndarray, activations: np.ndarray, examples: Examples, tmp_path: Path
) -> None:
    options = make_options(epochs=4, learning_rate=1e-3)
    blind = replace(examples, validation=np.empty(0, np.int64))
    _, learned = run(make_assembly(), activations, blind, options, tmp_path)

    # As the Keras guide to transfer learning writes it; nothing of this project's loop.
    reference = make_assembly()
    base = reference.backbone
    frozen = True
    for layer in base.layers:
        layer.trainable = not (frozen or isinstance(layer, keras.layers.BatchNormalization))
        frozen = frozen and layer.name != CUT
    inputs = keras.Input((32, 32, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(base(inputs, training=False))
    model = keras.Model(inputs, reference.head(pooled))
    steps = 4 * 4
    rate = keras.optimizers.schedules.CosineDecay(
        1e-3 / 3, steps - 2, warmup_target=1e-3, warmup_steps=2
    )
    model.compile(
        keras.optimizers.Adam(rate, global_clipnorm=1.0),
        keras.losses.CategoricalCrossentropy(from_logits=True),
    )
    inputs = reference.preprocessing(images)
    before = {variable.path: keras.ops.convert_to_numpy(variable) for variable in model.variables}
    for epoch in range(4):
        order = shuffled(examples.train, options.seed, epoch)
        targets = examples.targets[order]
        model.fit(inputs[order], targets, batch_size=8, shuffle=False, verbose=0)
    expected = {v.path: keras.ops.convert_to_numpy(v) for v in model.variables if v.path in learned}
    assert set(expected) == set(learned)
    largest = max(float(np.abs(learned[path] - expected[path]).max()) for path in learned)
    moved = max(float(np.abs(before[path] - expected[path]).max()) for path in learned)
    assert moved > 5e-3
    assert largest < 1e-6


def test_frozen_normalization_is_left_alone(
    activations: np.ndarray, examples: Examples, tmp_path: Path
) -> None:
    assembly = make_assembly()
    before = {
        variable.path: keras.ops.convert_to_numpy(variable)
        for layer in assembly.backbone.layers
        if isinstance(layer, keras.layers.BatchNormalization)
        for variable in layer.weights
    }
    options = make_options(epochs=1, learning_rate=1e-2)
    _, learned = run(assembly, activations, examples, options, tmp_path)
    compared = [path for path in learned if path in before]
    assert len(compared) == 2 * 4  # of two layers above the cut: scale, offset, mean, variance
    for path in compared:
        assert np.array_equal(learned[path], before[path]), path


def test_normalization_learns_when_asked(
    activations: np.ndarray, examples: Examples, tmp_path: Path
) -> None:
    assembly = make_assembly(learn_statistics=True)
    before = {
        variable.path: keras.ops.convert_to_numpy(variable)
        for variable in assembly.backbone.variables
    }
    _, learned = run(assembly, activations, examples, make_options(epochs=1), tmp_path)
    for path in ("top_bn/moving_mean", "top_bn/moving_variance", "top_bn/gamma"):
        assert not np.array_equal(learned[path], before[path]), path
    # What lies below the cut is no part of it.
    assert "stem_bn/moving_mean" not in learned
    # Four batches take up more than a third of what they see; at Keras' 0.99 it would be 4 %.
    layers = [layer for layer in assembly.backbone.layers if layer.name.endswith("_bn")]
    assert {layer.momentum for layer in layers} == {0.9}


def test_random_weights_at_the_start_are_not_compared_with(
    activations: np.ndarray, examples: Examples, tmp_path: Path
) -> None:
    """Steps too small to change a float32 are no better than the start, but all there is."""
    options = make_options(epochs=2, learning_rate=1e-30)
    kept, _ = run(make_assembly(), activations, examples, options, tmp_path / "kept")
    assert kept.best_epoch == 0
    trained, _ = run(
        make_assembly(), activations, examples, options, tmp_path / "trained", start_counts=False
    )
    assert trained.best_epoch == 1


def test_a_later_run_takes_up_the_checkpoint(
    activations: np.ndarray, examples: Examples, tmp_path: Path
) -> None:
    options = make_options(epochs=3)
    whole, expected = run(make_assembly(), activations, examples, options, tmp_path / "whole")

    class KilledError(Exception):
        pass

    class Dying(CachedActivations):
        def read(self, rows: np.ndarray, epoch: int, batch_size: int) -> Any:
            for index, batch in enumerate(super().read(rows, epoch, batch_size)):
                if epoch == 1 and index == 2:
                    raise KilledError
                yield batch

    assembly = make_assembly()
    model = assembly.logits_from(CUT)
    phase = Phase(
        epochs=3,
        source=Dying(activations),
        model=model,
        enter=lambda: assembly.set_trainable(CUT),
        factors=assembly.learning_rate_factors(1.0),
    )
    checkpoint = Checkpoint(tmp_path / "killed")
    with pytest.raises(tf.errors.OpError):
        train([phase], model.variables, examples, options, checkpoint)
    stored = checkpoint.load()
    assert stored is not None
    assert stored.epoch == 1

    resumed, learned = run(make_assembly(), activations, examples, options, tmp_path / "killed")
    assert resumed.history == whole.history
    for path, value in expected.items():
        assert np.array_equal(learned[path], value), path


def test_the_best_weights_are_kept_and_training_stops(
    activations: np.ndarray, examples: Examples, tmp_path: Path
) -> None:
    # Random labels: training images are learned by heart, validation only gets worse.
    options = make_options(epochs=50, patience=2, learning_rate=1e-3)
    assembly = make_assembly()
    state, _ = run(assembly, activations, examples, options, tmp_path)
    losses = [row["validation_loss"] for row in state.history]
    assert len(losses) == state.best_epoch + 2
    model = assembly.logits_from(CUT)
    logits = model.predict(activations[examples.validation], verbose=0)
    loss = keras.losses.categorical_crossentropy(
        examples.targets[examples.validation], logits, from_logits=True
    )
    assert state.best_log_loss == pytest.approx(float(np.mean(loss)), rel=1e-5)
    assert state.best_log_loss <= min(losses)


def test_training_that_only_harms_changes_nothing(
    activations: np.ndarray, examples: Examples, tmp_path: Path
) -> None:
    assembly = make_assembly()
    before = [keras.ops.convert_to_numpy(variable) for variable in assembly.head.weights]
    options = make_options(epochs=2, learning_rate=10.0, optimizer="sgd", clip_norm=None)
    state, _ = run(assembly, activations, examples, options, tmp_path)
    assert state.best_epoch == 0
    assert len(state.history) == 2
    for variable, value in zip(assembly.head.weights, before, strict=True):
        assert np.array_equal(keras.ops.convert_to_numpy(variable), value)


def test_without_validation_images_the_last_weights_are_kept(
    activations: np.ndarray, examples: Examples, tmp_path: Path
) -> None:
    blind = replace(examples, validation=np.empty(0, np.int64))
    state, learned = run(make_assembly(), activations, blind, make_options(epochs=2), tmp_path)
    assert state.best_log_loss is None
    assert state.best_epoch == 2
    assert set(state.history[0]) == {"epoch", "train_loss", "train_accuracy"}
    assert all(np.array_equal(a, b) for a, b in zip(state.best, learned.values(), strict=True))


def test_phases_unfreeze_one_after_the_other(
    activations: np.ndarray, examples: Examples, tmp_path: Path
) -> None:
    assembly = make_assembly()
    model = assembly.logits_from(CUT)
    variables = model.variables
    start = {variable.path: keras.ops.convert_to_numpy(variable) for variable in variables}

    def enter(cut: str) -> Callable[[], None]:
        return lambda: assembly.set_trainable(cut)

    phases = [
        Phase(
            epochs=1,
            source=CachedActivations(activations),
            model=assembly.logits_from(CUT),
            enter=enter(cut),
            factors=assembly.learning_rate_factors(1.0),
        )
        for cut in ("block2_add", CUT)
    ]
    snapshots = []

    class Watching(Checkpoint):
        def save(self, state: TrainingState) -> None:
            paths = [variable.path for variable in variables]
            snapshots.append(dict(zip(paths, state.current, strict=True)))
            super().save(state)

    train(phases, variables, examples, make_options(), Watching(tmp_path))
    first, second = snapshots
    changed = [
        {path for path in start if not np.array_equal(one[path], other[path])}
        for one, other in ((start, first), (first, second))
    ]
    assert changed[0] == {"top_conv/kernel", "logits/kernel", "logits/bias"}
    assert changed[1] == changed[0] | {"block2_conv/kernel"}


def test_layers_further_down_learn_more_slowly() -> None:
    factors = make_assembly().learning_rate_factors(0.5)
    assert factors["logits/kernel"] == 1
    assert factors["top_conv/kernel"] == 0.5
    assert factors["block2_conv/kernel"] == 0.25
    assert factors["stem_conv/kernel"] == 0.5**4


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
def test_factors_and_decay_reach_the_update(optimizer: str) -> None:
    options = make_options(
        optimizer=optimizer, weight_decay=0.1, schedule="constant", warmup=0.0, clip_norm=None
    )
    plain = make_options(
        optimizer=optimizer, weight_decay=0.0, schedule="constant", warmup=0.0, clip_norm=None
    )

    def step(options: FinetuneOptions, factor: float) -> dict[str, np.ndarray]:
        kernel = keras.Variable(np.full((2, 2), 3.0, np.float32), name="kernel")
        bias = keras.Variable(np.full(2, 3.0, np.float32), name="bias")
        factors = {kernel.path: factor, bias.path: factor}
        made = make_optimizer(options, 10, factors, loss_scaling=False)
        made.apply([tf.ones((2, 2)), tf.ones(2)], [kernel, bias])
        return {"kernel": 3.0 - np.array(kernel), "bias": 3.0 - np.array(bias)}

    full, half, undecayed = step(options, 1.0), step(options, 0.5), step(plain, 1.0)
    assert half["kernel"] == pytest.approx(full["kernel"] / 2, rel=1e-2)
    assert half["bias"] == pytest.approx(full["bias"] / 2, rel=1e-2)
    assert full["bias"] == pytest.approx(undecayed["bias"])
    decayed = full["kernel"] - undecayed["kernel"]
    assert decayed == pytest.approx(options.learning_rate * 0.1 * 3.0, rel=1e-2)


def test_learning_rate_warms_up_and_falls() -> None:
    options = make_options(learning_rate=1.0, warmup=0.25, schedule="cosine")
    schedule = learning_rate_schedule(options, 20)
    rates = [float(schedule(step)) for step in range(21)]
    assert rates[:6] == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1.0])
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert rates[20] == pytest.approx(0, abs=1e-6)
    constant = learning_rate_schedule(options.model_copy(update={"schedule": "constant"}), 20)
    assert [float(constant(step)) for step in (0, 5, 19)] == pytest.approx([1 / 6, 1.0, 1.0])
    unwarmed = options.model_copy(update={"schedule": "constant", "warmup": 0.0})
    assert learning_rate_schedule(unwarmed, 20) == 1.0


def test_a_damaged_checkpoint_counts_as_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = Checkpoint(tmp_path)
    assert checkpoint.load() is None
    assert capsys.readouterr().err == ""
    (tmp_path / "checkpoint.h5").write_bytes(b"\x89HDF\r\n\x1a\n and nothing else")
    assert checkpoint.load() is None
    told = capsys.readouterr().err
    assert f"warning: {tmp_path}/checkpoint.h5: written by an older release" in told


_ON_A_STAND_IN = """
import sys
from pathlib import Path
import numpy as np
from headstart.common.tensorflow_runtime import tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from headstart.finetuning import batches, training
from tests.unit.finetuning import test_training as here
n = here.N_TRAIN + here.N_VALIDATION
rng = np.random.default_rng(0)
activations = rng.normal(0, 1, (n, 16, 16, 8)).astype(np.float32)
labels = rng.integers(0, here.N_CLASSES, n)
examples = here.Examples(
    train=np.arange(here.N_TRAIN), validation=np.arange(here.N_TRAIN, n),
    targets=np.eye(here.N_CLASSES, dtype=np.float32)[labels], weights=np.ones(n, np.float32),
    held_out=here.held_out_of(labels[here.N_TRAIN:]),
    log_prior=np.zeros(here.N_CLASSES, np.float32),
)
learned = []
for gpu in (None, "CPU:1"):
    batches.only_gpu = training.only_gpu = lambda: gpu
    training._GPU_STEPS = 3
    folder = Path(sys.argv[1]) / str(gpu)
    state, values = here.run(
        here.make_assembly(), activations, examples, here.make_options(), folder
    )
    learned.append(values)
    print(len(state.history), state.history[-1]["train_loss"])
print(all(np.array_equal(learned[0][path], learned[1][path]) for path in learned[0]))
"""


@pytest.mark.slow
def test_several_steps_at_once_learn_the_same(tmp_path: Path) -> None:
    """What a GPU is given, on a stand-in: batches put there ahead, and no Python between steps."""
    answer = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", _ON_A_STAND_IN, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[3],
    )
    assert answer.returncode == 0, answer.stderr
    one, other, same = answer.stdout.splitlines()
    assert one == other
    assert same == "True"
