"""Running a bottleneck: a batch of images of fixed size in, features out.

The batch has a fixed shape because a feature's last bits may depend on it. Thanks to padding, a
resumed or incremental run gives the same bits as an undisturbed one.
"""

import importlib.util
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from headstart.catalog import onnx
from headstart.common.errors import InputError
from headstart.common.hardware import has_gpu
from headstart.common.vocabulary import EngineName, Precision
from headstart.extraction.bottleneck import Bottleneck
from headstart.extraction.store import FeatureStore

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


def resolve(
    name: Literal["auto"] | EngineName, precision: Precision, backbone: str = ""
) -> EngineName:
    """Choose the engine, and check that it has the precision on this machine.

    "auto" is TensorFlow if it sees a GPU, else OpenVINO, else TensorFlow on the CPU. The network of
    an ONNX file runs on OpenVINO alone.

    Raises:
        InputError: the hardware does not have the precision, OpenVINO is not installed, or another
            one cannot run the backbone.
    """
    has_openvino = importlib.util.find_spec("openvino") is not None
    if backbone == onnx.NAME:
        if name not in ("auto", "openvino"):
            raise InputError(
                f"extract.engine: expected auto or openvino, which run backbone {onnx.NAME}; "
                f"received {name}"
            )
        name = "openvino"
    if name == "openvino" and not has_openvino:
        raise InputError(
            "extract.engine: openvino is not installed on this machine (`pip install openvino`); "
            "use tensorflow"
        )
    if name != "openvino" and has_gpu():
        return "tensorflow-gpu"
    engine: EngineName = "openvino" if has_openvino and name != "tensorflow" else "tensorflow"
    if precision == "float32":
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
        InputError: the weights do not fit, a tap's layer is not a cut of the backbone, or it names
            a GPU and there is none.
    """
    # An engine's libraries are imported only where it runs.
    match bottleneck.taps[0].engine:
        case "tensorflow":
            from headstart.extraction.engines import tensorflow_engine

            return tensorflow_engine.on_cpu(bottleneck)
        case "tensorflow-gpu":
            if not has_gpu():
                raise InputError(
                    "extract.engine: the features are of a GPU, and TensorFlow sees none here; run "
                    "`dvc repro` to compute them on this machine"
                )
            from headstart.extraction.engines import tensorflow_engine

            return tensorflow_engine.on_gpus(bottleneck, tensorflow_engine.gpus())
        case "openvino":
            from headstart.extraction.engines import openvino_engine

            return openvino_engine.load(bottleneck, store)


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
