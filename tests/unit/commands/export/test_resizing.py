import numpy as np
import pytest
from PIL import Image

from headstart.commands.export.resizing import resized
from headstart.common.openvino_runtime import openvino
from headstart.common.tensorflow_runtime import keras, tf
from headstart.common.vocabulary import Sizing
from headstart.images.resizing import resize

# Larger, smaller, one pixel, equal, a side equal, tall, wide, and ratios whose halves tie.
SIZES = [
    (150, 200),
    (20, 30),
    (1, 1),
    (40, 56),
    (40, 90),
    (600, 20),
    (20, 600),
    (80, 112),
    (79, 57),
]


def model(sizing):
    images = keras.Input((None, None, 3), dtype="uint8")
    return keras.Model(images, resized(images, sizing))


@pytest.mark.parametrize("way", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_gives_the_pipelines_pixels_to_the_bit(way, interpolation):
    sizing = Sizing((40, 56), way, interpolation)
    graph = model(sizing)
    run = tf.function(graph, input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8)])
    rng = np.random.default_rng(0)
    for height, width in SIZES:
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        expected = resize(image, sizing)
        np.testing.assert_array_equal(run(image[np.newaxis])[0], expected, f"{height} x {width}")


def test_images_of_a_batch_do_not_mix():
    batch = np.random.default_rng(1).integers(0, 256, (3, 50, 60, 3), dtype=np.uint8)
    sizing = Sizing((24, 24), interpolation="bicubic")
    together = np.asarray(model(sizing)(batch))
    for image, row in zip(batch, together, strict=True):
        np.testing.assert_array_equal(row, resize(image, sizing))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_sixteen_bits_lose_a_level_and_not_the_picture(interpolation, photo):
    """OpenVINO computes in bfloat16 by itself where the processor can."""
    sizing = Sizing((64, 64), interpolation=interpolation)
    graph = model(sizing)
    run = tf.function(graph, input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8)])
    converted = openvino.convert_model(run.get_concrete_function())
    core = openvino.Core()
    image = photo(2, 300, 400)
    expected = resize(image, sizing).astype(float)
    for precision in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        kind = {"FP32": "f32", "BF16": "bf16", "FP16": "f16"}.get(precision)
        if kind is not None:
            compiled = core.compile_model(converted, "CPU", {"INFERENCE_PRECISION_HINT": kind})
            difference = np.abs(compiled(image[np.newaxis])[0][0] - expected)
            assert difference.mean() < (1e-3 if kind == "f32" else 1.0)
            assert difference.max() <= (1 if kind == "f32" else 8)


def test_a_large_photo_loses_nothing(photo):
    image = np.asarray(Image.fromarray(photo(3, 150, 200)).resize((2000, 1500)))
    sizing = Sizing((32, 32), interpolation="bicubic")
    run = tf.function(model(sizing))
    expected = resize(image, sizing)
    np.testing.assert_array_equal(run(image[np.newaxis])[0], expected)
