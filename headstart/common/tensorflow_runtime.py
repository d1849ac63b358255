"""TensorFlow and Keras, imported without their start-up noise.

Import `tf` and `keras` from here and nowhere else: the noise is silenced only when this module
comes first. Importing it costs seconds; a module that may do without must not import it.
"""

import logging
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from headstart.common import interruption

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
# TensorFlow leaves oneDNN off on older x86 CPUs; without it a feature's last bits depend on the
# place of its image in the batch.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


@contextmanager
def standard_error_silenced() -> Iterator[None]:
    """Drop what is written to standard error, by C++ libraries too.

    They log before, or whatever, a log level says; so the descriptor itself is redirected.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)


@contextmanager
def left_out(names: Iterable[str]) -> Iterator[None]:
    """Let packages that are not imported yet seem to be missing while the block runs."""
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # documented use of None
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


# Keras imports these where it finds them, for its scikit-learn wrappers, its plots and data frames
# in `fit`. Nothing here uses those, and it is two fifths of the start; but a notebook may.
_OPTIONAL = ("matplotlib", "pandas", "scipy", "sklearn") if interruption.guarded else ()

with standard_error_silenced(), left_out(_OPTIONAL):
    import keras
    import tensorflow as tf

    # The first device look-up logs the missing GPU driver; do it while nobody listens.
    for _gpu in tf.config.list_physical_devices("GPU"):
        # Or else the first process takes all of a GPU's memory, and a second finds none.
        tf.config.experimental.set_memory_growth(_gpu, True)
    # TensorFloat-32, which GPUs use by default, keeps 10 bits of 23: that is not float32.
    tf.config.experimental.enable_tensor_float_32_execution(False)

logging.getLogger("tensorflow").setLevel(logging.ERROR)

__all__ = ["dtype_policy", "keras", "seed_everything", "standard_error_silenced", "tf"]


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and TensorFlow and make TensorFlow's operations deterministic.

    Args:
        seed: Any integer in [0, 2**32).
    """
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


@contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Build layers with a dtype policy, such as "mixed_bfloat16", and put the old one back."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
