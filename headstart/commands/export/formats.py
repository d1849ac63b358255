"""The formats that a model can be exported to: who writes and runs each."""

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from headstart.common.errors import InputError

if TYPE_CHECKING:
    from headstart.commands.export.assembling import Parts

Predict = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""From (1, H, W, 3) uint8, RGB in [0, 255], to probabilities (1, n_classes)."""

Calibration = Callable[[], Iterator[NDArray[np.uint8]]]
"""Gives (1, H, W, 3) uint8 training images, from the first again at every call."""

LABELS_FILE = "labels.txt"


class Writer(Protocol):
    """A module that knows one format."""

    def write(
        self,
        parts: "Parts",
        folder: Path,
        class_names: Sequence[str],
        calibration: Calibration | None,
    ) -> None:
        """Write the model into an empty folder.

        Args:
            parts: The model.
            folder: Where to.
            class_names: One per output, to be kept within the file where the format can.
            calibration: Images to measure activations on; if given, the network's weights and
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
        module: Its `Writer`.
        file: What the runtime is pointed to, within the export's folder.
        packages: Python packages needed besides the project's own.
        int8: Whether it has 8-bit integers.
        library: What model hubs call the library that loads it.
        example: How to load it and classify `images`, in Python.
    """

    name: str
    module: str
    file: str
    packages: tuple[str, ...]
    int8: bool
    library: str
    example: str

    def writer(self) -> Writer:
        """Import the module.

        Raises:
            InputError: a package is missing.
        """
        for package in self.packages:
            if importlib.util.find_spec(package) is None:
                raise InputError(
                    f"--format {self.name}: needs the Python package {package}, which is not "
                    "installed; run `pip install 'headstart[export]'`"
                )
        return cast(Writer, importlib.import_module(f"headstart.commands.export.{self.module}"))


FORMATS = {
    entry.name: entry
    for entry in (
        Format(
            name="keras",
            module="keras_file",
            file="model.keras",
            packages=(),
            int8=False,
            library="keras",
            example="""import keras

model = keras.saving.load_model("model.keras")
probabilities = model.predict(images)""",
        ),
        Format(
            name="savedmodel",
            module="saved_model",
            file="saved_model",
            packages=(),
            int8=False,
            library="tensorflow",
            example="""import tensorflow as tf

model = tf.saved_model.load("saved_model")
probabilities = model.signatures["serving_default"](images=tf.constant(images))["probabilities"]
# Straight from JPEG files, which may differ in size; their orientation is applied.
files = tf.constant([open("photo.jpg", "rb").read()])
answer = model.signatures["serve_jpeg"](jpeg=files)  # probabilities, class_name""",
        ),
        Format(
            name="onnx",
            module="onnx_file",
            file="model.onnx",
            packages=("onnx", "onnxruntime", "tf2onnx"),
            int8=True,
            library="onnx",
            example="""import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
(probabilities,) = session.run(["probabilities"], {"images": images})""",
        ),
        Format(
            name="openvino",
            module="openvino_file",
            file="model.xml",
            # An 8-bit model is made by way of ONNX, which `writer` cannot know.
            packages=(),
            int8=True,
            library="openvino",
            example="""import openvino

# Without the hint, OpenVINO computes in 16 bits where the processor can: faster, less exact.
hint = {"INFERENCE_PRECISION_HINT": "f32"}
model = openvino.Core().compile_model("model.xml", "CPU", hint)
probabilities = model(images)["probabilities"]""",
        ),
        Format(
            name="litert",
            module="litert_file",
            file="model.tflite",
            packages=(),
            int8=True,
            library="litert",
            example="""from ai_edge_litert.interpreter import Interpreter

model = Interpreter("model.tflite")
model.resize_tensor_input(model.get_input_details()[0]["index"], images.shape)
model.allocate_tensors()
probabilities = model.get_signature_runner()(images=images)["probabilities"]""",
        ),
    )
}
