import json
import subprocess
import sys
from zipfile import ZipFile

import numpy as np
import onnx
import pytest

from headstart.commands.export.assembling import INPUT, OUTPUT, RESIZING
from headstart.commands.export.formats import FORMATS
from headstart.commands.export.resizing import resized
from headstart.commands.export.writers import writer_of
from headstart.common.errors import InputError
from headstart.common.openvino_runtime import openvino
from headstart.common.tensorflow_runtime import keras, tf
from headstart.common.vocabulary import Sizing

CLASSES = ["강아지", 'a, "b" | <c> & d\'s', "none"]
SIDE = 32


@pytest.fixture(scope="module")
def model():
    """A small convolutional classifier behind the real resizing."""
    layers = keras.layers
    keras.utils.set_random_seed(0)
    small = keras.Input((SIDE, SIDE, 3), dtype="uint8", name=INPUT)
    x = keras.ops.cast(small, "float32") / 255.0
    for filters in (8, 16):
        x = layers.Conv2D(filters, 3, strides=2, padding="same", activation="relu6")(x)
        x = layers.DepthwiseConv2D(3, padding="same", bias_initializer="random_normal")(x)
    x = layers.Dense(len(CLASSES), kernel_initializer=keras.initializers.RandomNormal(0, 20))(
        layers.GlobalAveragePooling2D()(x)
    )
    classifier = keras.Model(small, layers.Softmax()(x), name="classifier")
    images = keras.Input((None, None, 3), dtype="uint8", name=INPUT)
    pixels = keras.ops.cast(resized(images, Sizing((SIDE, SIDE), interpolation="bicubic")), "uint8")
    resizing = keras.Model(images, pixels, name=RESIZING)
    whole = layers.Identity(name=OUTPUT)(classifier(resizing(images)))
    return keras.Model(images, whole, name="model")


@pytest.fixture(scope="module")
def pictures(photo):
    return [photo(seed, 40 + 13 * seed, 90 - 7 * seed)[np.newaxis] for seed in range(6)]


@pytest.fixture(scope="module")
def expected(model, pictures):
    probabilities = np.concatenate([np.asarray(model(picture)) for picture in pictures])
    assert np.ptp(probabilities[:, 0]) > 0.05  # else the comparison would show nothing
    return probabilities


@pytest.fixture(scope="module")
def written(model, tmp_path_factory):
    """Write each format once."""
    folders = {}

    def get(name):
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp(name)
            writer_of(FORMATS[name]).write(model, folders[name], CLASSES, None)
        return folders[name]

    return get


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_says_the_same_of_any_size(written, name, pictures, expected):
    predict = writer_of(FORMATS[name]).load(written(name))
    said = np.concatenate([predict(picture) for picture in pictures])
    assert said.dtype == np.float32
    np.testing.assert_allclose(said, expected, atol=2e-6)


@pytest.mark.parametrize("name", FORMATS)
def test_only_what_is_named_is_left(written, name):
    kept = {path.name for path in written(name).iterdir()}
    assert kept == {FORMATS[name].file} | ({"model.bin"} if name == "openvino" else set())


def test_keras_file_loads_without_this_project(written, pictures, expected, tmp_path):
    np.save(tmp_path / "picture.npy", pictures[0])
    program = (
        "import sys, keras, numpy as np\n"
        "model = keras.saving.load_model(sys.argv[1])\n"
        "print(model.predict(np.load(sys.argv[2]), verbose=0).tolist())\n"
        "assert not [name for name in sys.modules if name.split('.')[0] == 'headstart']"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program, written("keras") / "model.keras", "picture.npy"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    said = json.loads(finished.stdout.splitlines()[-1])
    np.testing.assert_allclose(said, expected[:1], atol=2e-6)


@pytest.mark.parametrize(("name", "file"), [("keras", "model.keras"), ("litert", "model.tflite")])
def test_labels_lie_in_the_archive(written, name, file):
    with ZipFile(written(name) / file) as archive:
        assert archive.read("labels.txt").decode().splitlines() == CLASSES


def test_onnx_names_its_interface_and_its_classes(written):
    model = onnx.load(written("onnx") / "model.onnx")
    (images,), (output,) = model.graph.input, model.graph.output
    assert (images.name, output.name) == (INPUT, OUTPUT)
    dimensions = [d.dim_param or d.dim_value for d in images.type.tensor_type.shape.dim]
    assert dimensions == ["batch", "height", "width", 3]
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(metadata["class_names"]) == CLASSES


def test_openvino_names_its_classes(written):
    model = openvino.Core().read_model(written("openvino") / "model.xml")
    assert json.loads(model.get_rt_info(["class_names"]).astype(str)) == CLASSES


def test_saved_model_names_the_likeliest_class(written, pictures, expected):
    loaded = tf.saved_model.load(str(written("savedmodel") / "saved_model"))
    serve = loaded.signatures["serving_default"]
    for picture, probabilities in zip(pictures, expected, strict=True):
        (name,) = serve(**{INPUT: tf.constant(picture)})["class_name"].numpy()
        assert name.decode() == CLASSES[np.argmax(probabilities)]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, entry in FORMATS.items() if entry.int8])
def test_eight_bits_shrink_the_network_and_spare_the_resizing(
    model, name, photo, pictures, expected, tmp_path
):
    def calibration():
        for seed in range(8):
            yield photo(seed, SIDE, SIDE)[np.newaxis]

    writer = writer_of(FORMATS[name])
    writer.write(model, tmp_path, CLASSES, calibration)
    said = np.concatenate([writer.load(tmp_path)(picture) for picture in pictures])
    difference = np.abs(said - expected)
    # Eight bits show; but had they touched the positions of pixels, nothing would be left.
    assert 1e-6 < difference.max() < 0.15


@pytest.mark.parametrize("name", [name for name, entry in FORMATS.items() if not entry.int8])
def test_formats_without_eight_bits_refuse_them(model, name, tmp_path):
    with pytest.raises(ValueError, match="no 8-bit convolutions"):
        writer_of(FORMATS[name]).write(model, tmp_path, CLASSES, lambda: iter(()))


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"--format onnx: needs the Python package onnx, which"):
        writer_of(FORMATS["onnx"])
