"""OpenVINO on the CPU: one image per call, one single-threaded stream per core.

One image at a time on each core keeps its maps in that core's cache. That measured as fast as any
larger batch or faster, and makes a feature independent of all other images.
"""

from queue import SimpleQueue
from typing import Any

import numpy as np
from joblib import cpu_count
from numpy.typing import NDArray

from headstart.common.openvino_runtime import openvino
from headstart.common.vocabulary import Precision
from headstart.extraction.bottleneck import Bottleneck
from headstart.extraction.engines import openvino_models
from headstart.extraction.store import FeatureStore

_PRECISIONS: dict[Precision, str] = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}


class OpenVINOEngine:
    """See `headstart.extraction.engines.Engine`."""

    batch_size = openvino_models.BATCH_SIZE

    def __init__(self, compiled: Any, workers: int, versions: dict[str, str]) -> None:
        self.workers = workers
        self.versions = versions
        streams = [_Stream(compiled) for _ in range(workers)]
        self.feature_shapes = tuple(output.shape[1:] for output in streams[0].outputs)
        self._idle: SimpleQueue[_Stream] = SimpleQueue()
        for stream in streams:
            self._idle.put(stream)

    def __call__(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
        """Compute one batch; see `headstart.extraction.engines.Engine`."""
        stream = self._idle.get()
        try:
            return stream.run(images)
        finally:
            self._idle.put(stream)


class _Stream:
    """An inference request with its own buffers.

    They are bound once, by the thread that loads the model: two threads that make OpenVINO's
    tensors for the first time, as `infer(images)` does, can deadlock.
    """

    def __init__(self, compiled: Any) -> None:
        self._request = compiled.create_infer_request()
        self._input = np.zeros(tuple(compiled.input(0).shape), np.uint8)
        self._request.set_input_tensor(openvino.Tensor(self._input, shared_memory=True))
        names = [openvino_models.output_name(index) for index in range(len(compiled.outputs))]
        self.outputs: list[NDArray[np.float32]] = [
            self._request.get_tensor(name).data for name in names
        ]
        self.run(self._input)

    def run(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
        np.copyto(self._input, images)
        # In the calling thread: handing over to a thread of OpenVINO's and back takes 0.05 ms.
        self._request.infer(share_outputs=True)
        return tuple(output.copy() for output in self.outputs)


def load(bottleneck: Bottleneck, store: FeatureStore) -> OpenVINOEngine:
    """Load the converted model; convert it first if it is not kept yet."""
    converted = openvino_models.obtain(bottleneck, store)
    workers = cpu_count(only_physical_cores=True)
    core = openvino.Core()
    compiled = core.compile_model(
        core.read_model(converted.model),
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": _PRECISIONS[bottleneck.taps[0].precision],
            "PERFORMANCE_HINT": "THROUGHPUT",
            "NUM_STREAMS": workers,
            "INFERENCE_NUM_THREADS": workers,
        },
    )
    return OpenVINOEngine(compiled, workers, converted.versions)
