"""Optimizers and learning rate schedules for fine-tuning."""

from collections.abc import Mapping
from typing import Any

from headstart.common.tensorflow_runtime import keras
from headstart.finetuning.options import FinetuneOptions

# Source: keras/src/optimizers: the momentum with which SGD is taught and compared.
_MOMENTUM = 0.9


def learning_rate_schedule(options: FinetuneOptions, steps: int) -> Any:
    """Return the learning rate: a linear warm-up, then constant or down a half cosine to 0.

    Args:
        options: `learning_rate` is the peak, `warmup` the share of `steps` until it is reached.
        steps: Number of optimizer steps of the whole phase.

    Returns:
        A float, or a Keras schedule of the step number.
    """
    peak = options.learning_rate
    warmup = round(options.warmup * steps)
    # The first step already moves: it takes the first of warmup + 1 equal stairs.
    first = peak / (warmup + 1)
    if options.schedule == "cosine":
        return keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=first if warmup else peak,
            decay_steps=max(1, steps - warmup),
            warmup_target=peak if warmup else None,
            warmup_steps=warmup,
        )
    if not warmup:
        return peak
    return keras.optimizers.schedules.PolynomialDecay(first, warmup, end_learning_rate=peak)


def make_optimizer(
    options: FinetuneOptions, steps: int, factors: Mapping[str, float], *, loss_scaling: bool
) -> keras.optimizers.Optimizer:
    """Return the optimizer that `options` describes.

    Args:
        options: Names the optimizer and its settings.
        steps: Number of steps of the whole phase.
        factors: What the learning rate of each trainable variable, by path, is multiplied with.
        loss_scaling: Whether gradients are computed in float16, which needs it.
    """
    settings: dict[str, Any] = {
        "learning_rate": learning_rate_schedule(options, steps),
        "global_clipnorm": options.clip_norm,
    }
    match options.optimizer:
        case "adam" | "adamw":
            # Keras' Adam decays weights by the rule of AdamW; there is nothing to choose.
            kind = keras.optimizers.Adam
        case "sgd":
            kind = keras.optimizers.SGD
            settings["momentum"] = _MOMENTUM
        case "rmsprop":
            kind = keras.optimizers.RMSprop
    if options.weight_decay or any(factor != 1 for factor in factors.values()):
        optimizer = _by_layer(kind)(factors, options.weight_decay, **settings)
    else:
        optimizer = kind(**settings)
    return keras.optimizers.LossScaleOptimizer(optimizer) if loss_scaling else optimizer


def _by_layer(kind: Any) -> Any:
    """Derive an optimizer with a learning rate factor per variable, and decoupled weight decay.

    Keras' own weight decay cannot follow the factors. Biases and the scales of normalization,
    which have one axis, are not decayed.
    Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (2019), algorithm 2;
    Clark et al., "ELECTRA" (2020), section 3.1 (layer-wise learning rate decay).
    """

    class ByLayer(kind):  # type: ignore[misc]  # chosen at run time
        def __init__(
            self, factors: Mapping[str, float], weight_decay: float, **settings: Any
        ) -> None:
            super().__init__(**settings)
            self._factors = dict(factors)
            self._decay = weight_decay

        def build(self, variables: list[Any]) -> None:
            self._factor_of = [self._factors[variable.path] for variable in variables]
            super().build(variables)

        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            rate = learning_rate * self._factor_of[self._get_variable_index(variable)]
            if self._decay and len(variable.shape) > 1:
                decay = keras.ops.cast(rate * self._decay, variable.dtype)
                self.assign_sub(variable, variable * decay)
            super().update_step(gradient, variable, rate)

    return ByLayer
