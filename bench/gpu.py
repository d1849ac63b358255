"""The GPUs that scripts with `--gpu` measure, or what stands in for them in a dry run."""

import subprocess
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from headstart.extraction import engines
from headstart.extraction.bottleneck import identify
from headstart.extraction.options import ExtractOptions


class Devices(NamedTuple):
    """What is measured.

    Attributes:
        names: TensorFlow's.
        lines: Say what they are.
        stand_in: Whether they are halves of the CPU, on which no figure means anything.
    """

    names: list[str]
    lines: list[str]
    stand_in: bool


def find_devices(*, dry_run: bool) -> Devices:
    """Find all GPUs, or make stand-ins; before anything else has used TensorFlow.

    Raises:
        SystemExit: there is no GPU.
    """
    from headstart.common.tensorflow_runtime import tf
    from headstart.extraction.engines import tensorflow_engine

    if dry_run:
        (cpu,) = tf.config.list_physical_devices("CPU")
        halves = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(cpu, halves)
        # Several batches of the few images of a dry run.
        tensorflow_engine._LARGEST_GPU_BATCH_SIZE = 8
        return Devices(["CPU:0", "CPU:1"], ["Dry run on two halves of the CPU."], stand_in=True)
    names = tensorflow_engine.gpus()
    if not names:
        raise SystemExit(
            "--gpu: TensorFlow sees no GPU on this machine (it takes a driver and `pip install "
            "'headstart[gpu]'`); --gpu --dry-run runs the same code on the CPU"
        )
    build = tf.sysconfig.get_build_info()
    libraries = f"CUDA {build.get('cuda_version')}, cuDNN {build.get('cudnn_version')}"
    line = f"Devices: {_describe(len(names))}; TensorFlow {tf.__version__}, built for {libraries}."
    return Devices(names, [line], stand_in=False)


def _describe(count: int) -> str:
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, check=True, timeout=30)
        return "; ".join(answer.stdout.strip().splitlines())
    except (OSError, subprocess.SubprocessError):
        from headstart.common.tensorflow_runtime import tf

        devices = tf.config.list_physical_devices("GPU")[:count]
        details = [tf.config.experimental.get_device_details(device) for device in devices]
        return "; ".join(str(each.get("device_name", "unknown")) for each in details)


def agreement(
    engine: engines.Engine, batches: Sequence[np.ndarray], wanted: ExtractOptions
) -> tuple[float, bool]:
    """Compare an engine's features with the CPU's in float32.

    Returns:
        The largest difference as a share of the largest feature, and whether an image's features
        are the same to the bit at another place of the batch.
    """
    from headstart.extraction.engines import tensorflow_engine

    cpu = identify(wanted.model_copy(update={"precision": "float32"}), "tensorflow")
    reference = tensorflow_engine.on_cpu(cpu)
    images = np.concatenate(list(batches))
    features = np.concatenate([engine(batch)[0] for batch in batches])
    missing = -len(images) % reference.batch_size
    padded = np.concatenate([images, np.zeros_like(images, shape=(missing, *images.shape[1:]))])
    parts = np.split(padded, len(padded) // reference.batch_size)
    expected = np.concatenate([reference(part)[0] for part in parts])[: len(images)]
    difference = float(np.abs(features - expected).max() / np.abs(expected).max())
    (turned,) = engine(np.ascontiguousarray(batches[0][::-1]))
    return difference, bool(np.array_equal(turned[::-1], features[: len(turned)]))
