"""Running a bottleneck: a batch of images of fixed size in, features out.

The batch has a fixed shape because a feature's last bits may depend on it. Thanks to padding, a
resumed or incremental run gives the same bits as an undisturbed one.
"""

import importlib.util
import os
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from headstart.common.errors import InputError
from headstart.common.vocabulary import EngineName, Precision
from headstart.extraction.bottleneck import Bottleneck
from headstart.extraction.store import FeatureStore

# Present if there is a driver: NVIDIA's, Microsoft's under WSL 2, AMD's.
_GPU_NODES = ("nvidia0", "dxg", "kfd")
_OPENVINO_TYPES: dict[Precision, str] = {"float32": "FP32", "bfloat16": "BF16", "float16": "FP16"}


class Engine(Protocol):
    """A bottleneck, ready to run."""

    @property
    def batch_size(self) -> int:
        """Images per call."""

    @property
    def workers(self) -> int:
        """How many threads should call at once to keep the machine busy."""

    @property
    def feature_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shape of one image's features, per tap."""

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the libraries that decide the numbers, by distribution name."""

    def __call__(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
        """Compute one batch.

        Args:
            images: RGB in [0, 255], (batch_size, height, width, 3).

        Returns:
            Per tap (batch_size, *feature_shape). To the bit, an image's features depend neither on
            the other images of the batch nor on its place among them.
        """
        ...


def resolve(name: Literal["auto"] | EngineName, precision: Precision) -> EngineName:
    """Choose the engine, and check that it has the precision on this machine.

    "auto" is TensorFlow if it sees a GPU, else OpenVINO, else TensorFlow on the CPU.

    Raises:
        InputError: the hardware does not have the precision, or OpenVINO is not installed.
    """
    has_openvino = importlib.util.find_spec("openvino") is not None
    if name == "openvino" and not has_openvino:
        raise InputError(
            "extract.engine: openvino is not installed on this machine (`pip install openvino`); "
            "use tensorflow"
        )
    on_gpu = name != "openvino" and _has_gpu()
    engine: EngineName = "tensorflow" if on_gpu or name == "tensorflow" else "openvino"
    if not has_openvino:
        engine = "tensorflow"
    if precision == "float32" or on_gpu:
        return engine
    precisions = _cpu_precisions(engine) if has_openvino else ("float32",)
    if precision not in precisions:
        raise InputError(
            f"extract.precision: expected what this CPU computes in with {engine} "
            f"({', '.join(precisions)}), received {precision}"
        )
    return engine


def load(bottleneck: Bottleneck, store: FeatureStore) -> Engine:
    """Make a bottleneck ready to run on the engine that its identity names.

    Args:
        bottleneck: What to compute.
        store: Where converted models are kept.

    Raises:
        InputError: the weights do not fit, or a tap's layer is not a cut of the backbone.
    """
    # An engine's libraries are imported only where it runs.
    match bottleneck.taps[0].engine:
        case "tensorflow":
            from headstart.extraction.engines import tensorflow_engine

            return tensorflow_engine.load(bottleneck)
        case "openvino":
            from headstart.extraction.engines import openvino_engine

            return openvino_engine.load(bottleneck, store)


def _has_gpu() -> bool:
    """Ask TensorFlow, but only where there may be one: importing it takes seconds."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    if sys.platform == "darwin":
        try:
            distribution("tensorflow-metal")
        except PackageNotFoundError:
            return False
    elif not any(Path("/dev", node).exists() for node in _GPU_NODES):
        return False
    from headstart.common.tensorflow_runtime import tf

    return bool(tf.config.list_physical_devices("GPU"))


def _cpu_precisions(engine: EngineName) -> tuple[Precision, ...]:
    # OpenVINO knows the CPU; TensorFlow, which computes with the same oneDNN, does not say.
    from headstart.common.openvino_runtime import openvino

    capabilities = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return tuple(
        precision
        for precision, kind in _OPENVINO_TYPES.items()
        # TensorFlow's graph optimizer has no float16 on CPUs.
        if kind in capabilities and (precision != "float16" or engine == "openvino")
    )
