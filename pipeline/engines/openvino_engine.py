"""OpenVINO on the CPU: one image per call, one single-threaded stream per core.

One image at a time on each core keeps its maps in that core's cache, which measured as fast as or
faster than any larger batch, and makes a feature independent of all other images.
"""

from queue import SimpleQueue
from typing import Any

import numpy as np
from joblib import cpu_count
from numpy.typing import NDArray

from pipeline.bottleneck import Bottleneck
from pipeline.engines import openvino_models
from pipeline.feature_store import FeatureStore
from pipeline.identity import Precision
from pipeline.openvino_runtime import openvino

_PRECISIONS: dict[Precision, str] = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}


class OpenVINOEngine:
    """See `pipeline.engines.Engine`."""

    batch_size = openvino_models.BATCH_SIZE

    def __init__(self, compiled: Any, workers: int, versions: dict[str, str]) -> None:
        self.workers = workers
        self.versions = versions
        names = [openvino_models.output_name(index) for index in range(len(compiled.outputs))]
        self._ports = [compiled.output(name) for name in names]
        self.feature_shapes = tuple(tuple(port.shape)[1:] for port in self._ports)
        self._idle: SimpleQueue[Any] = SimpleQueue()
        for _ in range(workers):
            self._idle.put(compiled.create_infer_request())

    def __call__(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
        """Compute one batch; see `pipeline.engines.Engine`."""
        request = self._idle.get()
        try:
            results = request.infer({0: images}, share_inputs=True)
            return tuple(np.array(results[port], np.float32) for port in self._ports)
        finally:
            self._idle.put(request)


def load(bottleneck: Bottleneck, store: FeatureStore) -> OpenVINOEngine:
    """Load the converted model, converting it first where it is not kept yet."""
    converted = openvino_models.obtain(bottleneck, store.models)
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
