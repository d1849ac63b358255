"""Whether there is a GPU that TensorFlow can use."""

import functools
import os
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

# Present if there is a driver: NVIDIA's, Microsoft's under WSL 2, AMD's.
_NODES = ("nvidia0", "dxg", "kfd")


@functools.cache
def has_gpu() -> bool:
    """Ask TensorFlow, but only where there may be one: importing it takes seconds."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    if sys.platform == "darwin":
        try:
            distribution("tensorflow-metal")
        except PackageNotFoundError:
            return False
    elif not any(Path("/dev", node).exists() for node in _NODES):
        return False
    from headstart.common.tensorflow_runtime import tf

    return bool(tf.config.list_physical_devices("GPU"))
