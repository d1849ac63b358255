"""Building a backbone to look at its graph and to time its training."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from headstart.catalog import building, cuts
from headstart.catalog.readout import Readout
from headstart.commands.advise.facts import CutFacts, NetworkFacts, TrainingTime
from headstart.common.tensorflow_runtime import keras
from headstart.extraction.bottleneck import Bottleneck
from headstart.finetuning.assembly import Assembly
from headstart.finetuning.blocks import block_starts, resolve_unfreeze
from headstart.finetuning.head_layers import pooled_layers

_BATCH = 32
_REPETITIONS = 3


def measure(bottleneck: Bottleneck) -> NetworkFacts:
    """Build the backbone with random weights, which cost the same, and time a pass."""
    spec = bottleneck.spec
    backbone = building.build_architecture(spec, bottleneck.image_size, seed=0)
    last = cuts.get_cut(backbone, spec.feature_layer)
    forward = _assembly(bottleneck, backbone).features_from(None)
    images = np.zeros((_BATCH, *backbone.input_shape[1:]), np.float32)
    forward.predict_on_batch(images)  # traces and allocates
    return NetworkFacts(
        multiply_adds=last.multiply_adds_below,
        parameters=last.parameters_below,
        blocks=tuple(
            CutFacts(
                name=cut.name,
                multiply_adds_below=cut.multiply_adds_below,
                parameters_above=cut.parameters_above,
            )
            for cut in block_starts(backbone)
        ),
        last=last.name,
        forward_seconds=_fastest(lambda: forward.predict_on_batch(images)),
    )


def measure_training(bottleneck: Bottleneck, layer: str, unfreeze: str) -> TrainingTime:
    """Time the training of what lies between a cut whose activations are cached and `layer`.

    Args:
        bottleneck: The backbone.
        layer: Where the features are taken.
        unfreeze: Below it, as in params.yaml.
    """
    started = time.perf_counter()
    whole = building.build_architecture(bottleneck.spec, bottleneck.image_size, seed=0)
    backbone = _readout(bottleneck).up_to(whole, layer)
    cut = resolve_unfreeze(backbone, unfreeze)
    name = None if cut is None else cut.name
    assembly = _assembly(bottleneck, backbone)
    assembly.set_trainable(name)
    model = assembly.logits_from(name)
    model.compile(
        keras.optimizers.Adam(1e-6), keras.losses.CategoricalCrossentropy(from_logits=True)
    )
    inputs = np.ones((_BATCH, *model.input_shape[1:]), np.float32)
    targets = np.eye(2, dtype=np.float32)[np.arange(_BATCH) % 2]

    def step() -> None:
        model.train_on_batch(inputs, targets)

    step()
    # Validation and prediction trace the forward pass once more.
    model.predict_on_batch(inputs)
    start = time.perf_counter() - started
    total = backbone.count_params()
    return TrainingTime(
        start_seconds=start,
        image_seconds=_fastest(step),
        learning=1.0 if cut is None else cut.parameters_above / total,
    )


def classifier(bottleneck: Bottleneck) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return kernel (feature_dim, 1000) and bias (1000,) of the ImageNet classifier."""
    model = building.build(
        bottleneck.spec, bottleneck.spec.default_size, bottleneck.weights, include_top=True
    )
    kernel, bias = model.layers[-1].get_weights()
    return kernel, bias


def _assembly(bottleneck: Bottleneck, backbone: keras.Model) -> Assembly:
    head = pooled_layers((backbone.output_shape[-1],), 2)
    return Assembly(backbone, bottleneck.spec.preprocessing, _readout(bottleneck), head)


def _readout(bottleneck: Bottleneck) -> Readout:
    return Readout.of(bottleneck.spec, "avg", bottleneck.image_size)


def _fastest(step: Callable[[], Any]) -> float:
    seconds = []
    for _ in range(_REPETITIONS):
        started = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - started)
    return min(seconds) / _BATCH
