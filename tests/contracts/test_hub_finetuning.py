"""Fine-tuning above a block of KerasHub's backbones against that of keras-hub's own models."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from headstart.catalog import cuts
from headstart.catalog.readout import Readout
from headstart.common.tensorflow_runtime import keras, tf
from headstart.common.vocabulary import Pooling
from headstart.extraction.model import backbone_of
from headstart.finetuning.assembly import Assembly
from headstart.finetuning.saving import save_weights
from tests.golden_features import images_of
from tests.hub_arrays import NETWORKS
from tests.hub_specs import bottleneck_of, layout_of, spec_of

pytest.importorskip("keras_hub", reason="hub backbones need the extra: headstart[hub]")

Folder = Callable[[str, str], Path]

STEPS, RATE, CLASSES = 3, 0.05, 3
TARGETS = np.eye(CLASSES, dtype=np.float32)[[0, 1, 2, 0]]


def head(width: int) -> keras.Model:
    """A linear head with seeded weights."""
    rng = np.random.default_rng(0)
    model = keras.Sequential([keras.Input((width,)), keras.layers.Dense(CLASSES)])
    model.set_weights([rng.normal(0, 0.3, (width, CLASSES)), rng.normal(0, 0.3, CLASSES)])
    return model


def assemble(name: str, folder: Path, pooling: Pooling) -> Assembly:
    bottleneck = bottleneck_of(spec_of(name), folder, [("auto", pooling)])
    spec, size = bottleneck.spec, bottleneck.image_size
    readout = Readout.of(spec, pooling, size)
    backbone = readout.up_to(backbone_of(bottleneck), spec.feature_layer)
    width = spec.feature_dim * (2 if pooling == "cls+avg" else 1)
    return Assembly(backbone, spec.preprocessing, readout, head(width))


def descend(logits: Callable[[], Any], variables: Sequence[Any]) -> None:
    """A few steps of plain gradient descent, whose updates show a gradient as it is."""
    for _ in range(STEPS):
        with tf.GradientTape() as tape:
            losses = keras.losses.categorical_crossentropy(TARGETS, logits(), from_logits=True)
            loss = keras.ops.mean(losses)
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        for variable, gradient in zip(variables, gradients, strict=True):
            if gradient is not None:
                variable.assign_sub(RATE * tf.convert_to_tensor(gradient))


def hub_model(folder: Path, cut: int) -> tuple[Any, list[Any]]:
    """keras-hub's own model, and its variables that learn above a block."""
    import keras_hub

    model = keras_hub.models.Backbone.from_preset(str(folder))
    tower = getattr(model, "vision_encoder", model)
    if hasattr(tower, "stages"):
        blocks = [block for stage in tower.stages for block in stage.blocks]
        # Up to the merge of patches that follows.
        first = next(stage for stage in tower.stages if blocks[cut] in stage.blocks)
        above = [first.blocks[first.blocks.index(blocks[cut]) :], [first.downsample]]
        above.append(tower.stages[tower.stages.index(first) + 1 :])
        layers = [layer for part in above for layer in part if layer is not None]
    elif hasattr(tower, "encoder_layers"):
        layers = tower.encoder_layers[cut:]
    else:
        layers = tower.encoder.layers[cut:]
    for norm in ("norm", "layernorm", "layer_norm", "post_layer_norm"):
        layers = [*layers, *([getattr(tower, norm)] if hasattr(tower, norm) else [])]
    if hasattr(model, "vision_projection"):
        layers = [*layers, model.vision_projection]
    if hasattr(tower, "head"):
        layers = [*layers, tower.head]
    return model, [variable for layer in layers for variable in layer.trainable_variables]


def hub_features(name: str, model: Any, pixels: NDArray[np.float32]) -> Any:
    """What the head sees: class token and patch mean, the patch mean, or the tower's vector."""
    if NETWORKS[name].kind in ("clip", "siglip"):
        return model.get_vision_embeddings(pixels)
    named = isinstance(model.input, dict)
    tokens = model(dict.fromkeys(model.input, pixels) if named else pixels)
    prefix = NETWORKS[name].prefix_tokens
    mean = keras.ops.mean(tokens[:, prefix:], axis=1)
    return keras.ops.concatenate([tokens[:, 0], mean], axis=-1) if prefix else mean


@pytest.mark.parametrize(
    ("name", "pooling", "cut"),
    [
        ("dinov2_registers", "cls+avg", 2),
        ("dinov3", "cls+avg", 3),
        ("swin", "avg", 1),
        ("clip", "avg", 3),
    ],
)
def test_from_cached_activations_equals_ordinary(
    name: str, pooling: Pooling, cut: int, hub_folder: Folder
) -> None:
    folder = hub_folder(layout_of(name), name)
    assembly = assemble(name, folder, pooling)
    pixels = assembly.preprocessing(images_of(*NETWORKS[name].image_size, count=len(TARGETS)))
    tensor = cuts.tensor_at(assembly.backbone, f"block_{cut}")
    activations = keras.Model(assembly.backbone.input, tensor)(pixels, training=False)
    frozen = [np.asarray(one) for one in keras.Model(assembly.backbone.input, tensor).variables]

    model = assembly.logits_from(f"block_{cut}")
    assembly.set_trainable(f"block_{cut}")
    before = np.asarray(model(activations))
    descend(lambda: model(activations, training=True), model.trainable_variables)
    learned = np.asarray(model(activations))

    reference, variables = hub_model(folder, cut)
    reference_head = head(assembly.head.input_shape[-1])
    everything = [*variables, *reference_head.trainable_variables]
    shapes = sorted(tuple(variable.shape) for variable in everything)
    assert sorted(tuple(one.shape) for one in model.trainable_variables) == shapes
    descend(lambda: reference_head(hub_features(name, reference, pixels)), everything)
    expected = np.asarray(reference_head(hub_features(name, reference, pixels)))

    moved = np.abs(expected - before).max()
    assert moved > 0.1
    assert np.abs(learned - expected).max() < 1e-4 * moved
    live = assembly.logits_from(None)(pixels)
    assert np.abs(live - expected).max() < 1e-4 * moved
    for one, other in zip(
        frozen, keras.Model(assembly.backbone.input, tensor).variables, strict=True
    ):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("step", [1.0, -1.0])
def test_positions_that_have_learned_are_saved(
    step: float, hub_folder: Folder, tmp_path: Path
) -> None:
    """KerasHub's DINOv2 keeps two arrays of positions, of which it saves one, if by chance."""
    folder = hub_folder("transformers", "dinov2")
    learned, fresh = (assemble("dinov2", folder, "cls") for _ in range(2))
    embedding = learned.backbone.get_layer("embedding").inner
    positions = embedding.interpolated_position_embeddings
    # In one channel: what is added to all, normalization takes away.
    positions.assign(positions + step * np.eye(positions.shape[-1], dtype=np.float32)[0])
    pixels = learned.preprocessing(images_of(28, 28))
    expected = np.asarray(learned.logits_from(None)(pixels))
    save_weights(learned, tmp_path)
    assert np.abs(fresh.logits_from(None)(pixels) - expected).max() > 0.1
    (file,) = tmp_path.iterdir()
    fresh.logits_from(None).load_weights(file)
    np.testing.assert_allclose(fresh.logits_from(None)(pixels), expected, atol=1e-5)
