"""Building a backbone to look at its graph and to time its training."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from headstart.catalog import building, cuts
from headstart.commands.advise.facts import CutFacts, NetworkFacts
from headstart.common.tensorflow_runtime import keras
from headstart.extraction.bottleneck import Bottleneck
from headstart.finetuning.assembly import Assembly
from headstart.finetuning.blocks import block_starts
from headstart.finetuning.head_layers import pooled_layers

_BATCH = 8
_REPETITIONS = 3


def measure(bottleneck: Bottleneck) -> NetworkFacts:
    """Build the backbone with random weights, which cost the same, and time its training."""
    spec = bottleneck.spec
    backbone = building.build_architecture(spec, bottleneck.image_size, seed=0)
    last = cuts.get_cut(backbone, spec.feature_layer)
    starts = block_starts(backbone)
    assembly = Assembly(backbone, spec.preprocessing, "avg", pooled_layers((spec.feature_dim,), 2))
    images = np.zeros((_BATCH, *backbone.input_shape[1:]), np.float32)
    forward = assembly.features_from(None)
    first = starts[0].name if starts else None
    return NetworkFacts(
        multiply_adds=last.multiply_adds_below,
        parameters=last.parameters_below,
        blocks=tuple(
            CutFacts(
                name=cut.name,
                multiply_adds_below=cut.multiply_adds_below,
                parameters_above=cut.parameters_above,
            )
            for cut in starts
        ),
        last=last.name,
        forward_seconds=_fastest(lambda: forward.predict_on_batch(images)),
        last_block_seconds=_training_seconds(assembly, first),
        all_seconds=_training_seconds(assembly, None),
    )


def classifier(bottleneck: Bottleneck) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return kernel (feature_dim, 1000) and bias (1000,) of the ImageNet classifier."""
    model = building.build(
        bottleneck.spec, bottleneck.spec.default_size, bottleneck.weights, include_top=True
    )
    kernel, bias = model.layers[-1].get_weights()
    return kernel, bias


def _training_seconds(assembly: Assembly, cut: str | None) -> float:
    """Return the time of one image's training step above a cut, whose activations are cached."""
    assembly.set_trainable(cut)
    model = assembly.logits_from(cut)
    model.compile(
        keras.optimizers.Adam(1e-6), keras.losses.CategoricalCrossentropy(from_logits=True)
    )
    inputs = np.ones((_BATCH, *model.input_shape[1:]), np.float32)
    targets = np.eye(2, dtype=np.float32)[np.arange(_BATCH) % 2]
    return _fastest(lambda: model.train_on_batch(inputs, targets))


def _fastest(step: Callable[[], Any]) -> float:
    step()  # traces and allocates
    seconds = []
    for _ in range(_REPETITIONS):
        started = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - started)
    return min(seconds) / _BATCH
