"""The formats that a model can be exported to."""

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from headstart.common.errors import InputError

KerasModel = Any
"""A `keras.Model`; to name it here would import TensorFlow."""

FormatName = Literal["keras", "savedmodel", "onnx", "openvino", "litert"]

Predict = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""From (1, H, W, 3) uint8, RGB in [0, 255], to probabilities (1, n_classes)."""

Calibration = Callable[[], Iterator[NDArray[np.uint8]]]
"""Yields training images, (1, H, W, 3) uint8; each call starts again with the first."""

LABELS_FILE = "labels.txt"


class Writer(Protocol):
    """A module that writes and runs one format."""

    def write(
        self,
        model: KerasModel,
        folder: Path,
        class_names: Sequence[str],
        calibration: Calibration | None,
    ) -> None:
        """Write the model into an empty folder.

        Args:
            model: From pixels to probabilities, as `assembling.whole_model` gives it.
            folder: Where to.
            class_names: One per output; kept inside the file where the format has room for them.
            calibration: Images to measure activations on. If given, the network's weights and
                activations become 8-bit integers.
        """
        ...

    def load(self, folder: Path) -> Predict:
        """Load what `write` wrote with the format's own runtime."""
        ...


@dataclass(frozen=True, slots=True)
class Format:
    """One format.

    Attributes:
        name: As on the command line.
        file: What the runtime loads, inside the export's folder.
        packages: Python packages needed besides the project's own.
        int8: Whether it has 8-bit integers.
        library: Model hubs' name for the library that loads it.
        install: What to install to run it, as pip takes it.
        imports: What `example` imports.
        example: How to load it and get `probabilities` of `images`, in Python.
    """

    name: FormatName
    file: str
    packages: tuple[str, ...]
    int8: bool
    library: str
    install: str
    imports: str
    example: str

    def check_packages(self) -> None:
        """Check that the packages it needs are installed.

        Raises:
            InputError: one is missing.
        """
        for package in self.packages:
            if importlib.util.find_spec(package) is None:
                raise InputError(
                    f"--format {self.name}: needs the Python package {package}, which is not "
                    "installed; run `pip install 'headstart[export]'`"
                )


FORMATS: dict[FormatName, Format] = {
    entry.name: entry
    for entry in (
        Format(
            name="keras",
            file="model.keras",
            packages=(),
            int8=False,
            library="keras",
            install="keras tensorflow",
            imports="import keras",
            example="""model = keras.saving.load_model("model.keras")
probabilities = model.predict(images, verbose=0)""",
        ),
        Format(
            name="savedmodel",
            file="saved_model",
            packages=(),
            int8=False,
            library="tensorflow",
            install="tensorflow",
            imports="import tensorflow as tf",
            example="""model = tf.saved_model.load("saved_model")
answer = model.signatures["serving_default"](images=tf.constant(images))
probabilities = answer["probabilities"].numpy()""",
        ),
        Format(
            name="onnx",
            file="model.onnx",
            packages=("onnx", "onnxruntime", "tf2onnx"),
            int8=True,
            library="onnx",
            install="onnxruntime",
            imports="import onnxruntime",
            example="""session = onnxruntime.InferenceSession("model.onnx")
(probabilities,) = session.run(["probabilities"], {"images": images})""",
        ),
        Format(
            name="openvino",
            file="model.xml",
            # An 8-bit model is made by way of ONNX, whose packages are checked then.
            packages=(),
            int8=True,
            library="openvino",
            install="openvino",
            imports="import openvino",
            example="""# Without the hint it computes in 16 bits where it can: faster, less exact.
hint = {"INFERENCE_PRECISION_HINT": "f32"}
model = openvino.Core().compile_model("model.xml", "CPU", hint)
probabilities = model(images)["probabilities"]""",
        ),
        Format(
            name="litert",
            file="model.tflite",
            packages=(),
            int8=True,
            library="litert",
            install="ai-edge-litert",
            imports="from ai_edge_litert.interpreter import Interpreter",
            example="""model = Interpreter("model.tflite")
model.resize_tensor_input(model.get_input_details()[0]["index"], images.shape)
model.allocate_tensors()
probabilities = model.get_signature_runner()(images=images)["probabilities"]""",
        ),
    )
}
