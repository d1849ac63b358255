"""TensorFlow: a compiled call with folded BatchNormalization, on the CPU or on all GPUs."""

import contextlib
import subprocess
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.catalog.spec import BackboneSpec
from headstart.catalog.weights import hub_version
from headstart.common.tensorflow_runtime import dtype_policy, keras, tf
from headstart.common.vocabulary import Precision
from headstart.extraction.bottleneck import Bottleneck
from headstart.extraction.engines.folding import fold_batch_normalization
from headstart.extraction.model import assemble, outputs_of

_CPU_BATCH_SIZE = 32
# Fills the largest GPU of today several times over; a larger batch only takes longer to gather.
_LARGEST_GPU_BATCH_SIZE = 256
# One batch is computed, one lies there ready, one is copied.
_CALLS_PER_GPU = 3
# Share of a GPU's memory for the maps of one batch; weights and the compiler need some, too.
_SHARE_FOR_MAPS = 0.25
# Memory of a small GPU in bytes, assumed without NVIDIA's tools.
_ASSUMED_GPU_MEMORY = 4 * 2**30
_GPU_POLICIES: dict[Precision, str] = {
    "float32": "float32",
    "bfloat16": "mixed_bfloat16",
    "float16": "mixed_float16",
}
_BFLOAT16_ON_CPU = "auto_mixed_precision_onednn_bfloat16"

_Run = Callable[[NDArray[np.uint8]], tuple[NDArray[np.float32], ...]]


class TensorFlowEngine:
    """See `headstart.extraction.engines.Engine`.

    Args:
        replicas: Each computes a whole batch; a call uses an idle one.
        example: A batch of the right shape.
        spec: The backbone, for the versions of what built it.
    """

    def __init__(
        self, replicas: Sequence[_Run], example: NDArray[np.uint8], spec: BackboneSpec
    ) -> None:
        self.batch_size = len(example)
        self.workers = len(replicas)
        self.versions = {name: version(name) for name in ("keras", "tensorflow")}
        if spec.network is not None:
            self.versions["keras-hub"] = hub_version()
        self._idle: SimpleQueue[_Run] = SimpleQueue()
        for run in replicas:
            # The first call compiles, and shows whether the batch fits.
            self.feature_shapes = tuple(output.shape[1:] for output in run(example))
            self._idle.put(run)

    def __call__(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
        """Compute one batch; see `headstart.extraction.engines.Engine`."""
        run = self._idle.get()
        try:
            return run(images)
        finally:
            self._idle.put(run)


def gpus() -> list[str]:
    """Return TensorFlow's names of the GPUs."""
    return [device.name for device in tf.config.list_logical_devices("GPU")]


def on_cpu(bottleneck: Bottleneck) -> TensorFlowEngine:
    """Compile for the CPU; all cores work on one batch.

    Nothing is kept for the next time: importing TensorFlow takes longer than building the model.
    XLA stays off: here it makes depthwise convolutions an order of magnitude slower.
    """
    bfloat16 = bottleneck.taps[0].precision == "bfloat16"
    # Also where there are GPUs, which would otherwise be taken.
    with tf.device("CPU:0"):
        model = assemble(bottleneck, rewrite=fold_batch_normalization)
    example = _example(bottleneck, _CPU_BATCH_SIZE)
    signature = tf.TensorSpec(example.shape, tf.uint8)
    function = tf.function(lambda x: outputs_of(model, x), input_signature=[signature])

    def run(images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
        # TensorFlow looks at its optimizer's options at every call.
        with _optimizer_option(_BFLOAT16_ON_CPU, bfloat16), tf.device("CPU:0"):
            return tuple(output.numpy() for output in function(tf.constant(images)))

    return TensorFlowEngine([run], example, bottleneck.spec)


def on_gpus(bottleneck: Bottleneck, devices: Sequence[str]) -> TensorFlowEngine:
    """Compile with XLA, a replica of the model on each GPU, with batches as large as memory allows.

    Replicas take batches as they become idle, so that unequal GPUs all stay busy. Preprocessing
    and pooling are in float32, whatever the network computes in; images travel as uint8.

    Args:
        bottleneck: What to compute.
        devices: TensorFlow's names of the GPUs.
    """
    models = []
    for device in devices:
        with tf.device(device), dtype_policy(_GPU_POLICIES[bottleneck.taps[0].precision]):
            models.append((device, assemble(bottleneck, rewrite=fold_batch_normalization)))
    batch_size = _fitting_batch_size(models[0][1])
    while True:
        example = _example(bottleneck, batch_size)
        try:
            # In turn, so that the first batches go to as many GPUs.
            replicas = [_compiled(*one, example.shape) for one in models] * _CALLS_PER_GPU
            return TensorFlowEngine(replicas, example, bottleneck.spec)
        except tf.errors.ResourceExhaustedError:
            if batch_size == 1:
                raise
            batch_size //= 2


def _compiled(device: str, model: keras.Model, shape: tuple[int, ...]) -> _Run:
    """Compile for one shape of batch, once."""
    function = tf.function(
        lambda x: outputs_of(model, x),
        input_signature=[tf.TensorSpec(shape, tf.uint8)],
        jit_compile=True,
    )

    def run(images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
        with tf.device(device):
            outputs = function(tf.constant(images))
        return tuple(output.numpy() for output in outputs)

    return run


def _example(bottleneck: Bottleneck, batch_size: int) -> NDArray[np.uint8]:
    return np.zeros((batch_size, *bottleneck.image_size, 3), np.uint8)


@contextlib.contextmanager
def _optimizer_option(name: str, value: bool) -> Iterator[None]:
    before = tf.config.optimizer.get_experimental_options().get(name, False)
    if before == value:
        yield
        return
    tf.config.optimizer.set_experimental_options({name: value})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({name: before})


def _fitting_batch_size(model: keras.Model) -> int:
    """Return a power of two of images whose maps fit a GPU, the same at every start."""
    largest = max(
        int(np.prod(output.shape[1:]))
        for operation in _flat_operations(model)
        for output in keras.tree.flatten(operation.output)
    )
    # About three maps are alive at a time (a layer's input, its output, a shortcut), in float32.
    fitting = int(_gpu_memory() * _SHARE_FOR_MAPS) // (3 * 4 * largest)
    return 1 << (max(1, min(fitting, _LARGEST_GPU_BATCH_SIZE)).bit_length() - 1)


def _flat_operations(model: keras.Model) -> Iterator[Any]:
    for operation in model.operations:
        if isinstance(operation, keras.Model):
            yield from _flat_operations(operation)
        else:
            yield operation


def _gpu_memory() -> int:
    """Return the smallest GPU's total memory in bytes; how much is free changes."""
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, check=True, timeout=30)
        return min(int(line) for line in answer.stdout.split()) * 2**20
    except (OSError, ValueError, subprocess.SubprocessError):
        return _ASSUMED_GPU_MEMORY
