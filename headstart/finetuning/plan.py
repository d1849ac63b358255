"""What learns when: the phases of a fine-tuning run, and the hardware it runs on."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from headstart.catalog import cuts
from headstart.common.errors import InputError
from headstart.common.tensorflow_runtime import keras, tf
from headstart.extraction import engines
from headstart.finetuning.blocks import resolve_unfreeze
from headstart.finetuning.options import FinetuneOptions


class Step(NamedTuple):
    """One phase as the options ask for it.

    Attributes:
        cut: Name of the cut above which everything learns; None where the whole backbone does.
        shape: Of one image's activation there; of the preprocessed image without a cut.
        epochs: How many at most.
    """

    cut: str | None
    shape: tuple[int, ...]
    epochs: int


def plan_steps(backbone: keras.Model, options: FinetuneOptions) -> tuple[Step, ...]:
    """Resolve `finetune.stages` and, after them, `finetune.unfreeze`.

    Args:
        backbone: Up to the layer that features are taken from.
        options: The section `finetune`.

    Raises:
        InputError: a cut does not exist, or a step unfreezes less than the one before.
    """
    order = [cut.name for cut in cuts.find_cuts(backbone)]
    wanted: list[tuple[str, str | float, int]] = [
        *(
            (f"finetune.stages.{number}.unfreeze", step.unfreeze, step.epochs)
            for number, step in enumerate(options.stages)
        ),
        ("finetune.unfreeze", options.unfreeze, options.epochs),
    ]
    steps: list[Step] = []
    for key, unfreeze, epochs in wanted:
        cut = resolve_unfreeze(backbone, unfreeze, key)
        name = None if cut is None else cut.name
        if steps and name is not None:
            above = steps[-1].cut
            if above is None or order.index(name) > order.index(above):
                raise InputError(
                    f"finetune.stages: expected every step to unfreeze as much as the one before "
                    f"or more, received {unfreeze} (what lies above {name}) after "
                    f"{'everything' if above is None else f'what lies above {above}'}"
                )
        steps.append(Step(name, backbone.input_shape[1:] if cut is None else cut.shape, epochs))
    return tuple(steps)


class Hardware(NamedTuple):
    """Where training runs and in which arithmetic.

    Attributes:
        strategy: Spreads it over all GPUs, if there are several.
        policy: Keras' dtype policy of the backbone.
        loss_scaling: Whether gradients need it.
    """

    strategy: tf.distribute.Strategy
    policy: str
    loss_scaling: bool

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Everything with variables is made within this."""
        with self.strategy.scope():
            yield


def choose_hardware(options: FinetuneOptions) -> Hardware:
    """Take all GPUs, else the CPU.

    Raises:
        InputError: `finetune.precision: mixed` on hardware that computes in float32 only.
    """
    gpus = tf.config.list_physical_devices("GPU")
    many = len(tf.config.list_logical_devices("GPU")) > 1
    strategy = tf.distribute.MirroredStrategy() if many else tf.distribute.get_strategy()
    if options.precision == "float32":
        return Hardware(strategy, "float32", loss_scaling=False)
    if gpus:
        return Hardware(strategy, "mixed_float16", loss_scaling=True)
    try:
        engines.resolve("auto", "bfloat16")
    except InputError:
        raise InputError(
            "finetune.precision: this machine has no GPU and its CPU does not compute in "
            "bfloat16, so mixed would only be slower; use float32"
        ) from None
    return Hardware(strategy, "mixed_bfloat16", loss_scaling=False)
